//go:build !faults

package fault

// Point does nothing in this build.
func Point(string) {}

// Off reports whether a mechanism is left out: in this build none is.
func Off(string) bool { return false }
