package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// reloadable are the keys that a running daemon takes up; the others wait for the
// next start.
var reloadable = []string{"companies", "log.level", "poll.discover", "poll.page_size", "poll.sweep", "poll.track", "quota.reserve"}

const (
	settleFile  = 300 * time.Millisecond // an editor, or a mounted volume, writes in several steps
	retryReload = 5 * time.Second
)

// reloader takes up a changed configuration file. One that cannot be used, or not
// yet, leaves the old configuration in force.
type reloader struct {
	daemon *daemon
	flags  config.Flags
	level  *slog.LevelVar
	log    *slog.Logger

	inForce config.Config
	read    []byte // the file as it was last read
}

// run reloads at every signal on hup and whenever the file changes, until ctx ends.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) error {
	r.read, _ = os.ReadFile(r.inForce.File) // unreadable: it has changed once it can be read
	changes, errs, stop := r.watch()
	defer stop()
	var wait <-chan time.Time
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			wait = time.After(settleFile)
			continue
		case err := <-errs:
			r.log.Warn("configuration file is not watched; SIGHUP reloads it", "error", err)
			continue
		case <-hup:
			asked = true
		case <-wait:
		}
		wait = nil
		if err := r.reload(ctx, asked); err != nil && ctx.Err() == nil {
			r.log.Error("configuration not reloaded; the old one stays in force", "error", oneLine(err))
			if !as[*configError](err) { // the database is away, not the file wrong
				r.read, wait = nil, time.After(retryReload)
			}
		}
	}
}

// watch tells of changes in the file's directory: mounted volumes swap links there
// instead of writing the file.
func (r *reloader) watch() (<-chan fsnotify.Event, <-chan error, func()) {
	if r.inForce.File == "" {
		return nil, nil, func() {}
	}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(r.inForce.File))
		if err == nil {
			return watcher.Events, watcher.Errors, func() { _ = watcher.Close() }
		}
		_ = watcher.Close()
	}
	r.log.Warn("configuration file is not watched; SIGHUP reloads it", "error", err)
	return nil, nil, func() {}
}

// reload takes up the file if it has changed, or if it was asked to.
func (r *reloader) reload(ctx context.Context, asked bool) error {
	if r.inForce.File != "" {
		text, err := os.ReadFile(r.inForce.File)
		if errors.Is(err, os.ErrNotExist) && !asked {
			return nil // between two steps of whoever replaces it
		}
		if err == nil && bytes.Equal(text, r.read) && !asked {
			return nil
		}
		r.read = text
	}
	c, found, err := readConfig(r.flags)
	if err != nil {
		return err
	}
	found.tell(r.log)
	changed := r.inForce.Differs(c)
	taken := func(key string) bool { return slices.Contains(reloadable, key) }
	waiting := slices.DeleteFunc(slices.Clone(changed), taken)
	if len(waiting) > 0 {
		r.log.Warn("changed keys take effect at the next start", "keys", waiting)
	}
	if len(waiting) == len(changed) {
		r.log.Info("configuration reloaded; nothing to take up")
		return nil
	}
	plan, err := planOf(c)
	if err != nil {
		return err
	}
	if err := r.daemon.configure(ctx, companiesOf(c), c.Quota.Reserve); err != nil {
		return err
	}
	if err := r.daemon.poller.Replan(plan); err != nil {
		return &configError{err}
	}
	r.level.Set(c.Log.Level)
	c.Poll.Mode, c.Poll.Baseline = r.inForce.Poll.Mode, r.inForce.Poll.Baseline
	r.inForce.Companies, r.inForce.Poll, r.inForce.Quota, r.inForce.Log.Level = c.Companies, c.Poll, c.Quota, c.Log.Level
	inForce := slices.DeleteFunc(changed, func(key string) bool { return !taken(key) })
	r.log.Info("configuration reloaded", "keys", inForce, "companies", len(c.Companies))
	return nil
}

// shared is what of the settings may change while the daemon runs.
type shared struct {
	companies []push.Company
	reserve   float64
}

// configure makes companies the configured ones, and takes or gives back their
// leases. If it fails half way it may be called again.
func (d *daemon) configure(ctx context.Context, companies []push.Company, reserve float64) error {
	if err := d.fleet.Configure(ctx, companies); err != nil {
		return err
	}
	names := store.RelayLeases()
	for _, c := range companies {
		names = append(names, store.CompanyLease(c.ID))
	}
	d.leases.Want(names)
	d.shared.Store(&shared{companies, reserve})
	return d.leases.Renew(ctx)
}

// share is what the ledger asks for: the reserve and how many companies there are.
func (d *daemon) share() (reserve float64, companies int) {
	s := d.shared.Load()
	return s.reserve, len(s.companies)
}
