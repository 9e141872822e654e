//go:build faults

package fault

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// passed counts how often the point of FAULTS_POINT was passed.
var passed atomic.Int64

// Point kills this process without warning when it is the point of FAULTS_POINT
// and is passed for the nth time.
func Point(name string) {
	point, nth, _ := strings.Cut(os.Getenv("FAULTS_POINT"), ":")
	if name != point {
		return
	}
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil || passed.Add(1) < n {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // nothing happens between the signal and the end
}

// Off reports whether FAULTS_OFF leaves a mechanism out.
func Off(mechanism string) bool {
	for off := range strings.SplitSeq(os.Getenv("FAULTS_OFF"), ",") {
		if off == mechanism {
			return true
		}
	}
	return false
}
