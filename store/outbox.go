package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// RelayLeases returns the names of the leases of all outbox buckets.
func RelayLeases() []string {
	names := make([]string, buckets)
	for i := range names {
		names[i] = relayLease(int16(i))
	}
	return names
}

func relayLease(bucket int16) string { return fmt.Sprintf("relay/%02d", bucket) }

// Outbox is the events that wait to be published, as far as their buckets are
// leased to this process. It is read by state, never by "id greater than the
// last": a lower id may commit later.
type Outbox struct {
	store  *Store
	leases *Leases
	names  []string
}

// Outbox returns the outbox under leases.
func (s *Store) Outbox(leases *Leases) *Outbox {
	return &Outbox{store: s, leases: leases, names: RelayLeases()}
}

// mostBytes is how much of payloads [Outbox.Pending] returns at once. Events are
// seldom larger than some kilobytes; a batch of the largest would take all memory.
const mostBytes = 4 << 20

// Pending returns at most max events behind a place that may be published now, in
// the order of their places: of each operation the lowest unpublished version alone,
// with where the version before it is in the stream. More tells that max were found,
// or [mostBytes].
func (o *Outbox) Pending(ctx context.Context, after int64, max int) (pending []event.Pending, more bool, err error) {
	owned, err := o.owned()
	if err != nil || len(owned) == 0 {
		return nil, false, err
	}
	// The version before is looked up event by event: a limit in a parameter lets the
	// planner expect a tenth of all that waits, and read every publication for it.
	const q = `
select o.company_id, o.push_operation_key, o.version, o.bucket, o.event_id, coalesce(o.previous_event_id, ''),
       o.subject, o.filter, o.header, o.payload, o.created_at, o.id,
       coalesce(p.stream_sequence, 0), p.published_at, pg_catalog.now()
from pushwatch.outbox o
left join lateral (select stream_sequence, published_at from pushwatch.publication
    where o.version > 1 and company_id = o.company_id and push_operation_key = o.push_operation_key and version = o.version - 1
    limit 1) p on true
where o.rejected_class is null and o.bucket = any($1::smallint[]) and o.id > $3::bigint
  and (o.version = 1 or not exists (select from pushwatch.outbox e where e.company_id = o.company_id
                    and e.push_operation_key = o.push_operation_key and e.version < o.version))
order by o.id
limit $2::integer`
	if fault.Off(fault.BoundedBatch) {
		max = math.MaxInt32
	}
	rows, err := o.store.pool.Query(ctx, without(fault.StateReader, "where o.rejected_class",
		"where o.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint and o.rejected_class", q), owned, max, after)
	if err != nil {
		return nil, false, fmt.Errorf("read the outbox: %w", err)
	}
	defer rows.Close()
	bytes := 0
	for (bytes < mostBytes || fault.Off(fault.BoundedBatch)) && rows.Next() {
		p, err := scanPending(rows)
		if err != nil {
			return nil, false, fmt.Errorf("read the outbox: %w", err)
		}
		pending, bytes = append(pending, p), bytes+len(p.Data)
	}
	rows.Close() // passes over what is left
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("read the outbox: %w", err)
	}
	return pending, len(pending) == max || bytes >= mostBytes, nil
}

// owned returns the buckets that are leased to this process now.
func (o *Outbox) owned() ([]int16, error) {
	held := o.leases.Held(o.names...)
	if fault.Off(fault.BucketLease) {
		held = held[:0:0]
		for _, name := range o.names {
			held = append(held, push.Fence{Lease: name})
		}
	}
	owned := make([]int16, len(held))
	for i, fence := range held {
		if _, err := fmt.Sscanf(strings.TrimPrefix(fence.Lease, "relay/"), "%d", &owned[i]); err != nil {
			return nil, fmt.Errorf("lease %s: %w", fence.Lease, err)
		}
	}
	return owned, nil
}

// Buckets returns the buckets that are leased to this process now, a bit each.
func (o *Outbox) Buckets() uint64 {
	owned, err := o.owned()
	if err != nil {
		return 0 // whoever asks for their events gets the error
	}
	var bits uint64
	for _, bucket := range owned {
		bits |= 1 << bucket
	}
	return bits
}

func scanPending(row pgx.Rows) (event.Pending, error) {
	var p event.Pending
	var header []byte
	var sequence int64
	var published *time.Time
	err := row.Scan(&p.CompanyID, &p.Key, &p.Version, &p.Bucket, &p.ID, &p.PreviousID, &p.Subject, &p.Filter,
		&header, &p.Data, &p.CreatedAt, &p.Place, &sequence, &published, &p.ReadAt)
	if err != nil {
		return p, err
	}
	p.PreviousSequence, p.PreviousAt = uint64(sequence), timeOf(published)
	p.CreatedAt, p.ReadAt = p.CreatedAt.UTC(), p.ReadAt.UTC()
	if p.Header, err = readHeader(string(header)); err != nil {
		return p, fmt.Errorf("headers of event %s: %w", p.ID, err)
	}
	return p, nil
}

