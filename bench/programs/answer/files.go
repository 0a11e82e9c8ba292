package answer

import "syscall"

const filesMax = 1 << 17

// RaiseFileLimit allows this process as many open files as it may have: thousands of connections need it.
func RaiseFileLimit() {
	limit := syscall.Rlimit{Cur: filesMax, Max: filesMax}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		return
	}
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
