package simulation

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// database is what package store promises, kept in memory by a second reading of
// its contract: one call of a method is one commit. It is held against the real
// store by TestTheDatabaseDoesAsTheStore.
type database struct {
	witness  witness // nil: nobody is told
	now      func() time.Time
	instance string
	publish  bool // the baseline
	buckets  int

	companies map[string]*company
	leases    map[string]*lease
	present   map[string]time.Time // processes, and until when they are believed to live
	gone      map[string]bool      // processes that are known to be dead

	quota map[time.Time]push.Quota // by day
	gate  push.Quota               // its fields that are no day's

	outbox []*row // by id
	sent   []*row // by time of publication and sequence
	places map[version]place
	ids    int64
}

// witness hears of what the database commits.
type witness interface {
	guard
	looked(d *database, o id, stored push.Known, looked time.Time)
	wroteRow(d *database, o id, status push.Status, looked time.Time)
	committed(d *database, e event.Event, looked time.Time)
}

// id names an operation.
type id struct{ company, key string }

type version struct {
	id
	number int64
}

type company struct {
	push.Company
	firstLookServerAt time.Time
	progressAt        time.Time
	firstPageOldest   time.Time
	walks             map[push.WalkKind][]*walk
	looks             []reach
	ops               map[string]*operation
	quarantine        []aside
}

type walk struct {
	startedAt, newestAt time.Time
	nextPage, pageSize  int
	finished            bool
}

// open returns the walk of a kind that is open, nil for none: at most one is.
func (c *company) open(kind push.WalkKind) *walk {
	for _, w := range c.walks[kind] {
		if !w.finished {
			return w
		}
	}
	return nil
}

// reach says that a look begun at one moment showed everything requested after
// another; the zero time stands for everything there is.
type reach struct{ lookedAt, reachedAt time.Time }

type aside struct {
	key, hash string
	firstSeen time.Time
}

// operation is a stored operation.
type operation struct {
	push.Operation
	digest          [16]byte // of the bytes that told it
	known           push.Known
	versions        int64
	baseline        bool
	compared        bool
	subjectDataType string
	firstSeenAt     time.Time
	lastChangedAt   time.Time
	gotAt           time.Time
	history         []event.Event // transitions
}

// row is an event in the outbox, or one that is published and kept.
type row struct {
	event.Pending
	id       int64
	created  event.Event
	rejected string // class
	place           // where it is published
}

// place is where a version is in the stream.
type place struct {
	at       time.Time
	sequence uint64
	epoch    string
}

type lease struct {
	holder  string
	token   int64
	expires time.Time
}

func newDatabase(now func() time.Time, instance string, publish bool, buckets int, companies ...string) *database {
	d := &database{now: func() time.Time { return push.Time(now()) }, instance: instance, publish: publish, buckets: buckets,
		companies: map[string]*company{}, leases: map[string]*lease{}, present: map[string]time.Time{}, gone: map[string]bool{},
		quota: map[time.Time]push.Quota{}, places: map[version]place{}}
	for _, name := range companies {
		d.companies[name] = &company{Company: push.Company{ID: name}, walks: map[push.WalkKind][]*walk{}, ops: map[string]*operation{}}
	}
	return d
}

// copy returns the database as it is now.
func (d *database) copy() *database {
	c := *d
	c.companies, c.leases = map[string]*company{}, map[string]*lease{}
	for name, was := range d.companies {
		is := *was
		is.walks, is.ops = map[push.WalkKind][]*walk{}, map[string]*operation{}
		for kind, walks := range was.walks {
			is.walks[kind] = cloned(walks)
		}
		for key, op := range was.ops {
			o := *op
			o.history = slices.Clone(op.history)
			is.ops[key] = &o
		}
		is.looks, is.quarantine = slices.Clone(was.looks), slices.Clone(was.quarantine)
		c.companies[name] = &is
	}
	for name, was := range d.leases {
		is := *was
		c.leases[name] = &is
	}
	c.present, c.gone, c.quota, c.places = maps.Clone(d.present), maps.Clone(d.gone), maps.Clone(d.quota), maps.Clone(d.places)
	c.outbox, c.sent = cloned(d.outbox), cloned(d.sent)
	return &c
}

