package main

import (
	"math"
	"slices"
	"sync"
	"syscall"
)

// record is what all clients saw.
type record struct {
	mutex      sync.Mutex
	answers    []exchange // without their delays
	delays     []int64
	chunks     int64
	failed     int64
	hungUp     int64
	firstError string
	last       int64 // moment in which an answer ended
}

func (r *record) add(one exchange) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.take(&one)
	r.answers = append(r.answers, one)
}

func (r *record) hangUp(one exchange) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.take(&one)
	r.hungUp++
}

func (r *record) take(one *exchange) {
	r.last = max(r.last, one.ended)
	r.chunks += int64(one.chunks)
	r.delays = append(r.delays, one.delays...)
	one.delays = nil
}

func (r *record) fail(words string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.failed++
	if r.firstError == "" {
		r.firstError = words
	}
}

type spread struct {
	Count int       `json:"count"`
	Mean  float64   `json:"mean"`
	P50   float64   `json:"p50"`
	P90   float64   `json:"p90"`
	P99   float64   `json:"p99"`
	P999  float64   `json:"p999"`
	Max   float64   `json:"max"`
	Curve []float64 `json:"curve,omitempty"`
}

// spreadOf is of nanoseconds, in milliseconds; nil of nothing.
func spreadOf(values []int64, curve bool) *spread {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	// The least value that so many percent do not exceed.
	at := func(percent float64) float64 {
		rank := int(math.Ceil(float64(len(values)) * percent / 100))
		return milliseconds(float64(values[max(rank, 1)-1]))
	}
	sum := 0.0
	for _, value := range values {
		sum += float64(value)
	}
	found := &spread{len(values), milliseconds(sum / float64(len(values))), at(50), at(90), at(99), at(99.9), at(100), nil}
	for percent := 0; curve && percent <= 100; percent++ {
		found.Curve = append(found.Curve, at(float64(percent)))
	}
	return found
}

// milliseconds of nanoseconds, to the microsecond.
func milliseconds(value float64) float64 { return math.Round(value/1e3) / 1e3 }

type step struct {
	FromS   float64 `json:"from_s"`
	Answers int     `json:"answers"`
	TotalMs *spread `json:"total_ms"`
}

type told struct {
	Answers      int     `json:"answers"`
	Failed       int64   `json:"failed"`
	FirstError   string  `json:"first_error"`
	HungUp       int64   `json:"hung_up"`
	Seconds      float64 `json:"seconds"`
	AnswersPerS  float64 `json:"answers_per_s"`
	Chunks       int64   `json:"chunks"`
	CPUSeconds   float64 `json:"cpu_s"`
	FirstMs      *spread `json:"first_ms"`
	TotalMs      *spread `json:"total_ms"`
	ChunkDelayMs *spread `json:"chunk_delay_ms"`
	Timeline     []step  `json:"timeline,omitempty"`
}

// told is all of it. Its seconds end with the last answer.
func (r *record) told(began int64, curve bool, stepNs int64) told {
	var firsts, totals []int64
	var steps [][]int64
	for _, one := range r.answers {
		firsts = append(firsts, one.first-one.asked)
		totals = append(totals, one.ended-one.asked)
		if stepNs > 0 {
			place := int((one.ended - began) / stepNs)
			for len(steps) <= place {
				steps = append(steps, nil)
			}
			steps[place] = append(steps[place], one.ended-one.asked)
		}
	}
	seconds := float64(max(r.last-began, 1e3)) / 1e9
	all := told{
		Answers: len(r.answers), Failed: r.failed, FirstError: r.firstError, HungUp: r.hungUp, Chunks: r.chunks,
		Seconds: seconds, AnswersPerS: float64(len(r.answers)) / seconds, CPUSeconds: ownCPU(),
		FirstMs: spreadOf(firsts, curve), TotalMs: spreadOf(totals, curve), ChunkDelayMs: spreadOf(r.delays, curve),
	}
	for place, values := range steps {
		all.Timeline = append(all.Timeline, step{float64(int64(place)*stepNs) / 1e9, len(values), spreadOf(values, false)})
	}
	return all
}

func ownCPU() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}
