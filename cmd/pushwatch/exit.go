package main

import (
	"errors"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
)

// The exit codes, from sysexits.h where it has one.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitService = 69 // EX_UNAVAILABLE
	exitConfig  = 78 // EX_CONFIG
)

// serviceError says which service could not be reached.
type serviceError struct {
	service string
	err     error
}

func (e *serviceError) Error() string { return e.service + ": " + e.err.Error() }
func (e *serviceError) Unwrap() error { return e.err }

// configError is a configuration that cannot work.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitCode returns the code with which the program ends for err.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case as[*usageError](err):
		return exitUsage
	case as[*configError](err), as[*store.SetupError](err), as[*publisher.MismatchError](err):
		return exitConfig
	case as[*serviceError](err), as[*publisher.UnavailableError](err), as[*embedded.InUseError](err),
		errors.Is(err, embedded.ErrNoPrograms):
		return exitService
	}
	return exitFailed
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}
