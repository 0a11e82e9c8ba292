package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// questions are the bodies of all requests, made before the first one is sent. They take turns.
type questions struct {
	bodies [][]byte
	made   int64
}

func newQuestions(p plan) *questions {
	all := &questions{}
	for turn := 0; turn < p.models*len(p.promptBytes); turn++ {
		name := p.model
		if strings.Contains(name, "%d") {
			name = fmt.Sprintf(name, turn%p.models)
		}
		all.bodies = append(all.bodies, body(p, name, p.promptBytes[turn/p.models]))
	}
	all.made = int64(len(all.bodies))
	return all
}

func (q *questions) of(turn int64) []byte { return q.bodies[turn%q.made] }

func body(p plan, model string, size int) []byte {
	prompt := p.wish.String()
	if missing := size - len(prompt); missing > 0 {
		prompt += strings.Repeat(" word", missing/len(" word")+1)[:missing]
	}
	asked := map[string]any{
		"model":      model,
		"messages":   []map[string]string{{"role": "user", "content": prompt}},
		"max_tokens": p.wish.Chunks,
	}
	if p.stream {
		asked["stream"] = true
		if p.usage {
			asked["stream_options"] = map[string]bool{"include_usage": true}
		}
	}
	encoded, err := json.Marshal(asked)
	refuse(err != nil, "the request cannot be written as JSON")
	return encoded
}