// cloned returns copies of what all point at.
func cloned[T any](all []*T) []*T {
	clones := make([]*T, len(all))
	for i, one := range all {
		clone := *one
		clones[i] = &clone
	}
	return clones
}

var errFenced = errors.New("another process has the lease")

func companyLease(id string) string { return "company/" + id }

func bucketLease(bucket int16) string {
	name := "relay/" + strconv.Itoa(int(bucket))
	if bucket < 10 {
		name = "relay/0" + strconv.Itoa(int(bucket))
	}
	return name
}

func (d *database) bucketOf(o id) int16 {
	digest := sha256.Sum256([]byte(o.company + "\x00" + o.key))
	return int16(int(digest[0]) % d.buckets)
}

// renew extends what holder has of the leases wanted, gives back what is more than
// its share, and takes up to that share of what is free. It returns what it holds.
func (d *database) renew(holder string, wanted []string) map[string]push.Fence {
	now := d.now()
	d.present[holder] = now.Add(leaseTerm)
	processes := 0
	for other, until := range d.present {
		if other == holder || !until.Before(now) && !d.gone[other] {
			processes++
		}
	}
	held, classes := map[string]push.Fence{}, map[string][]string{}
	for _, name := range slices.Sorted(slices.Values(wanted)) {
		l := d.leases[name]
		if l == nil {
			l = &lease{expires: now}
			d.leases[name] = l
		}
		if l.holder == holder {
			l.expires = now.Add(leaseTerm)
			held[name] = push.Fence{Lease: name, Token: l.token}
		}
		class, _, _ := strings.Cut(name, "/")
		classes[class] = append(classes[class], name)
	}
	for _, names := range classes {
		share := (len(names) + processes - 1) / processes
		var mine, free []string
		for _, name := range names {
			switch l := d.leases[name]; {
			case l.holder == holder:
				mine = append(mine, name)
			case l.holder == "" || (l.expires.Before(now) || d.gone[l.holder]) && !fault.Off(fault.Takeover):
				free = append(free, name)
			}
		}
		for _, name := range mine[min(share, len(mine)):] {
			d.leases[name].holder, d.leases[name].expires = "", now
			delete(held, name)
		}
		for _, name := range free[:min(len(free), max(0, share-len(mine)))] {
			l := d.leases[name]
			l.holder, l.token, l.expires = holder, l.token+1, now.Add(leaseTerm)
			held[name] = push.Fence{Lease: name, Token: l.token}
			if d.witness != nil {
				d.witness.granted(held[name], holder)
			}
		}
	}
	return held
}

// release gives everything back.
func (d *database) release(holder string) {
	delete(d.present, holder)
	for _, l := range d.leases {
		if l.holder == holder {
			l.holder, l.expires = "", d.now()
		}
	}
}

// fence refuses a write under a lease that somebody has taken since.
func (d *database) fence(f push.Fence) error {
	l := d.leases[f.Lease]
	if (l == nil || l.token != f.Token) && !fault.Off(fault.Fence) {
		return errFenced
	}
	if d.witness != nil {
		d.witness.wrote(f, l)
	}
	return nil
}

// assigned returns the companies of some leases.
func (d *database) assigned(held []push.Fence) []push.Company {
	var all []push.Company
	for _, f := range held {
		c := d.companies[strings.TrimPrefix(f.Lease, companyLease(""))]
		found := c.Company
		found.Fence, found.SweepOpen = f, c.open(push.WalkSweep) != nil
		all = append(all, found)
	}
	return all
}

func (d *database) markAbsent(c push.Company, until time.Time) error {
	err := d.fence(c.Fence)
	if err == nil {
		d.companies[c.ID].AbsentUntil = until
	}
	return err
}

// updateQuota returns the ledger as it was and as it is.
func (d *database) updateQuota(day time.Time, rule func(time.Time, *push.Quota)) (was, is push.Quota) {
	now := d.now()
	if day.IsZero() {
		day = now
	}
	day = day.UTC().Truncate(24 * time.Hour)
	was = d.quota[day]
	was.Day, was.NextSlot, was.BlockedUntil, was.BlockedBy = day, d.gate.NextSlot, d.gate.BlockedUntil, d.gate.BlockedBy
	is = was
	rule(now, &is)
	d.quota[day], d.gate = is, is
	return was, is
}
