package chaos

import "github.com/pushwatch/pushwatch/internal/fault"

// The forms, by the index of a row's counts.
const (
	short   = iota // inside go test
	ten            // make chaos: ten minutes on two cores
	nightly        // the counts of the fault matrix
)

var forms = map[string]int{"short": short, "chaos": ten, "nightly": nightly}

// row is one line of the fault matrix.
type row struct {
	id        string
	title     string
	counts    [3]int // how often the fault strikes, by form; 0: not in that form
	mutant    int    // how often in the mutation check
	mechanism string // what the row guards, of package fault
	run       func(*trial) verdict
}

// rows is the fault matrix, in its order.
var rows = []row{
	{"C1", "kill -9 at random moments", [3]int{100, 100, 5000}, 100, fault.ExpectedSequence, killsAtRandom},
	{"C2", "kill -9 at each fail point", [3]int{8, 64, 400}, 16, fault.OneCommit, killsAtPoints},
	{"C3", "kill -9 of any of 4 replicas", [3]int{0, 40, 500}, 6, fault.Takeover, killsOfReplicas},
	{"C4", "kill -9 of the whole embedded program", [3]int{0, 0, 500}, 20, fault.OneCommit, killsOfEverything},
	{"C5", "PostgreSQL killed, or stopped at once", [3]int{2, 20, 200}, 3, fault.Retry, crashesOfPostgres},
	{"C8", "first acknowledgements lost", [3]int{200, 1000, 10000}, 300, fault.ReadBack + "," + fault.ExpectedSequence, lostAcknowledgements},
	{"C9", "COMMIT or its answer lost", [3]int{30, 150, 1000}, 300, fault.ExpectedSequence, lostCommits},
	{"C10", "partitions of every kind", [3]int{0, 0, 300}, 12, fault.ReadBack, partitions},
	{"C11", "NATS away while events pile up", [3]int{0, 0, 3}, 1, fault.BoundedBatch, backlogs},
	{"C12", "SIGSTOP for longer than a lease", [3]int{0, 8, 100}, 4, fault.Fence, pausedReplicas},
	{"C13", "two relays on every bucket", [3]int{500, 4000, 10000}, 500, fault.ExpectedSequence, racingRelays},
	{"C15", "429 storms", [3]int{6, 24, 1000}, 6, fault.Pause, storms},
	{"C17", "answers that are none, of six kinds", [3]int{2, 25, 500}, 10, fault.BodyLimit, bodies},
	{"C18", "pages that drift while they are read", [3]int{0, 40, 1000}, 12, fault.Overlap + "," + fault.UnfinishedWalk, drift},
	{"C19", "statuses that go back, flap and clash", [3]int{0, 0, 1000}, 100, fault.Dispute, lies},
	{"C20", "stream full, then room", [3]int{1, 10, 50}, 2, fault.FullIsWaiting, fullStreams},
	{"C21", "disk full under NATS, PostgreSQL, both", [3]int{0, 0, 60}, 2, fault.Watchdog, fullDisks},
	{"C22", "stream purged, deleted, made anew, changed", [3]int{0, 8, 20}, 4, fault.TailAudit, lostStreams},
	{"C23", "the broker takes smaller messages than events", [3]int{0, 0, 10}, 1, fault.SetAside, smallMessages},
	{"C26", "an older or a fresh database beside the stream", [3]int{0, 0, 20}, 4, fault.Adoption, lostDatabases},
	{"C27", "a foreign transaction stays open", [3]int{0, 0, 3}, 1, fault.StateReader, foreignTransactions},
	{"C29", "SIGTERM at random moments", [3]int{0, 0, 500}, 20, fault.Release, terminations},
	{"C31", "migrations interrupted, two at once", [3]int{0, 0, 100}, 10, fault.MigrationLock, migrations},
	{"C32", "bytes of the broker's store flipped or cut", [3]int{0, 0, 200}, 10, fault.TailAudit, damagedStores},
}
