// A load generator that costs little: it asks a server with OpenAI's API, checks every chunk of every answer by its
// number, and prints what it saw as JSON. --help tells its flags.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"bench/answer"
)

const explanation = `Usage: load --url http://127.0.0.1:8081 [flags]

Asks /v1/chat/completions and prints JSON. Closed loop: each of --clients asks again when it was answered. Open
loop: --rate requests begin in each second at fixed moments, and latency counts from the planned one. It ends after
--seconds, or after --requests; what is under way is waited for. The wishes (--chunks, --pace-ms, --stamped,
--chunk-bytes, --fault) stand in the prompt, for the provider of bench/programs/upstream.

Printed: answers (complete ones), failed and first_error, hung_up, seconds, answers_per_s, chunks, cpu_s (of this
process), and as ms mean, p50, p90, p99, p999, max and, with --curve, values at 0, 1, ... 100 percent of
  first_ms        from the asking to a stream's first token, or to the first byte of a whole answer
  total_ms        to the end of the answer
  chunk_delay_ms  from the upstream's sending of a chunk to its arrival here (--stamped, same machine)
and with --timeline-ms the answers by the time of their end. Exit code 0 even if answers failed: failed tells it.

`

type plan struct {
	urls        []*url.URL
	key         string
	model       string
	models      int
	clients     int
	rate        float64
	inFlightMax int
	time        time.Duration
	requests    int64
	ramp        time.Duration
	timeout     time.Duration
	stream      bool
	usage       bool
	wish        answer.Wish
	promptBytes []int
	readRate    int
	hangUpAfter int
}

func flags() (plan, *bool, *int) {
	p := plan{wish: answer.Plain(0)}
	var urls, sizes, fault string
	var seconds, ramp, timeout, pace float64
	flag.StringVar(&urls, "url", "", "base URLs without /v1, by commas; requests take turns among them")
	flag.StringVar(&p.key, "key", "", "API key, if one is wanted")
	flag.StringVar(&p.model, "model", "bench", "model; %d in it counts through --models")
	flag.IntVar(&p.models, "models", 1, "how many models take turns where --model has %d: 0, 1, ...")
	flag.IntVar(&p.clients, "clients", 1, "closed loop: connections that ask, one request at a time each")
	flag.Float64Var(&p.rate, "rate", 0, "open loop: requests per second (0: closed loop)")
	flag.IntVar(&p.inFlightMax, "in-flight-max", 20000, "open loop: a request beyond so many open ones has failed")
	flag.Float64Var(&seconds, "seconds", 0, "how long new requests are begun (0: until --requests)")
	flag.Int64Var(&p.requests, "requests", 0, "how many requests are begun (0: until --seconds)")
	flag.Float64Var(&ramp, "ramp-s", 0, "closed loop: the clients begin spread over so many seconds")
	flag.Float64Var(&timeout, "timeout-s", 60, "an answer that takes longer has failed, pacing not counted")
	flag.BoolVar(&p.stream, "stream", false, "ask for streams instead of whole answers")
	flag.BoolVar(&p.usage, "usage", false, "ask for a stream's usage (stream_options.include_usage)")
	flag.IntVar(&p.wish.Chunks, "chunks", 50, "chunks of a stream, tokens of a whole answer")
	flag.Float64Var(&pace, "pace-ms", 0, "milliseconds between two chunks; 0: all at once. A whole answer takes as long as its stream")
	flag.BoolVar(&p.wish.Stamped, "stamped", false, "the upstream stamps each chunk with the time of its sending")
	flag.IntVar(&p.wish.Bytes, "chunk-bytes", 0, "least bytes of each chunk's text")
	flag.StringVar(&sizes, "prompt-bytes", "400", "bytes of the prompt, or several by commas, which take turns")
	flag.IntVar(&p.readRate, "read-bytes-per-s", 0, "slow readers: each client reads only so many bytes per second (0: at once)")
	flag.IntVar(&p.hangUpAfter, "hang-up-after", 0, "clients hang up after so many chunks (0: never)")
	flag.StringVar(&fault, "fault", "", "a fault of the upstream, to test this program: drop=7, double=7 or cut=7")
	curve := flag.Bool("curve", false, "print values at 0, 1, ... 100 percent, for plots")
	timeline := flag.Int("timeline-ms", 0, "print the answers by the time of their end, in steps of so many milliseconds")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), explanation)
		flag.PrintDefaults()
	}
	flag.Parse()
	for _, each := range strings.Split(urls, ",") {
		parsed, err := url.Parse(each)
		refuse(err != nil || parsed.Scheme != "http" || parsed.Port() == "", "--url wants http://host:port")
		p.urls = append(p.urls, parsed)
	}
	for _, each := range strings.Split(sizes, ",") {
		size, err := strconv.Atoi(each)
		refuse(err != nil, "--prompt-bytes wants numbers")
		p.promptBytes = append(p.promptBytes, size)
	}
	if fault != "" {
		name, text, _ := strings.Cut(fault, "=")
		number, err := strconv.Atoi(text)
		places := map[string]*int{"drop": &p.wish.Drop, "double": &p.wish.Double, "cut": &p.wish.Cut}
		refuse(err != nil || places[name] == nil, "--fault wants drop=, double= or cut= and a chunk's number")
		*places[name] = number
	}
	refuse(seconds <= 0 && p.requests <= 0, "--seconds or --requests is wanted")
	refuse(p.clients < 1 || p.models < 1 || p.wish.Chunks < 1, "--clients, --models and --chunks want 1 or more")
	refuse(flag.NArg() > 0, "unknown: "+strings.Join(flag.Args(), " "))
	p.wish.Pace = duration(pace / 1e3)
	p.time, p.ramp, p.timeout = duration(seconds), duration(ramp), duration(timeout)
	return p, curve, timeline
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func refuse(wrong bool, sentence string) {
	if wrong {
		fmt.Fprintln(os.Stderr, "load: "+sentence)
		os.Exit(2)
	}
}

func main() {
	plan, curve, timeline := flags()
	answer.RaiseFileLimit()
	seen := &record{}
	began := answer.Now()
	if plan.rate > 0 {
		openLoop(plan, seen)
	} else {
		closedLoop(plan, seen)
	}
	out := json.NewEncoder(os.Stdout)
	refuse(out.Encode(seen.told(began, *curve, int64(*timeline)*1e6)) != nil, "standard output is closed")
}
