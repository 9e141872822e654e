package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	logLimit = 16 << 20
	logKept  = 1 << 20
	logLook  = time.Minute
)

// openLog opens PostgreSQL's log for appending. PostgreSQL only inherits it: a
// file, not a pipe, so that a server that we leave behind can go on writing.
func openLog(path string) (*os.File, error) {
	if err := cutLog(path, logLimit, logKept); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL's log: %w", err)
	}
	return log, nil
}

// cutLog keeps the end of a log that has grown past limit in <path>.old and
// empties it. The server appends, so it goes on at the new end; what it writes in
// between is lost, which is why this is rare.
func cutLog(path string, limit, kept int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() <= limit {
		return nil
	}
	end, err := logEnd(path, kept)
	if err == nil {
		err = writeFile(path+".old", string(end))
	}
	if err == nil {
		err = os.Truncate(path, 0)
	}
	if err != nil {
		return fmt.Errorf("cut PostgreSQL's log: %w", err)
	}
	return nil
}

// logEnd returns the last bytes of a log.
func logEnd(path string, bytes int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, info.Size()-bytes), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, bytes))
}

// lastLines returns the end of a program's output, for an error message.
func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
