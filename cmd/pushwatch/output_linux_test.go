package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
)

// hostile is text that would clear a screen, set a title, ring, turn the direction
// of what follows and forge a line, in all spellings that a terminal knows.
const hostile = "a\x1b[2Jb\x1b]0;title\x07c\u009b31md\u202ee\u2066f\u2028g\rh\ni\x7fj\u200fk"

// openTerminal returns a terminal of no columns and no rows, as a new one is, and
// a function that ends it and returns what was written to it.
func openTerminal(t *testing.T) (terminal *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	ioctl := func(request uintptr, value *uint32) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(value)))
		require.Zero(t, errno)
	}
	var unlocked, number uint32
	ioctl(syscall.TIOCSPTLCK, &unlocked)
	ioctl(syscall.TIOCGPTN, &number)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	require.True(t, isTerminal(terminal))
	written := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(master) // EIO when the terminal is closed
		written <- string(text)
	}()
	return terminal, func() string {
		require.NoError(t, terminal.Close())
		text := <-written
		require.NoError(t, master.Close())
		return strings.ReplaceAll(text, "\r\n", "\n")
	}
}

// requireHarmless fails on what a terminal would act on, line breaks aside.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	require.NotContains(t, strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) || r == '\u2028' {
			return '!'
		}
		return r
	}, text), "!", "%q", text)
}

func TestNothingFromElsewhereReachesATerminalAsACommand(t *testing.T) {
	id := hostile
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	life := store.Life{CompanyID: hostile, CompanyName: hostile, Key: hostile, DataType: hostile, ConnectionID: hostile, Status: hostile,
		ErrorMessage: &id, Disputed: &id, Flags: []string{hostile}, Aside: []store.Aside{{Class: hostile, Detail: hostile}},
		Changes: []store.LifeChange{{Version: 1, Status: hostile, Source: hostile}}}
	aside := store.Aside{ID: "r1", Kind: store.AsideRecord, CompanyID: hostile, Company: hostile, Key: hostile, Class: hostile,
		Detail: hostile, Body: `{"a":"` + hostile + `"}`, FirstAt: at, LastAt: at}
	state := fleet{At: at, Companies: []companyState{{ID: hostile, Name: hostile, Process: hostile, Walking: []string{hostile}}},
		Processes: []processState{{Name: hostile}}, Aside: []store.AsideCount{{Kind: store.AsideRecord, Class: hostile, Aside: 1}}}
	told := event.Event{Event: hostile, DataType: &id, PushOperationKey: hostile, CompanyID: hostile, ErrorMessage: &id}
	rows := listing{heads: []string{"a", "b"}, rows: [][]string{{hostile, "x"}}}
	body, err := json.Marshal(told)
	require.NoError(t, err)
	for name, write := range map[string]func(io.Writer) error{
		"show":            func(out io.Writer) error { return writeLife(out, life) },
		"show -o json":    func(out io.Writer) error { return writeJSON(out, life) },
		"status":          func(out io.Writer) error { return state.write(out) },
		"tail":            func(out io.Writer) error { _, err := fmt.Fprintln(out, tailLine(told, "12:00:00", true)); return err },
		"tail -o json":    func(out io.Writer) error { return writeJSONLine(out, publisher.StoredMessage{Data: body}) },
		"quarantine show": func(out io.Writer) error { return writeAside(out, aside) },
		"a table":         func(out io.Writer) error { return rows.write(out, "table") },
		"a table as CSV":  func(out io.Writer) error { return rows.write(out, "csv") },
		"an error":        func(out io.Writer) error { _, err := fmt.Fprintln(out, oneLine(errors.New(hostile))); return err },
	} {
		t.Run(name, func(t *testing.T) {
			terminal, screen := openTerminal(t)
			require.NoError(t, write(terminal))
			text := screen()
			assert.Contains(t, text, "[2J", "the rest of the text is there")
			requireHarmless(t, text)
		})
	}
}

func TestOffATerminalWhatProgramsReadIsExact(t *testing.T) {
	var document, table bytes.Buffer
	require.NoError(t, writeJSON(&document, map[string]string{"a": hostile}))
	var read map[string]string
	require.NoError(t, json.Unmarshal(document.Bytes(), &read))
	assert.Equal(t, hostile, read["a"])
	rows := listing{heads: []string{"a"}, rows: [][]string{{hostile}}}
	require.NoError(t, rows.write(&table, "csv"))
	assert.Contains(t, table.String(), hostile)

	terminal, screen := openTerminal(t)
	require.NoError(t, writeJSON(terminal, map[string]string{"a": hostile}))
	require.NoError(t, json.Unmarshal([]byte(screen()), &read))
	assert.Equal(t, hostile, read["a"], "on a terminal it is the same document")
}

func TestLogsOnATerminalPassNoCommandsOn(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(forTerminal(&out, slog.LevelDebug))
	log.Info("told", "text", hostile, "error", fmt.Errorf("read: %w", errors.New(hostile)), slog.Group("g", "inner", hostile))
	text := out.String()
	assert.Contains(t, text, "told")
	for _, its := range []string{"\x1b[2m", "\x1b[0m", "\x1b[22m", "\x1b[92m"} { // the logger's own colours
		text = strings.ReplaceAll(text, its, "")
	}
	requireHarmless(t, text)
}

// A new terminal has no size before somebody tells it.
func TestProgressOnATerminalWithoutWidth(t *testing.T) {
	terminal, screen := openTerminal(t)
	shown := newDemoProgress(terminal, time.Second)
	for i := range int64(3) {
		shown.show(time.Duration(i)*100*time.Millisecond, store.Counts{Operations: i, Transitions: 2 * i, Published: i})
	}
	shown.close()
	replayed := newReplayShown(terminal, 3)
	replayed.done(2)
	replayed.end(true)
	assert.NotContains(t, screen(), "panic")
}

// TestOutputThatCannotBeWrittenIsAFailure: a full disk behind stdout is told, a
// reader that has gone is not, and nobody sees a stack.
func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	broker := startBroker(t)
	environ := []string{"DATABASE_URL=" + server.URL(t), "NATS_URL=" + broker.URL(), "CODAT_API_KEY=k", "PUSHWATCH_COMPANIES=c",
		"PUSHWATCH_CODAT_BASE_URL=http://" + closedPort(t), "PUSHWATCH_NATS_STREAM=" + otherStream(t, broker), "PUSHWATCH_NATS_SUBJECT_PREFIX=orders"}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = full.Close() })
	reader, gone, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	t.Cleanup(func() { _ = gone.Close() })
	for _, args := range []string{"version", "status", "status -o json", "quarantine list -o json", "quarantine list -o csv", "audit", "audit -o json",
		"migrate status", "check", "check -o json", "completion bash"} {
		for stdout, says := range map[*os.File]string{full: "no space left on device", gone: ""} {
			cmd := program(t.Context(), t, environ, strings.Fields(args)...)
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = stdout, &stderr
			_ = cmd.Run() // its code is looked at
			code := cmd.ProcessState.ExitCode()
			assert.NotZero(t, code, args)
			assert.Contains(t, stderr.String(), says, args)
			assert.NotContains(t, stderr.String(), "goroutine ", args)
			if !strings.HasPrefix(args, "check") { // which fails for a Codat that is not there, too
				assert.Equal(t, exitFailed, code, args)
				assert.Equal(t, says != "", strings.Contains(stderr.String(), "pushwatch: "), args)
			}
		}
	}
}
