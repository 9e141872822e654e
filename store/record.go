package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// Record keeps what one look showed, in one commit: operations, transitions,
// events in the outbox, quarantined records and the progress of walk and company.
// Either all of it is durable when it returns nil, or the look may be recorded
// again: twice is as good as once. ErrFenced says that the company belongs to
// another process now.
//
// A record that PostgreSQL refuses is quarantined and its neighbours are kept.
func (s *Store) Record(ctx context.Context, r push.Record) (push.Recorded, error) {
	recorded, err := s.record(ctx, r)
	if err == nil || !dataError(err) || len(r.Page.Rows) == 0 {
		if err != nil {
			err = fmt.Errorf("record page %d of company %s: %w", r.Page.Number, r.Company.ID, err)
		}
		return recorded, err
	}
	return s.bisect(ctx, r, err)
}

// bisect records a refused page in halves, until the record that was refused
// stands alone and is quarantined. The walk's progress goes with the last part:
// if we crash before it, the page is simply read again.
func (s *Store) bisect(ctx context.Context, r push.Record, cause error) (push.Recorded, error) {
	rows := r.Page.Rows
	if len(rows) == 1 {
		hash := sha256.Sum256(rows[0].Read().Fingerprint())
		r.Page.Rows = nil
		r.Page.Quarantined = append(slices.Clone(r.Page.Quarantined), push.Quarantined{
			CompanyID: r.Company.ID, Key: rows[0].Key, Class: "not_storable",
			Detail: fmt.Sprintf("PostgreSQL refused the record: SQLSTATE %s", sqlState(cause)), Hash: hash[:],
		})
		return s.Record(ctx, r)
	}
	front, back := r, r
	middle := len(rows) / 2
	front.Page.Rows, front.Page.Quarantined = rows[:middle], nil
	front.Walk, front.Finish = nil, push.GoOn
	front.Page.Ordered, front.Page.Last = false, false
	back.Page.Rows = rows[middle:]
	first, err := s.Record(ctx, front)
	if err != nil {
		return first, err
	}
	second, err := s.Record(ctx, back)
	second.Known = first.Known && second.Known
	second.Events += first.Events
	second.First += first.First
	second.Changed += first.Changed
	second.Disputed = append(first.Disputed, second.Disputed...)
	second.Edges = append(first.Edges, second.Edges...)
	second.Flags = append(first.Flags, second.Flags...)
	return second, err
}

// known is what the unlocked read tells of a look: which operations differ from
// what is stored, so that only those are locked, and whether all were known
// before the walk began.
type known struct {
	all     bool
	differs []push.Row // in key order
	stored  []string   // keys of those of them that have a row
}

func (s *Store) record(ctx context.Context, r push.Record) (push.Recorded, error) {
	before, err := s.probe(ctx, r)
	if err != nil {
		return push.Recorded{}, err
	}
	var recorded push.Recorded
	attempts := 0
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if attempts++; attempts == 2 { // another look may have made rows meanwhile
			before.stored = keysOf(before.differs)
		}
		recorded = push.Recorded{Known: before.all}
		if err := fence(ctx, tx, r.Company.Fence); err != nil {
			return err
		}
		if err := quarantine(ctx, tx, r.Page); err != nil {
			return err
		}
		if len(before.differs) > 0 {
			if err := s.keep(ctx, tx, r, before, &recorded); err != nil {
				return err
			}
		}
		recorded.Finished = r.Walk != nil && (r.Finish == push.Done || r.Finish == push.IfKnown && before.all)
		if err := advance(ctx, tx, r, recorded.Finished); err != nil {
			return err
		}
		fault.Point(fault.BeforeCommit)
		return nil
	})
	if err != nil {
		return push.Recorded{}, err
	}
	fault.Point(fault.AfterCommit)
	return recorded, nil
}

