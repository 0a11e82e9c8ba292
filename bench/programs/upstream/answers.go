package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"bench/answer"
)

const (
	common    = `{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",`
	wholeHead = `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench",`
	delta     = common + `"choices":[{"index":0,"delta":{"content":"`
	deltaEnd  = `"},"logprobs":null,"finish_reason":null}],"usage":null,"system_fingerprint":"fp_bench"}`
	role      = common + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],` +
		`"usage":null,"system_fingerprint":"fp_bench"}`
	finish = common + `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,"system_fingerprint":"fp_bench"}`
)

var errCut = errors.New("cut off as wished")

// prepared keeps unstamped answers, for making them costs more than sending them.
var prepared sync.Map

type key struct {
	wish   answer.Wish
	stream bool
	usage  bool
}

func of(k key, make_ func() []byte) []byte {
	if found, ok := prepared.Load(k); ok {
		return found.([]byte)
	}
	made := make_()
	prepared.Store(k, made)
	return made
}

func usage(tokens int) string {
	return fmt.Sprintf(`"usage":{"prompt_tokens":100,"completion_tokens":%d,"total_tokens":%d}`, tokens, 100+tokens)
}

func whole(conn net.Conn, status int, body []byte) error {
	_, err := conn.Write(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(body), body))
	return err
}

func wholeAnswer(conn net.Conn, wish answer.Wish) error {
	body := of(key{wish, false, false}, func() []byte {
		body := append([]byte(wholeHead), `"choices":[{"index":0,"message":{"role":"assistant","content":"`...)
		for number := 0; number < wish.Chunks; number++ {
			body = tokens(body, wish, number, 0)
		}
		return append(body, `"},"logprobs":null,"finish_reason":"stop"}],`+usage(wish.Chunks)+`}`...)
	})
	time.Sleep(time.Duration(wish.Chunks) * wish.Pace)
	return whole(conn, 200, body)
}

// tokens appends a token: none if it is to be dropped, two if it is to be doubled.
func tokens(to []byte, wish answer.Wish, number int, stamp int64) []byte {
	if number == wish.Drop {
		return to
	}
	to = answer.AppendToken(to, number, stamp, wish.Bytes)
	if number == wish.Double {
		to = answer.AppendToken(to, number, stamp, wish.Bytes)
	}
	return to
}

// event is data as a server-sent event, in an HTTP chunk of its own as from a provider that writes token by token.
func event(to []byte, data string) []byte {
	return fmt.Appendf(to, "%x\r\ndata: %s\n\n\r\n", len(data)+8, data)
}

func chunk(to []byte, wish answer.Wish, number int) []byte {
	var stamp int64
	if wish.Stamped {
		stamp = answer.Now()
	}
	return event(to, delta+string(tokens(nil, wish, number, stamp))+deltaEnd)
}

func end(to []byte, wish answer.Wish, withUsage bool) []byte {
	to = event(to, finish)
	if withUsage {
		to = event(to, common+`"choices":[],`+usage(wish.Chunks)+`}`)
	}
	return append(event(to, "[DONE]"), endOfChunked...)
}

// chunks are all until the end, or until the one before which it is to be cut off.
func chunks(to []byte, wish answer.Wish, withUsage bool) []byte {
	to = event(append(to, head...), role)
	for number := 0; number < wish.Chunks; number++ {
		if number == wish.Cut {
			return to
		}
		to = chunk(to, wish, number)
	}
	return end(to, wish, withUsage)
}

// burst sends everything in one write.
func burst(conn net.Conn, wish answer.Wish, withUsage bool) error {
	var all []byte
	if wish.Stamped {
		all = chunks(nil, wish, withUsage)
	} else {
		all = of(key{wish, true, withUsage}, func() []byte { return chunks(nil, wish, withUsage) })
	}
	_, err := conn.Write(all)
	if wish.Cut >= 0 {
		return errCut
	}
	return err
}

// paced sends each chunk when it is due, reckoned from the beginning, so that late ones do not add up.
func paced(conn net.Conn, wish answer.Wish, withUsage bool) error {
	began := time.Now()
	buffer := event([]byte(head), role)
	for number := 0; number < wish.Chunks; number++ {
		time.Sleep(time.Until(began.Add(time.Duration(number) * wish.Pace)))
		if number == wish.Cut {
			return errCut
		}
		buffer = chunk(buffer, wish, number)
		if _, err := conn.Write(buffer); err != nil {
			return err
		}
		buffer = buffer[:0]
	}
	_, err := conn.Write(end(buffer, wish, withUsage))
	return err
}
