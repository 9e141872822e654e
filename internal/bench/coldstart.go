package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

const (
	coldPage    = 5000 // operations of a page of the history: the largest there is
	coldMemory  = 200  // MiB
	coldAgain   = 1.05 // pages that may be asked for, to those that there are: the one under way when it was cut short
	coldTimeout = 10 * time.Minute
)

// archive renders the pages of one long history as they are asked for.
type archive struct {
	history history
	asked   atomic.Int64
	half    chan struct{} // closed when half of the pages were asked for
}

func (a *archive) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	number, err1 := strconv.Atoi(query.Get("page"))
	size, err2 := strconv.Atoi(query.Get("pageSize"))
	if errors.Join(err1, err2) != nil || number < 1 || size < 1 {
		http.NotFound(out, request)
		return
	}
	if a.asked.Add(1) == int64(a.history.size/coldPage/2) {
		close(a.half)
	}
	var rows []codatsim.WireOperation
	for i := (number - 1) * size; i < min(number*size, a.history.size); i++ {
		rows = append(rows, spell(a.history.operation(i, false)))
	}
	answerPage(out, codatsim.RenderPage(companyID, rows, number, size, a.history.size))
}

// coldOrders tell a process to take up a company.
type coldOrders struct {
	Place place
	URL   string
}

// startCold takes up a company with a long history, in a process of its own that is
// killed half way, and in another one that goes on.
func startCold(ctx context.Context, c *crowd) (_ []finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, coldTimeout)
	defer cancel()
	w, err := c.world(ctx, emptyDatabase, nil)
	if err != nil {
		return nil, err
	}
	place, newest := w.place, w.store.Now()
	if err := w.close(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.drop(context.WithoutCancel(ctx), w.database())) }()
	served := &archive{history: history{salt: "cold", size: c.cold, newest: newest}, half: make(chan struct{})}
	a, err := startAPI(ctx, served)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	orders := coldOrders{place, a.url}
	if err := killWhen(ctx, served.half, takeUp, orders); err != nil {
		return nil, err
	}
	var p peak
	going, err := spawn(ctx, takeUp, orders, &p)
	if err != nil {
		return nil, err
	}
	if err := going.stop(); err != nil {
		return nil, err
	}
	if err := (&world{place: place}).expect(ctx, counts{operations: c.cold}); err != nil {
		return nil, err
	}
	pages := float64((c.cold + coldPage - 1) / coldPage)
	return []finding{
		finding{Name: "cold-memory", Title: "peak memory of a start with " + number(float64(c.cold)) + " operations to read",
			Value: mebibytes(p.Resident), Unit: mebibyte}.atMost(coldMemory),
		finding{Name: "cold-pages", Title: "pages asked for, to those that there are, with a kill -9 half way",
			Value: float64(served.asked.Load()) / pages}.atMost(max(coldAgain, 1+3/pages)),
		{Name: "cold-rate", Title: "reading the second half", Value: p.Seconds, Unit: "s"},
	}, nil
}

// takeUpAlone is the process: it waits for the company's lease, and looks at it once.
func takeUpAlone(in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), coldTimeout)
	defer cancel()
	orders := json.NewDecoder(in)
	var o coldOrders
	if err := orders.Decode(&o); err != nil {
		return err
	}
	w, err := openFreed(ctx, o.Place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	p, client, err := w.newPoller(o.URL)
	if err != nil {
		return err
	}
	defer client.Close()
	var most peak
	now := time.Now
	began := now()
	if _, err := p.Discover(ctx); err != nil {
		return err
	}
	most.Seconds = now().Sub(began).Seconds()
	if most.Resident, err = peakResident(); err != nil {
		return err
	}
	return answerAndWait(orders, out, most)
}

// openFreed opens a world whose leases a process that was killed may have, until they end.
func openFreed(ctx context.Context, p place) (*world, error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		w, err := openWorld(ctx, p)
		if !errors.Is(err, errLeased) {
			return w, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-ticker.C:
		}
	}
}
