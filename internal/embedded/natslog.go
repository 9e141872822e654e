package embedded

import (
	"fmt"
	"log/slog"
	"sync"
)

// serverVoice passes what the NATS server warns of to slog, drops the rest, and
// keeps what it calls fatal: a server of its own would exit there.
type serverVoice struct {
	log *slog.Logger

	mu    sync.Mutex // guards fatal
	fatal string
}

func (v *serverVoice) lastWords() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fatal
}

func (v *serverVoice) Noticef(string, ...any) {}
func (v *serverVoice) Debugf(string, ...any)  {}
func (v *serverVoice) Tracef(string, ...any)  {}

func (v *serverVoice) Warnf(format string, args ...any) {
	v.log.Warn("NATS server", "message", fmt.Sprintf(format, args...))
}

func (v *serverVoice) Errorf(format string, args ...any) {
	v.log.Error("NATS server", "message", fmt.Sprintf(format, args...))
}

func (v *serverVoice) Fatalf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fatal == "" {
		v.fatal = fmt.Sprintf(format, args...)
	}
}
