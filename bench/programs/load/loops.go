package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bench/answer"
)

// turns hands out the numbers of requests until all are begun or the time is over.
type turns struct {
	next  atomic.Int64
	most  int64
	until int64
}

func newTurns(p plan) *turns {
	t := &turns{most: p.requests}
	if p.time > 0 {
		t.until = answer.Now() + p.time.Nanoseconds()
	}
	return t
}

func (t *turns) take() (int64, bool) {
	if t.until > 0 && answer.Now() >= t.until {
		return 0, false
	}
	number := t.next.Add(1) - 1
	return number, t.most == 0 || number < t.most
}

// closedLoop lets each client ask again as soon as it was answered.
func closedLoop(p plan, seen *record) {
	questions := newQuestions(p)
	turns := newTurns(p)
	var all sync.WaitGroup
	for number := 0; number < p.clients; number++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			time.Sleep(p.ramp * time.Duration(number) / time.Duration(p.clients))
			client := newClient(p, number)
			defer client.close()
			for {
				turn, more := turns.take()
				if !more {
					return
				}
				client.ask(questions.of(turn), answer.Now(), seen)
			}
		}(number)
	}
	all.Wait()
}

// openLoop begins requests at fixed moments, whatever became of those before. Each takes an idle client, the one that
// rested least, or a new one.
func openLoop(p plan, seen *record) {
	runtime.LockOSThread() // its sleep is finer than a timer's
	questions := newQuestions(p)
	turns := newTurns(p)
	idle := make([][]*client, len(p.urls))
	var mutex sync.Mutex
	var all sync.WaitGroup
	inFlight := 0
	began := answer.Now()
	for {
		turn, more := turns.take()
		planned := began + int64(float64(turn)/p.rate*1e9)
		if !more || turns.until > 0 && planned >= turns.until {
			break
		}
		sleepUntil(planned)
		place := int(turn) % len(p.urls)
		mutex.Lock()
		if inFlight >= p.inFlightMax {
			mutex.Unlock()
			seen.fail("more requests were open than --in-flight-max")
			continue
		}
		inFlight++
		var one *client
		if count := len(idle[place]); count > 0 {
			one, idle[place] = idle[place][count-1], idle[place][:count-1]
		} else {
			one = newClient(p, place)
		}
		mutex.Unlock()
		all.Add(1)
		go func() {
			defer all.Done()
			one.ask(questions.of(turn), planned, seen)
			mutex.Lock()
			idle[place] = append(idle[place], one)
			inFlight--
			mutex.Unlock()
		}()
	}
	all.Wait()
}

func sleepUntil(moment int64) {
	for left := moment - answer.Now(); left > 0; left = moment - answer.Now() {
		pause := syscall.NsecToTimespec(left)
		_ = syscall.Nanosleep(&pause, nil)
	}
}
