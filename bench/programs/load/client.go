package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"bench/answer"
)

const (
	// Servers close connections that rest; a client of ours never uses one that might just be closed.
	idleMax        = 2 * time.Second
	slowBytes      = 4096  // at once
	slowReceive    = 65536 // bytes of the kernel's, so that the server notices soon that nobody reads
	errorWordsMax  = 400
	failedPause    = 20 * time.Millisecond
	bytesOfAReader = 4096
)

var errHungUp = errors.New("hung up as wished")

// client is one connection that asks one request at a time.
type client struct {
	plan   plan
	url    *url.URL
	head   string
	conn   net.Conn
	reader *bufio.Reader
	rested int64
}

func newClient(p plan, number int) *client {
	to := p.urls[number%len(p.urls)]
	head := fmt.Sprintf("POST %s/v1/chat/completions HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n", to.Path, to.Host)
	if p.key != "" {
		head += "authorization: Bearer " + p.key + "\r\n"
	}
	return &client{plan: p, url: to, head: head}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) connect() error {
	if c.conn != nil && answer.Now()-c.rested < idleMax.Nanoseconds() {
		return nil
	}
	c.close()
	conn, err := net.DialTimeout("tcp", c.url.Host, c.plan.timeout)
	if err != nil {
		return err
	}
	c.conn = conn
	from := io.Reader(conn)
	if c.plan.readRate > 0 {
		_ = conn.(*net.TCPConn).SetReadBuffer(slowReceive)
		from = &slowly{conn, c.plan.readRate, time.Now()}
	}
	c.reader = bufio.NewReaderSize(from, bytesOfAReader)
	return nil
}

// slowly reads no more than so many bytes per second.
type slowly struct {
	from io.Reader
	rate int
	due  time.Time
}

func (s *slowly) Read(to []byte) (int, error) {
	time.Sleep(time.Until(s.due))
	count, err := s.from.Read(to[:min(len(to), slowBytes)])
	if now := time.Now(); s.due.Before(now) {
		s.due = now
	}
	s.due = s.due.Add(time.Duration(count) * time.Second / time.Duration(s.rate))
	return count, err
}

// ask sends a request and reads its answer. Its times count from the moment asked.
func (c *client) ask(body []byte, asked int64, seen *record) {
	one := exchange{asked: asked}
	err := c.exchanged(body, &one)
	c.rested = answer.Now()
	one.ended = c.rested
	switch {
	case errors.Is(err, errHungUp):
		c.close()
		seen.hangUp(one)
	case err != nil:
		c.close()
		seen.fail(err.Error())
		time.Sleep(failedPause) // a server that refuses everything is not asked as fast as it refuses
	default:
		seen.add(one)
	}
}

func (c *client) exchanged(body []byte, one *exchange) error {
	if err := c.connect(); err != nil {
		return err
	}
	limit := c.plan.timeout + time.Duration(c.plan.wish.Chunks)*c.plan.wish.Pace
	if err := c.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := c.conn.Write(append(fmt.Appendf(nil, "%scontent-length: %d\r\n\r\n", c.head, len(body)), body...)); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode != http.StatusOK:
		words, _ := io.ReadAll(io.LimitReader(response.Body, errorWordsMax))
		return fmt.Errorf("status %d: %s", response.StatusCode, words)
	case c.plan.stream:
		err = readStream(response.Body, c.plan, one)
	default:
		err = readWhole(response.Body, c.plan, one)
	}
	if err == nil && response.Close {
		c.close()
	}
	return err
}
