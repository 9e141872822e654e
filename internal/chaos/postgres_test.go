package chaos

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// cluster is a PostgreSQL of the trial's own, with every commit on disk.
type cluster struct {
	*trial
	dir     string
	running *embedded.Postgres
}

func newCluster(t *trial) *cluster {
	dir := must(embedded.OpenTempDir(t.Context()))(t)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	c := &cluster{trial: t, dir: dir.Path}
	c.start()
	t.Cleanup(func() { _ = c.running.Stop(context.Background()) }) // it may be dead already
	return c
}

func (c *cluster) start() {
	c.Helper()
	c.running = must(embedded.StartPostgres(c.Context(), embedded.PostgresConfig{Dir: c.dir, EndWithUs: true}))(c.trial)
}

// fell ends the server at once, by SIGQUIT ("immediate") or SIGKILL.
func (c *cluster) fell(signal syscall.Signal) {
	c.Helper()
	text := must(os.ReadFile(filepath.Join(c.dir, "postgres", "postmaster.pid")))(c.trial)
	first, _, _ := strings.Cut(string(text), "\n")
	pid := must(strconv.Atoi(first))(c.trial)
	require.NoError(c, syscall.Kill(pid, signal))
	<-c.running.Done()
	_ = c.running.Stop(c.Context()) // says that it was killed
}

// crashesOfPostgres ends the server without warning, again and again.
func crashesOfPostgres(t *trial) verdict {
	c := newCluster(t)
	w := newWorld(t, options{databaseURL: c.running.URL()})
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	v.Recovery = nil
	for i := range t.n {
		t.wait(t.between(100*time.Millisecond, 900*time.Millisecond))
		c.fell([]syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL}[i%2])
		c.start()
		w.recovers(&v, time.Now(), 20*time.Second)
		if len(v.Broken) > 0 {
			break
		}
		t.struck(i + 1)
	}
	v.demand(len(v.Recovery) == 0 || quantile(v.Recovery, 0.99) < inTime(5*time.Second), "p99 from PostgreSQL's start to the next event is not under 5 s")
	v = w.settle(v)
	w.stop(d)
	return v
}

// lostCommits breaks connections at COMMIT: instead of it, or instead of its answer.
func lostCommits(t *trial) verdict {
	w := newWorld(t, options{})
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	commits := 0
	w.postgres.Judge(func(query []byte) faultproxy.Fate {
		if !strings.HasPrefix(string(query), "commit") {
			return faultproxy.Pass
		}
		commits++
		return []faultproxy.Fate{faultproxy.CutBefore, faultproxy.Pass, faultproxy.CutAfter, faultproxy.Pass, faultproxy.CutAfter, faultproxy.Pass, faultproxy.Pass}[commits%7]
	})
	struck := w.within(time.Duration(t.n)*time.Second/4+time.Minute, func() bool {
		t.struck(w.postgres.Struck())
		return w.postgres.Struck() >= t.n
	})
	v.demand(struck, "only %d commits were struck", w.postgres.Struck())
	w.postgres.Judge(nil)
	v.Recovery = nil
	w.recovers(&v, time.Now(), 20*time.Second)
	v = w.settle(v)
	w.stop(d)
	return v
}

// lostDatabases brings back an older copy of the database, as a standby that missed
// commits would be, or makes a fresh one, beside the stream that knows them all.
func lostDatabases(t *trial) verdict {
	c := newCluster(t)
	w := newWorld(t, options{databaseURL: c.running.URL()})
	copied := filepath.Join(c.dir, "standby")
	var v verdict
	for i := range t.n {
		d := w.daemon()
		w.recovers(&v, d.started, 30*time.Second)
		d.kill()
		c.fell(syscall.SIGQUIT)
		if i%2 == 1 {
			c.copy(filepath.Join(c.dir, "postgres"), copied)
			c.start()
			d = w.daemon()
			t.wait(t.between(time.Second, 3*time.Second)) // commits that the copy misses
			d.kill()
			c.fell(syscall.SIGQUIT)
			require.NoError(t, os.RemoveAll(filepath.Join(c.dir, "postgres")))
			require.NoError(t, os.Rename(copied, filepath.Join(c.dir, "postgres")))
		} else {
			require.NoError(t, os.RemoveAll(filepath.Join(c.dir, "postgres")))
		}
		c.start()
		if len(v.Broken) > 0 {
			break
		}
		t.struck(i + 1)
	}
	last := w.daemon()
	w.recovers(&v, last.started, 30*time.Second)
	v = w.settle(v)
	w.stop(last)
	return v
}

