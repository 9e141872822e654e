package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Overview is the state of the whole fleet at one moment of the database's clock.
type Overview struct {
	At         time.Time
	Companies  []CompanyState
	Unfinished int64 // operations that are followed
	Disputed   int64 // operations whose terminal status read differently
	Waiting    int64 // events in the outbox that may be published
	Blocked    int64 // events that wait behind a rejected one of their operation
	OldestAt   time.Time
	Quota      QuotaState
	Processes  []ProcessState
	Aside      []AsideCount
}

// CompanyState is what is known of one company.
type CompanyState struct {
	ID           string
	Name         string
	Holder       string    // the process that works on it; empty when none does
	DiscoveredAt time.Time // start of the last finished look; zero before the first
	Walking      string    // kinds of walks that are unfinished, with commas
	AbsentUntil  time.Time // Codat said 404; zero otherwise
	Operations   int64     // known ones, without pruned ones
	Unfinished   int64
	Disputed     int64
}

// QuotaState is the ledger's row of today; Limit and Remaining are nil before the
// first answer.
type QuotaState struct {
	Limit, Remaining *int64
	Used             int64
	BlockedUntil     time.Time // zero when nothing pauses
	BlockedBy        string
}

// ProcessState is what one process holds.
type ProcessState struct {
	Holder    string
	Live      bool // its leases have not run out
	Companies int64
	Buckets   int64 // of the relay's 64
}

// Overview reads the state of the fleet, in one snapshot.
func (s *Store) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	err := s.attempt(ctx, `begin isolation level repeatable read read only`, func(ctx context.Context, tx pgx.Tx) error {
		for _, read := range []func(context.Context, pgx.Tx, *Overview) error{
			readCompanies, readBacklog, readQuota, readProcesses,
		} {
			if err := read(ctx, tx, &o); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		o.Aside, err = s.CountAside(ctx)
	}
	if err != nil {
		return Overview{}, fmt.Errorf("read the fleet's state: %w", err)
	}
	return o, nil
}

func readCompanies(ctx context.Context, tx pgx.Tx, o *Overview) error {
	const q = `
select c.company_id, coalesce(c.name, ''), coalesce(l.holder, ''), c.discovered_at,
       coalesce((select pg_catalog.string_agg(w.kind, ',' order by w.kind) from pushwatch.walk w
                 where w.company_id = c.company_id and w.finished_at is null), ''),
       c.absent_until, coalesce(k.operations, 0), coalesce(k.unfinished, 0), coalesce(k.disputed, 0)
from pushwatch.company c
left join pushwatch.lease l on l.name = 'company/' || c.company_id and l.expires_at >= pg_catalog.clock_timestamp()
left join (select company_id, count(*) filter (where pruned_at is null) as operations,
                  count(*) filter (where not is_terminal) as unfinished,
                  count(*) filter (where disputed_status is not null) as disputed
           from pushwatch.operation group by company_id) k on k.company_id = c.company_id
order by c.name nulls last, c.company_id`
	rows, err := tx.Query(ctx, q)
	if err != nil {
		return err
	}
	o.Companies, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (CompanyState, error) {
		var c CompanyState
		var discovered, absent *time.Time
		err := row.Scan(&c.ID, &c.Name, &c.Holder, &discovered, &c.Walking, &absent, &c.Operations, &c.Unfinished, &c.Disputed)
		c.DiscoveredAt, c.AbsentUntil = timeOf(discovered), timeOf(absent)
		o.Unfinished, o.Disputed = o.Unfinished+c.Unfinished, o.Disputed+c.Disputed
		return c, err
	})
	return err
}

func readBacklog(ctx context.Context, tx pgx.Tx, o *Overview) error {
	const q = `
select pg_catalog.clock_timestamp(), count(*) filter (where not blocked), count(*) filter (where blocked),
       min(created_at) filter (where not blocked)
from (select o.created_at,
             exists (select from pushwatch.outbox e where e.company_id = o.company_id
                       and e.push_operation_key = o.push_operation_key and e.version < o.version
                       and e.rejected_class is not null) as blocked
      from pushwatch.outbox o
      where o.rejected_class is null) as waiting`
	var oldest *time.Time
	err := tx.QueryRow(ctx, q).Scan(&o.At, &o.Waiting, &o.Blocked, &oldest)
	o.At, o.OldestAt = o.At.UTC(), timeOf(oldest)
	return err
}

func readQuota(ctx context.Context, tx pgx.Tx, o *Overview) error {
	const q = `
select d.request_limit, d.remaining, coalesce(d.used, 0), coalesce(g.blocked_by, ''),
       case when g.blocked_until > pg_catalog.clock_timestamp() then g.blocked_until end
from pushwatch.quota_gate g
left join pushwatch.quota_day d on d.day = (pg_catalog.clock_timestamp() at time zone 'UTC')::date`
	var blocked *time.Time
	err := tx.QueryRow(ctx, q).Scan(&o.Quota.Limit, &o.Quota.Remaining, &o.Quota.Used, &o.Quota.BlockedBy, &blocked)
	if o.Quota.BlockedUntil = timeOf(blocked); blocked == nil {
		o.Quota.BlockedBy = ""
	}
	return err
}

func readProcesses(ctx context.Context, tx pgx.Tx, o *Overview) error {
	const q = `
select holder, bool_or(expires_at >= pg_catalog.clock_timestamp()),
       count(*) filter (where name like 'company/%'), count(*) filter (where name like 'relay/%')
from pushwatch.lease
where holder is not null
group by holder
order by holder`
	rows, err := tx.Query(ctx, q)
	if err != nil {
		return err
	}
	o.Processes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ProcessState])
	return err
}

