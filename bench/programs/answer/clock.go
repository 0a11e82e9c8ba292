package answer

import _ "unsafe" // for go:linkname

// Now is CLOCK_MONOTONIC in nanoseconds: the same for all processes of a machine, as time.monotonic_ns() of Python.
//
//go:linkname Now runtime.nanotime
func Now() int64