// readHeader reads an object of strings as PostgreSQL prints it: {"a": "b", "c": "d"}.
// Where a backslash says that a string is not what it looks like, or anything else is
// not like that, it is JSON like any other, which takes ten times as long.
func readHeader(text string) (map[string]string, error) {
	parts := strings.Split(text, `"`) // the names at 1, 5, 9 and so on, their values two further
	header := make(map[string]string, len(parts)/4)
	plain := len(parts)%4 == 1 && parts[0] == "{" && parts[len(parts)-1] == "}" && !strings.Contains(text, `\`)
	for i := 1; plain && i < len(parts); i += 4 {
		plain = parts[i+1] == ": " && (parts[i+3] == ", " || i+4 == len(parts))
		header[parts[i]] = parts[i+2]
	}
	if plain {
		return header, nil
	}
	clear(header)
	return header, json.Unmarshal([]byte(text), &header)
}

// Sent records events as published and takes them out of the outbox, in one
// statement and one commit. Events of a bucket whose lease is not ours any more
// are left: their new holder meets them in the stream. It returns how many were
// recorded.
//
// An event counts as published now, or a minute after it says if that is earlier:
// one that was found in the stream long afterwards leaves it so much earlier, and
// must not be missed then.
//
// If we crash before the commit, the events stay pending, are published again,
// refused by the stream and found there by reading back.
func (o *Outbox) Sent(ctx context.Context, sent []event.Sent) (int, error) {
	if len(sent) == 0 {
		return 0, nil
	}
	tokens := o.tokens()
	var companies, keys, leases, epochs []string
	var versions, sequences, held, places []int64
	var at []*time.Time
	var created []time.Time
	for _, s := range sent {
		lease := relayLease(s.Pending.Bucket)
		at, created = append(at, nullable(s.At)), append(created, s.Pending.CreatedAt) // null is disregarded
		companies, keys, versions = append(companies, s.Pending.CompanyID), append(keys, s.Pending.Key), append(versions, s.Pending.Version)
		sequences, epochs = append(sequences, int64(s.Sequence)), append(epochs, s.Epoch)
		leases, held = append(leases, lease), append(held, tokens[lease]) // token 0 is nobody's
		places = append(places, s.Pending.Place)
	}
	// The lease rows are read "for key share": marks of one holder go on side by
	// side, a takeover ("for update") waits for them and refuses later ones. Read
	// in name order, so that two relays cannot deadlock.
	//
	// The time of creation tells an event from that of a commit which this database,
	// an older copy since the event was read, has lost: their versions may be the same,
	// and their places.
	const q = `
with acked as (
    select company_id, push_operation_key, version, stream_sequence, epoch, lease, token,
           least(pg_catalog.now(), at + interval '1 minute') as published_at, created_at, place
    from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::timestamptz[],
        $9::timestamptz[], $10::bigint[])
        as a(company_id, push_operation_key, version, stream_sequence, epoch, lease, token, at, created_at, place)
), fenced as (
    select l.name, l.token from pushwatch.lease l
    where l.name = any($6::text[])
    order by l.name
    for key share
), done as (
    delete from pushwatch.outbox o using acked a
    join fenced f on f.name = a.lease and f.token = a.token
    join pushwatch.stream st on st.epoch = a.epoch
    where o.id = a.place and o.company_id = a.company_id and o.push_operation_key = a.push_operation_key
      and o.version = a.version and o.created_at = a.created_at
    returning o.company_id, o.push_operation_key, o.version, o.bucket, o.event_id, o.previous_event_id, o.subject,
              o.filter, o.header, o.payload, o.created_at, a.stream_sequence, st.stream_id, a.published_at
), published as (
    insert into pushwatch.publication as p (company_id, push_operation_key, version, stream_id, stream_sequence, published_at)
    select company_id, push_operation_key, version, stream_id, stream_sequence, published_at from done
    on conflict (company_id, push_operation_key, version) do update
    set stream_id = excluded.stream_id, stream_sequence = excluded.stream_sequence, published_at = excluded.published_at
), kept as (
    insert into pushwatch.sent (published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket,
        event_id, previous_event_id, subject, filter, header, payload, created_at)
    select published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket,
        event_id, previous_event_id, subject, filter, header, payload, created_at from done
)
select count(*) from done`
	var n int
	err := o.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		const stream = `
insert into pushwatch.stream (epoch)
select epoch from unnest($1::text[]) as e(epoch)
where not exists (select from pushwatch.stream s where s.epoch = e.epoch)
group by epoch
order by epoch
on conflict (epoch) do nothing`
		if _, err := tx.Exec(ctx, stream, epochs); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, q, companies, keys, versions, sequences, epochs, leases, held, at, created, places).Scan(&n)
		fault.Point(fault.CommittingSent)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("record %d published events: %w", len(sent), err)
	}
	return n, nil
}

// tokens returns the fencing tokens of the leases of this process, by name.
func (o *Outbox) tokens() map[string]int64 {
	tokens := map[string]int64{}
	for _, fence := range o.leases.Held(o.names...) {
		tokens[fence.Lease] = fence.Token
	}
	return tokens
}

// Reject sets aside an event that can never be published. It stays in the
// outbox with its reason, and later versions of its operation wait behind it. One
// that does not wait any more, because it was published or its operation took over
// another history, is left alone, and false returned.
func (o *Outbox) Reject(ctx context.Context, p event.Pending, class, detail string) (waited bool, err error) {
	const q = `
update pushwatch.outbox set rejected_class = $4::text, rejected_detail = $5::text, rejected_at = pg_catalog.now()
where company_id = $1::text and push_operation_key = $2::text and version = $3::bigint and event_id = $6::text`
	err = o.fenced(ctx, p.Bucket, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, q, p.CompanyID, p.Key, p.Version, class, detail, p.ID)
		waited = tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("reject event %s: %w", p.ID, err)
	}
	return waited, nil
}

// fenced runs fn in a transaction under the lease of a bucket.
func (o *Outbox) fenced(ctx context.Context, bucket int16, fn func(context.Context, pgx.Tx) error) error {
	f := push.Fence{Lease: relayLease(bucket)}
	if held := o.leases.Held(f.Lease); len(held) == 1 {
		f = held[0]
	}
	return o.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := fence(ctx, tx, f); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}
