package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/pushwatch/pushwatch/store"
)

const (
	fewCompanies = 10
	weighings    = 4 // of a process, in equal times
)

// companyOrders tell a process to look after so many companies for a while.
type companyOrders struct {
	Place     place
	URL       string // of the API, which knows none of them
	Companies int
	Still     time.Duration
}

// weighed is what that process had in its heap, after garbage collection.
type weighed struct {
	Heaps   []uint64
	Renewal float64 // seconds that extending all leases took
}

// weighCompanies compares a process that looks after many companies with one that looks
// after few, and watches whether the many grow.
func weighCompanies(ctx context.Context, c *crowd) ([]finding, error) {
	if err := c.large.close(ctx); err != nil { // its leases and buckets are theirs now
		return nil, err
	}
	place := c.large.place
	c.large = nil
	place.NATSURL = ""
	var few, many weighed
	for _, p := range []struct {
		n  int
		to *weighed
	}{{fewCompanies, &few}, {c.companies, &many}} {
		looking, err := spawn(ctx, lookAfter, companyOrders{place, "http://127.0.0.1:1", p.n, c.still}, p.to)
		if err != nil {
			return nil, err
		}
		if err := looking.stop(); err != nil {
			return nil, err
		}
	}
	last := many.Heaps[len(many.Heaps)-1]
	each := (float64(last) - float64(few.Heaps[len(few.Heaps)-1])) / float64(c.companies-fewCompanies)
	return []finding{
		{Name: "heap", Title: "heap with " + number(float64(c.companies)) + " companies", Value: mebibytes(last), Unit: mebibyte},
		{Name: "company", Title: "a company, in memory", Value: each, Unit: "bytes"},
		finding{Name: "heap-growth", Title: "the same heap after " + c.still.String() + ", to a quarter of it", Value: float64(last) / float64(many.Heaps[0])}.atMost(1.1),
		{Name: "renewal", Title: "renewing the leases of all of them", Value: many.Renewal, Unit: "s"},
	}, nil
}

// lookAlone is the process: leases and poller, as the daemon has them.
func lookAlone(in io.Reader, out io.Writer) (err error) {
	ctx := context.Background()
	orders := json.NewDecoder(in)
	var o companyOrders
	if err := orders.Decode(&o); err != nil {
		return err
	}
	w := &world{place: o.Place}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if w.store, err = store.Open(ctx, store.Config{URL: o.Place.DatabaseURL, SubjectPrefix: o.Place.prefix(), Logger: quiet}); err != nil {
		return err
	}
	if _, err := w.take(ctx, otherCompanies(o.Companies), nil); err != nil {
		return err
	}
	answer, now := weighed{}, time.Now
	began := now()
	if err := w.leases.Renew(ctx); err != nil {
		return err
	}
	answer.Renewal = now().Sub(began).Seconds()
	w.stages = append(w.stages, begin(ctx, w.leases.Run))
	p, client, err := w.newPoller(o.URL)
	if err != nil {
		return err
	}
	defer client.Close()
	polling := begin(ctx, func(ctx context.Context) error { _, _ = p.Discover(ctx); return nil }) // nobody answers
	ticker := time.NewTicker(o.Still / weighings)
	defer ticker.Stop()
	for range weighings {
		<-ticker.C
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		answer.Heaps = append(answer.Heaps, m.HeapAlloc)
	}
	if err := polling.stop(); err != nil {
		return err
	}
	return answerAndWait(orders, out, answer)
}