// copy copies a cluster's directory, owner and all.
func (c *cluster) copy(from, to string) {
	c.Helper()
	require.NoError(c, os.CopyFS(to, os.DirFS(from)))
	info := must(os.Stat(from))(c.trial)
	require.NoError(c, filepath.Walk(to, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	}))
	require.NoError(c, os.Chmod(to, info.Mode().Perm()))
}

// foreignTransactions holds a transaction of somebody else open, with a row written,
// all the while.
func foreignTransactions(t *trial) verdict {
	lasting := map[bool]time.Duration{true: 30 * time.Minute, false: 15 * time.Second}[t.n >= 3]
	w := newWorld(t, options{})
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	w.database(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `create table public.somebodys as select 1 as n`)
		return err
	})
	for range t.n {
		conn := must(pgx.Connect(t.Context(), w.databaseURL))(t)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		_ = must(conn.Exec(t.Context(), `begin; insert into public.somebodys select 2`))(t)
	}
	began := time.Now()
	v.Recovery = nil
	for time.Since(began) < lasting && len(v.Broken) == 0 {
		w.recovers(&v, time.Now(), 10*time.Second)
		t.wait(lasting / 100)
		t.struck(int(float64(t.n) * float64(time.Since(began)) / float64(lasting)))
	}
	waiting := w.number(`select count(*) from pushwatch.outbox`)
	v.figure("open for %s; outbox %d rows in %d kB", lasting, waiting, w.number(`select pg_total_relation_size('pushwatch.outbox') / 1024`))
	v.demand(waiting < 100, "%d events wait", waiting)
	v = w.settle(v)
	w.stop(d)
	return v
}

// migrations starts two programs on an empty database, kills one of them at random,
// and lets a third finish.
func migrations(t *trial) verdict {
	var v verdict
	var killed atomic.Int64
	w := newWorld(t, options{})
	for i := range t.n {
		environ := append(w.without(), "DATABASE_URL="+server.EmptyURL(t.T))
		first, second := w.command(environ, "migrate", "up"), w.command(environ, "migrate", "up")
		if i%2 == 0 {
			t.wait(t.between(10*time.Millisecond, 400*time.Millisecond))
			if first.Process.Kill() == nil && first.Wait() != nil {
				killed.Add(1)
			}
		} else {
			err := first.Wait()
			v.demand(err == nil, "migrating beside another: %v", err)
		}
		err := second.Wait()
		v.demand(err == nil, "migrating beside one that was killed or not: %v", err)
		third := w.command(environ, "migrate", "up")
		v.demand(third.Wait() == nil, "migrating what is migrated fails")
		databaseURL := strings.TrimPrefix(environ[len(environ)-1], "DATABASE_URL=")
		v.demand(migratedOnce(t, databaseURL), "a migration is missing, or there twice")
		if len(v.Broken) > 3 {
			break
		}
		t.struck(i + 1)
	}
	v.figure("%d killed while they migrated", killed.Load())
	v.demand(killed.Load() > 0 || t.n < 4, "none was killed in time")
	return v
}

func migratedOnce(t *trial, databaseURL string) bool {
	conn := must(pgx.Connect(t.Context(), databaseURL))(t)
	defer func() { _ = conn.Close(t.Context()) }()
	files := must(filepath.Glob("../../migrations/*.sql"))(t)
	var rows, versions int
	err := conn.QueryRow(t.Context(), `select count(*), count(distinct version_id) from pushwatch.schema_version where version_id > 0`).Scan(&rows, &versions)
	return err == nil && rows == len(files) && versions == len(files)
}
