package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	tokenBytes = 32
	// The store gets half of the disk that is free when it is made, because
	// PostgreSQL grows on the same disk, and no more than a stream of tens of
	// millions of events needs.
	largestStore  = 16 << 30
	smallestStore = 64 << 20
)

// keptToken returns the token in path, made on first use and the same ever after.
func keptToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		random := make([]byte, tokenBytes)
		if _, err := rand.Read(random); err != nil {
			return "", err
		}
		token := hex.EncodeToString(random)
		return token, writeFile(path, token+"\n")
	case err != nil:
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return "", fmt.Errorf("%s does not hold one: remove it to have a new one made", path)
	}
	return token, nil
}

// keptLimit returns how large the store may grow, decided once: the stream is made
// with a share of it, and a limit that followed the disk would differ from that at
// every start. Whoever gives the disk more room edits the file.
func keptLimit(store string) (int64, error) {
	path := filepath.Join(store, "max-bytes")
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		limit, err := limitFor(store)
		if err != nil {
			return 0, err
		}
		return limit, writeFile(path, strconv.FormatInt(limit, 10)+"\n")
	case err != nil:
		return 0, err
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit < smallestStore {
		return 0, fmt.Errorf("%s must hold a number of bytes, at least %d", path, smallestStore)
	}
	return limit, nil
}

func limitFor(store string) (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(store, &disk); err != nil {
		return 0, err
	}
	half := int64(disk.Bavail) * int64(disk.Bsize) / 2
	if half < smallestStore {
		return 0, fmt.Errorf("%s has %d MiB free, and %d are needed", store, half*2>>20, smallestStore*2>>20)
	}
	return min(half, largestStore), nil
}
