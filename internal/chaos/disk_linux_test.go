package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// fullDisks fills the disk of the embedded NATS, of the embedded PostgreSQL, or of
// both, for a while. It mounts small file systems, which takes root.
func fullDisks(t *trial) verdict {
	require.Zero(t, os.Geteuid(), "this row mounts file systems of a few megabytes: run it as root")
	w := newWorld(t, options{embedded: true})
	base, err := os.MkdirTemp("", "pushwatch-chaos-disk-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o711))
	dir := filepath.Join(base, "data")
	mount(t, dir, 400)
	mount(t, filepath.Join(dir, "nats"), 200)
	w.environ = []string{"PUSHWATCH_DATA_DIR=" + dir, "PUSHWATCH_NATS_MAX_BYTES=40000000"}
	var v verdict
	d := w.daemon()
	require.True(t, w.isUp(dir), w.log.end())
	w.listen()
	disks := [][]string{{filepath.Join(dir, "nats")}, {dir}, {dir, filepath.Join(dir, "nats")}}
	for i := range t.n {
		t.wait(time.Second)
		fillers := make([]string, 0, 2)
		for _, disk := range disks[i%len(disks)] {
			fillers = append(fillers, fill(t, disk))
		}
		t.wait(t.between(3*time.Second, 6*time.Second))
		for _, filler := range fillers {
			require.NoError(t, os.Remove(filler))
		}
		w.recovers(&v, time.Now(), time.Minute)
		if len(v.Broken) > 0 {
			break
		}
		t.struck(i + 1)
	}
	if len(v.Broken) == 0 || t.off == "" {
		v = w.settle(v)
	}
	w.stop(d)
	return v
}

func mount(t *trial, dir string, megabytes int) {
	require.NoError(t, os.MkdirAll(dir, 0o711))
	require.NoError(t, syscall.Mount("pushwatch-chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0711", megabytes)))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
}

// fill takes all the room of a disk and returns the file that has it.
func fill(t *trial, dir string) string {
	path := filepath.Join(dir, "filler")
	f := must(os.Create(path))(t)
	chunk := make([]byte, 1<<16)
	for len(chunk) > 0 {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	require.NoError(t, f.Close())
	return path
}
