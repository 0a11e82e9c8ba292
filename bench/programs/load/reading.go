package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"bench/answer"
)

// exchange is one request and what came of it, in nanoseconds of answer.Now.
type exchange struct {
	asked, first, ended int64
	chunks              int
	delays              []int64
}

var (
	contentName = []byte(`"content"`)
	finishName  = []byte(`"finish_reason"`)
	errorName   = []byte(`"error"`)
	dataName    = []byte("data:")
	doneWord    = []byte("[DONE]")
)

// readWhole reads a whole answer. All its tokens must be there, in order and once, and a reason why it ended.
func readWhole(body io.Reader, p plan, one *exchange) error {
	var first [1]byte
	if _, err := io.ReadFull(body, first[:]); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	one.first = answer.Now()
	rest, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if err := one.take(text(value(rest, contentName)), false); err != nil {
		return err
	}
	if one.chunks != p.wish.Chunks {
		return fmt.Errorf("%d tokens instead of %d: %s", one.chunks, p.wish.Chunks, shown(rest))
	}
	if len(text(value(rest, finishName))) == 0 {
		return fmt.Errorf("no finish_reason")
	}
	return nil
}

// readStream reads events until the stream's end. All chunks must be there, in order and once, then a reason why it ended,
// and [DONE] once, as the last.
func readStream(body io.Reader, p plan, one *exchange) error {
	reader := bufio.NewReaderSize(body, bytesOfAReader)
	finished, done := false, false
	for {
		line, err := wholeLine(reader)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("the stream broke off after %d chunks: %w", one.chunks, err)
		}
		data, found := bytes.CutPrefix(line, dataName)
		if !found { // a comment, the name of an event, or the end of one
			continue
		}
		data = bytes.TrimSpace(data)
		switch {
		case done:
			return fmt.Errorf("after [DONE] came: %s", shown(data))
		case bytes.Equal(data, doneWord):
			done = true
			continue
		}
		if err := one.take(text(value(data, contentName)), p.wish.Stamped); err != nil {
			return err
		}
		finished = finished || len(text(value(data, finishName))) > 0
		if bytes.Contains(data, errorName) {
			return fmt.Errorf("an error after %d chunks: %s", one.chunks, shown(data))
		}
		if p.hangUpAfter > 0 && one.chunks >= p.hangUpAfter {
			return errHungUp
		}
	}
	switch {
	case one.chunks != p.wish.Chunks:
		return fmt.Errorf("%d chunks instead of %d", one.chunks, p.wish.Chunks)
	case !finished:
		return fmt.Errorf("no finish_reason")
	case !done:
		return fmt.Errorf("no [DONE]")
	}
	return nil
}

// take counts the tokens of a text, which must be the next ones.
func (e *exchange) take(content []byte, stamped bool) error {
	for len(content) > 0 {
		number, stamp, rest, ok := answer.Token(content)
		if !ok {
			return fmt.Errorf("no token: %s", shown(content))
		}
		if number != e.chunks {
			return fmt.Errorf("token %d came where %d was due", number, e.chunks)
		}
		now := answer.Now()
		if e.first == 0 {
			e.first = now
		}
		if stamped {
			if stamp == 0 {
				return fmt.Errorf("token %d has no stamp", number)
			}
			e.delays = append(e.delays, now-stamp)
		}
		e.chunks++
		content = rest
	}
	return nil
}

// value is what follows a name in JSON that has no such name within its texts; nil without it.
func value(data, name []byte) []byte {
	_, rest, found := bytes.Cut(data, name)
	if !found {
		return nil
	}
	return bytes.TrimLeft(rest, " :")
}

// text is the string with which a value begins; nil if it is none. Our tokens need no escapes.
func text(value []byte) []byte {
	if len(value) == 0 || value[0] != '"' {
		return nil
	}
	content, _, _ := bytes.Cut(value[1:], []byte(`"`))
	return content
}

// wholeLine is the next line, however long. It is good until the next call.
func wholeLine(reader *bufio.Reader) ([]byte, error) {
	line, err := reader.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	long := append([]byte(nil), line...)
	for err == bufio.ErrBufferFull {
		line, err = reader.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

func shown(words []byte) string { return string(words[:min(len(words), errorWordsMax)]) }
