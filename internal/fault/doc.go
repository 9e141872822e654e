// Package fault lets a test build of pushwatch die at a named point and leave out
// a named mechanism, so that a test can show two things: that a crash at the worst
// moment loses nothing, and that the test which says so would notice if the
// mechanism were missing.
//
// It guarantees that a build without the tag "faults", so every build that is
// shipped, has neither: its functions are constants that the compiler removes,
// and no variable of the environment reaches them.
//
// A build with the tag reads two variables:
//
//	FAULTS_POINT=name:n          kill -9 of this process when it passes the point for the nth time
//	FAULTS_OFF=mechanism,...     work without these mechanisms
package fault

// The points at which a build with faults can die, in the order of a change's way.
const (
	Answered       = "answered"        // an HTTP answer was read, nothing of it is kept
	BeforeCommit   = "before-commit"   // a look is written, its transaction not committed
	AfterCommit    = "after-commit"    // the look is committed, nobody was told
	Published      = "published"       // messages are sent, no acknowledgement was read
	Acknowledged   = "acknowledged"    // they are acknowledged, nothing is recorded
	CommittingSent = "committing-sent" // the record of that is written, its transaction not committed
	RenewingLease  = "renewing-lease"  // leases are renewed, the transaction not committed
	Migrating      = "migrating"       // one migration is applied, others are pending
)

// Points lists every point.
var Points = []string{Answered, BeforeCommit, AfterCommit, Published, Acknowledged, CommittingSent, RenewingLease, Migrating}

// The mechanisms that a build with faults can work without.
const (
	Adoption         = "adoption"          // a database goes on behind what it does not know in the stream
	BodyLimit        = "body-limit"        // bodies are read up to a limit
	BoundedBatch     = "bounded-batch"     // the outbox is read in batches
	BucketLease      = "bucket-lease"      // a relay publishes the buckets that it holds, and no others
	Dispute          = "dispute"           // a terminal status that reads differently is asked again
	ExpectedSequence = "expected-sequence" // an event is stored right behind the one before it, or not at all
	Fence            = "fence"             // a write under a lost lease is refused
	FullIsWaiting    = "full-is-waiting"   // events wait while the stream is full
	MigrationLock    = "migration-lock"    // one process migrates at a time
	OneCommit        = "one-commit"        // a transition and its event commit together
	Overlap          = "overlap"           // a walk goes down to what was there at the last one, and five minutes more
	Pause            = "pause"             // a 429 stops all requests until its end
	ReadBack         = "read-back"         // an unclear publication is resolved by reading the stream
	Release          = "release"           // a graceful stop gives leases back
	Retry            = "retry"             // what cannot be published is tried again
	SetAside         = "set-aside"         // an event that can never be published gives way to others
	Stale            = "stale"             // a look that began before the one that wrote the row changes nothing
	StateReader      = "state-reader"      // the outbox is read by state, not up to the oldest open transaction
	TailAudit        = "tail-audit"        // the stream's tail is compared with what was published
	Takeover         = "takeover"          // leases that ended are taken over
	UnfinishedWalk   = "unfinished-walk"   // what an interrupted walk recorded proves nothing
	Watchdog         = "watchdog"          // embedded servers that are ill are started again
)
