package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const syncs = 100

// measureDisk tells what a sync costs where both servers keep their files: what
// syncs before each acknowledgement is slow by as much, and a peer that does is
// slower still on a disk that is.
func measureDisk(_ context.Context, r *rig) (_ samples, err error) {
	file, err := os.Create(filepath.Join(r.dir.Path, "sync"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	var took []time.Duration
	for range syncs {
		if _, err := file.Write(make([]byte, 4096)); err != nil {
			return nil, err
		}
		started := r.now()
		err := file.Sync()
		d := r.now().Sub(started)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return samples{"fsync": milliseconds(quantile(took, 0.5))}, nil
}