// Life is everything known of one operation.
type Life struct {
	CompanyID    string     `json:"companyId"`
	CompanyName  string     `json:"companyName"`
	Key          string     `json:"pushOperationKey"`
	ConnectionID string     `json:"connectionId"`
	DataType     string     `json:"dataType"`
	Status       string     `json:"status"`
	Terminal     bool       `json:"terminal"`
	StatusCode   *int64     `json:"statusCode"`
	ErrorMessage *string    `json:"errorMessage"`
	RequestedOn  *time.Time `json:"requestedOn"`
	CompletedOn  *time.Time `json:"completedOn"`
	FirstSeenAt  time.Time  `json:"firstSeenAt"`
	ChangedAt    time.Time  `json:"lastChangedAt"`
	LookedAt     time.Time  `json:"lookedAt"` // start of the look that last wrote the row
	GotAt        *time.Time `json:"gotAt"`
	Versions     int64      `json:"versions"`
	Baseline     bool       `json:"baseline"`
	Flags        []string   `json:"flags"` // what the decoder had to mend
	Disputed     *string    `json:"disputedStatus"`
	DisputedAt   *time.Time `json:"disputedAt"`
	PrunedAt     *time.Time `json:"prunedAt"`
	Pruned       int64      `json:"prunedVersions"`

	Changes []LifeChange `json:"transitions"` // by version
	Aside   []Aside      `json:"quarantine"`
}

// LifeChange is one transition and what became of its event.
type LifeChange struct {
	Version   int64      `json:"version"`
	EventID   string     `json:"eventId"`
	Event     string     `json:"event"`
	Previous  *string    `json:"previousStatus"`
	Status    string     `json:"status"`
	Observed  time.Time  `json:"observedAt"`
	Seen      *time.Time `json:"lastSeenPreviousAt"`
	Source    string     `json:"source"`
	Baseline  bool       `json:"baseline"`
	Sequence  *int64     `json:"streamSequence"`
	Published *time.Time `json:"publishedAt"`
	Rejected  *string    `json:"rejectedClass"`
	DroppedAt *time.Time `json:"droppedAt"`
}

// Lives returns the operations that have key, of one company or, when companyID
// is empty, of every one, with their history.
func (s *Store) Lives(ctx context.Context, companyID, key string) ([]Life, error) {
	const q = `
select o.company_id, coalesce(c.name, ''), o.push_operation_key, o.connection_id, coalesce(o.data_type, ''), o.status,
       o.is_terminal, o.status_code, o.error_message, o.requested_at, o.completed_at, o.first_seen_at, o.last_changed_at,
       o.looked_at, o.got_at, o.versions, o.is_baseline, o.flags, o.disputed_status, o.disputed_at, o.pruned_at,
       o.pruned_versions
from pushwatch.company c
join pushwatch.operation o on o.company_id = c.company_id and o.push_operation_key = $2::text
where $1::text = '' or c.company_id = $1::text
order by o.company_id`
	rows, err := s.pool.Query(ctx, q, companyID, key)
	if err != nil {
		return nil, fmt.Errorf("read operation %s: %w", key, err)
	}
	lives, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Life, error) {
		l := Life{Changes: []LifeChange{}, Aside: []Aside{}}
		err := row.Scan(&l.CompanyID, &l.CompanyName, &l.Key, &l.ConnectionID, &l.DataType, &l.Status, &l.Terminal, &l.StatusCode,
			&l.ErrorMessage, &l.RequestedOn, &l.CompletedOn, &l.FirstSeenAt, &l.ChangedAt, &l.LookedAt, &l.GotAt, &l.Versions,
			&l.Baseline, &l.Flags, &l.Disputed, &l.DisputedAt, &l.PrunedAt, &l.Pruned)
		inUTC(l.RequestedOn, l.CompletedOn, &l.FirstSeenAt, &l.ChangedAt, &l.LookedAt, l.GotAt, l.DisputedAt, l.PrunedAt)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read operation %s: %w", key, err)
	}
	for i := range lives {
		if err := s.history(ctx, &lives[i]); err != nil {
			return nil, fmt.Errorf("read the history of operation %s: %w", key, err)
		}
	}
	return lives, nil
}

func (s *Store) history(ctx context.Context, l *Life) error {
	const q = `
select t.version, t.event_id, t.event, t.previous_status, t.status, t.observed_at, t.last_seen_previous_at, t.source,
       t.is_baseline, p.stream_sequence, p.published_at, w.rejected_class, d.dropped_at
from pushwatch.transition t
left join pushwatch.publication p on p.company_id = t.company_id
     and p.push_operation_key = t.push_operation_key and p.version = t.version
left join pushwatch.outbox w on w.company_id = t.company_id
     and w.push_operation_key = t.push_operation_key and w.version = t.version
left join pushwatch.dropped_event d on d.company_id = t.company_id
     and d.push_operation_key = t.push_operation_key and d.version = t.version
where t.company_id = $1::text and t.push_operation_key = $2::text
order by t.version`
	rows, err := s.pool.Query(ctx, q, l.CompanyID, l.Key)
	if err != nil {
		return err
	}
	l.Changes, err = pgx.AppendRows(l.Changes, rows, func(row pgx.CollectableRow) (LifeChange, error) {
		c, err := pgx.RowToStructByPos[LifeChange](row)
		inUTC(&c.Observed, c.Seen, c.Published, c.DroppedAt)
		return c, err
	})
	if err != nil {
		return err
	}
	return s.EachAside(ctx, AsideFilter{CompanyID: l.CompanyID, Key: l.Key}, 0, func(a Aside) error {
		l.Aside = append(l.Aside, a)
		return nil
	})
}

// inUTC moves what a row holds to UTC, where it holds anything.
func inUTC(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = t.UTC()
		}
	}
}
