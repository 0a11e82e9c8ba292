// A provider that costs next to nothing: answers from memory, whole or as a stream, as the request's prompt asks
// (package answer), or else in max_tokens chunks at once. It prints its address as its first line, and ends with its
// standard input.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"bench/answer"
)

const (
	chunksMax    = 1000000
	head         = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
	refusal      = `{"error":{"message":"%s","type":"invalid_request_error"}}`
	endOfChunked = "0\r\n\r\n"
)

type ask struct {
	Stream        bool `json:"stream"`
	MaxTokens     int  `json:"max_tokens"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// serve answers the requests of one connection, one after the other.
func serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil || answerTo(conn, request, body) != nil || request.Close {
			return
		}
	}
}

func answerTo(conn net.Conn, request *http.Request, body []byte) error {
	if request.Method != http.MethodPost {
		return whole(conn, 200, []byte(`{"object":"list","data":[{"id":"bench","object":"model"}]}`))
	}
	var a ask
	if err := json.Unmarshal(body, &a); err != nil {
		return whole(conn, 400, []byte(fmt.Sprintf(refusal, "no JSON")))
	}
	wish, found := answer.Find(body)
	if !found {
		wish = answer.Plain(a.MaxTokens)
	}
	if wish.Chunks < 1 || wish.Chunks > chunksMax {
		return whole(conn, 400, []byte(fmt.Sprintf(refusal, "max_tokens is wanted")))
	}
	switch {
	case !a.Stream:
		return wholeAnswer(conn, wish)
	case wish.Pace > 0:
		return paced(conn, wish, a.StreamOptions.IncludeUsage)
	default:
		return burst(conn, wish, a.StreamOptions.IncludeUsage)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where it listens; port 0 takes a free one")
	flag.Parse()
	answer.RaiseFileLimit()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Print(err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(conn)
	}
}
