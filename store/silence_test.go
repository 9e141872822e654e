package store_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/faultproxy"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// TestAConnectionThatFallsSilentHoldsNobody lets what the store says arrive, and
// nothing come back: whoever asked gets an error while its own time is not up.
func TestAConnectionThatFallsSilentHoldsNobody(t *testing.T) {
	direct := server.URL(t)
	c, err := pgx.ParseConfig(direct)
	require.NoError(t, err)
	proxy, err := faultproxy.New(faultproxy.To(pgconn.NetworkAddress(c.Host, c.Port)))
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	u := url.URL{Scheme: "postgres", User: url.User(writer), Host: proxy.Addr(), Path: c.Database, RawQuery: "sslmode=disable"}
	r := openRig(t, store.Config{URL: u.String()}, direct)
	r.firstLook()
	r.look(push.FromList, r.op("k", push.Pending))
	r.SetPatience(200 * time.Millisecond)

	seen := push.Record{Company: r.company, Page: push.Page{Look: push.Look{Source: push.FromList, StartedAt: r.tick(), FinishedAt: r.now},
		Rows: push.RowsOf(r.op("k", push.Success))}}
	for name, ask := range map[string]func(context.Context) error{
		"a look": func(ctx context.Context) error { _, err := r.Record(ctx, seen); return err },
		"what is due": func(ctx context.Context) error {
			_, err := r.Due(ctx, []push.Company{r.company}, r.now, time.Second)
			return err
		},
		"the configuration":       func(ctx context.Context) error { return r.fleet.Configure(ctx, []push.Company{r.company}) },
		"the companies":           func(ctx context.Context) error { _, err := r.fleet.Companies(ctx); return err },
		"the days of sent events": func(ctx context.Context) error { return r.RollSent(ctx, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Set(faultproxy.HalfOpen)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.ErrorIs(t, ask(ctx), context.DeadlineExceeded)
			require.NoError(t, ctx.Err(), "it waited for its caller's time to be up")
			proxy.Set(faultproxy.Open)
			r.SetPatience(time.Minute)
			assert.NoError(t, ask(ctx), "afterwards it works again")
			r.SetPatience(200 * time.Millisecond)
		})
	}
}

// TestThePoolerOfTheTestsTakesALargePipeline: PostgreSQL answers the beginning of one
// before it reads the end.
func TestThePoolerOfTheTestsTakesALargePipeline(t *testing.T) {
	c, err := pgx.ParseConfig(storetest.Pooler(t, server.URL(t)))
	require.NoError(t, err)
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, c)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(ctx)) }()
	var pipeline pgx.Batch
	for range 4 {
		pipeline.Queue("select $1::text", strings.Repeat("x", 8<<20))
	}
	require.NoError(t, conn.SendBatch(ctx, &pipeline).Close())
}
