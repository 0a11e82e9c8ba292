// A provider that costs next to nothing: answers from memory, whole or as a stream of `max_tokens` chunks, each of them
// a write of its own. It prints its address as its first line, and ends with its standard input.
//
// With "paced" in a request, a millisecond passes between two chunks.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	head      = `{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",`
	wholeHead = `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench",`
	tail      = `,"usage":null,"system_fingerprint":"fp_bench"}`
	pace      = time.Millisecond
)

type ask struct {
	Stream    bool `json:"stream"`
	MaxTokens int  `json:"max_tokens"`
}

func usage(tokens int) string {
	return fmt.Sprintf(`"usage":{"prompt_tokens":100,"completion_tokens":%d,"total_tokens":%d}`, tokens, 100+tokens)
}

func whole(tokens int) []byte {
	var text bytes.Buffer
	for i := 0; i < tokens; i++ {
		fmt.Fprintf(&text, "token-%04d ", i)
	}
	return []byte(fmt.Sprintf(
		`%s"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],%s}`,
		wholeHead, text.String(), usage(tokens)))
}

func events(tokens int) [][]byte {
	event := func(data string) []byte { return []byte("data: " + data + "\n\n") }
	choice := func(delta, finish string) []byte {
		return event(head + `"choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}]` + tail)
	}
	all := [][]byte{choice(`{"role":"assistant","content":""}`, "null")}
	for i := 0; i < tokens; i++ {
		all = append(all, choice(fmt.Sprintf(`{"content":"token-%04d "}`, i), "null"))
	}
	all = append(all, choice(`{}`, `"stop"`), event(head+`"choices":[],`+usage(tokens)+`}`))
	return append(all, []byte("data: [DONE]\n\n"))
}

func answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var a ask
	if err := json.Unmarshal(body, &a); err != nil || a.MaxTokens < 1 || a.MaxTokens > 100000 {
		http.Error(w, `{"error":{"message":"max_tokens is wanted","type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	if !a.Stream {
		w.Header().Set("content-type", "application/json")
		w.Write(wholes.of(a.MaxTokens, func(n int) [][]byte { return [][]byte{whole(n)} })[0])
		return
	}
	w.Header().Set("content-type", "text/event-stream")
	paced := bytes.Contains(body, []byte("paced"))
	flusher := w.(http.Flusher)
	for _, event := range streams.of(a.MaxTokens, events) {
		w.Write(event)
		flusher.Flush()
		if paced {
			time.Sleep(pace)
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}
