// Package answer says what is asked of the provider and what its answers look like: its chunks are numbered, so that
// whoever reads them knows which are lost, doubled or out of order, and may carry the moment in which they were sent.
package answer

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Wish is how a request wants to be answered. It stands in the prompt as "[bench chunks=50 pace_us=20000]", for a
// prompt is what every gateway passes on unchanged.
type Wish struct {
	Chunks  int           // of a stream; a whole answer has as many tokens
	Pace    time.Duration // between two chunks; 0: all in one write
	Stamped bool          // each chunk carries the moment of its sending
	Bytes   int           // of each chunk's text, at least
	Drop    int           // the chunk of this number is left out; -1: none
	Double  int           // the chunk of this number comes twice; -1: none
	Cut     int           // the connection ends before this chunk; -1: none
}

var begin = []byte("[bench ")

// String is the wish as it stands in a prompt.
func (w Wish) String() string {
	words := fmt.Sprintf("[bench chunks=%d pace_us=%d", w.Chunks, w.Pace.Microseconds())
	for _, word := range []struct {
		name  string
		value int
		shown bool
	}{{"stamped", 1, w.Stamped}, {"bytes", w.Bytes, w.Bytes > 0}, {"drop", w.Drop, w.Drop >= 0},
		{"double", w.Double, w.Double >= 0}, {"cut", w.Cut, w.Cut >= 0}} {
		if word.shown {
			words += fmt.Sprintf(" %s=%d", word.name, word.value)
		}
	}
	return words + "]"
}

// Plain is a wish for so many chunks at once, and nothing else.
func Plain(chunks int) Wish { return Wish{Chunks: chunks, Drop: -1, Double: -1, Cut: -1} }

// Find is the wish within a request's body, if there is one.
func Find(body []byte) (Wish, bool) {
	_, rest, found := bytes.Cut(body, begin)
	words, _, ended := bytes.Cut(rest, []byte("]"))
	if !found || !ended {
		return Wish{}, false
	}
	wish := Plain(0)
	for _, word := range strings.Fields(string(words)) {
		name, text, _ := strings.Cut(word, "=")
		value, err := strconv.Atoi(text)
		if err != nil {
			return Wish{}, false
		}
		switch name {
		case "chunks":
			wish.Chunks = value
		case "pace_us":
			wish.Pace = time.Duration(value) * time.Microsecond
		case "stamped":
			wish.Stamped = value > 0
		case "bytes":
			wish.Bytes = value
		case "drop":
			wish.Drop = value
		case "double":
			wish.Double = value
		case "cut":
			wish.Cut = value
		}
	}
	return wish, wish.Chunks > 0
}

// AppendToken appends a chunk's text: "token-0007 ", or "token-0007@123456789 " with the nanosecond of its sending, filled
// up with dots to so many bytes.
func AppendToken(to []byte, number int, stamp int64, size int) []byte {
	began := len(to)
	to = fmt.Appendf(to, "token-%04d", number)
	if stamp > 0 {
		to = strconv.AppendInt(append(to, '@'), stamp, 10)
	}
	for len(to)-began < size-1 {
		to = append(to, '.')
	}
	return append(to, ' ')
}

// Token is the first of a text: its number, its stamp (0 without one), and the text after it.
func Token(text []byte) (number int, stamp int64, rest []byte, ok bool) {
	word, rest, ended := bytes.Cut(text, []byte(" "))
	word, named := bytes.CutPrefix(word, []byte("token-"))
	if !ended || !named {
		return 0, 0, nil, false
	}
	word, _, _ = bytes.Cut(word, []byte("."))
	digits, moment, stamped := bytes.Cut(word, []byte("@"))
	number, err := strconv.Atoi(string(digits))
	if err == nil && stamped {
		stamp, err = strconv.ParseInt(string(moment), 10, 64)
	}
	return number, stamp, rest, err == nil
}