// probe asks, without locks, which rows of the page differ from what is known. A
// finished operation that reads as stored is left alone; that is right whoever
// writes meanwhile, because this look would not have changed what it read, and an
// older look that reads otherwise only raises a dispute. An unfinished one has the
// time of its look moved: an older look that comes to be recorded after this one is
// stale. The database compares, so that of a page of known operations nothing comes
// back; and it compares digests of bytes, so that none of them is read whole.
func (s *Store) probe(ctx context.Context, r push.Record) (known, error) {
	rows := make([]*push.Row, len(r.Page.Rows)) // small, to be sorted
	for i := range r.Page.Rows {
		rows[i] = &r.Page.Rows[i]
	}
	slices.SortFunc(rows, func(a, b *push.Row) int { return strings.Compare(a.Key, b.Key) }) // by bytes, as collation C
	keys, digests := make([]string, len(rows)), make([][]byte, len(rows))
	for i, row := range rows {
		keys[i], digests[i] = row.Key, row.Digest[:]
	}
	// A record is known when it was there before the first walk since the last
	// finished one began: what an interrupted walk has recorded proves nothing.
	const q = `
select place, differs, before, stored, case when differs and not moves and length(fingerprint) = 32 then fingerprint end
from (
    select s.place, o.company_id is not null as stored, o.fingerprint, looked.moves,
           looked.moves or substr(o.fingerprint, 17) <> s.digest as differs,
           coalesce(o.first_seen_at < coalesce((select w.started_at from pushwatch.walk w
               where w.company_id = $1::text and w.kind = 'discover' and w.finished_at is null), $4::timestamptz), false) as before
    from unnest($2::text[], $3::bytea[]) with ordinality as s(key, digest, place)
    left join pushwatch.operation o on o.company_id = $1::text and o.push_operation_key = s.key
    cross join lateral (select $5::boolean or o.company_id is null or o.disputed_status is not null or not o.is_terminal as moves) as looked
) as compared
where differs or not before
order by place`
	began := r.Page.StartedAt
	if r.Walk != nil {
		began = r.Walk.StartedAt
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	found, err := s.pool.Query(ctx, q, r.Company.ID, keys, digests, began, r.Page.Source == push.FromGet)
	if err != nil {
		return known{}, err
	}
	result := known{all: true}
	whole := r.Walk != nil && r.Walk.Kind != push.WalkDiscover
	var place int
	var differs, before, stored bool
	var fingerprint []byte
	_, err = pgx.ForEachRow(found, []any{&place, &differs, &before, &stored, &fingerprint}, func() error {
		result.all = result.all && (before || fault.Off(fault.UnfinishedWalk))
		// Other bytes may tell the same: another spelling of the list than of get_operation,
		// or something in them that changes all the time. They are written by a sweep, for
		// what comes after it to know them, and by nothing that comes more often.
		if differs && (whole || fingerprint == nil || !bytes.Equal(fingerprint[:16], rows[place-1].Read().Fingerprint())) {
			result.differs = append(result.differs, *rows[place-1])
			if stored {
				result.stored = append(result.stored, rows[place-1].Key)
			}
		}
		return nil
	})
	if err == nil && result.all && len(r.Page.Quarantined) > 0 {
		result.all, err = s.quarantineKnown(ctx, r, began)
	}
	return result, err
}

// quarantineKnown reports whether every quarantined record of the page was known
// before, by its key or by the hash of its body.
func (s *Store) quarantineKnown(ctx context.Context, r push.Record, began time.Time) (bool, error) {
	const q = `
select count(*) = 0 from unnest($2::text[], $3::bytea[]) as seen(key, hash)
where not exists (select from pushwatch.quarantine q where q.company_id = $1::text and q.body_hash = seen.hash
                    and q.first_seen_at < $4::timestamptz)
  and not exists (select from pushwatch.quarantine q where q.company_id = $1::text and q.push_operation_key = seen.key
                    and q.first_seen_at < $4::timestamptz)
  and not exists (select from pushwatch.operation o where o.company_id = $1::text and o.push_operation_key = seen.key
                    and o.first_seen_at < $4::timestamptz)`
	var keys []string
	var hashes [][]byte
	for _, item := range r.Page.Quarantined {
		keys, hashes = append(keys, item.Key), append(hashes, item.Hash)
	}
	var all bool
	err := s.pool.QueryRow(ctx, q, r.Company.ID, keys, hashes, began).Scan(&all)
	return all, err
}

// quarantine keeps the records that could not be decoded, once per body. One that
// was dropped stays so: it is counted, and its body is not kept again.
func quarantine(ctx context.Context, tx pgx.Tx, page push.Page) error {
	if len(page.Quarantined) == 0 {
		return nil
	}
	items := slices.SortedFunc(slices.Values(page.Quarantined), func(a, b push.Quarantined) int {
		return bytes.Compare(a.Hash, b.Hash)
	})
	items = slices.CompactFunc(items, func(a, b push.Quarantined) bool { return bytes.Equal(a.Hash, b.Hash) })
	var batch pgx.Batch
	// In hash order, so that two looks cannot deadlock.
	const q = `
insert into pushwatch.quarantine as q (company_id, push_operation_key, class, detail, body_hash, body, first_seen_at, last_seen_at)
values ($1::text, nullif($2::text, ''), $3::text, $4::text, $5::bytea, $6::text, $7::timestamptz, $7::timestamptz)
on conflict (company_id, body_hash) do update
set last_seen_at = greatest(q.last_seen_at, excluded.last_seen_at), times = q.times + 1, retried_at = null`
	for _, item := range items {
		batch.Queue(q, item.CompanyID, item.Key, item.Class, item.Detail, item.Hash, item.Body, page.FinishedAt)
	}
	return tx.SendBatch(ctx, &batch).Close()
}
