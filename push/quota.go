package push

import "time"

// Quota is the ledger of requests that all replicas share: one UTC day's row and
// the gate that stands before every request. The rule that reads and changes it
// is the poller's; the store locks it while the rule runs.
type Quota struct {
	Day       time.Time // the UTC day, at 00:00
	Limit     *int      // as last answered on that day; nil before the first answer
	Remaining *int      // likewise
	Used      int       // requests that pushwatch sent or was about to send
	UsedWalks int       // those of them that were made for baselines and sweeps

	NextSlot     time.Time // the minute's bucket: when the next request would fit without any burst
	BlockedUntil time.Time // nobody asks before; zero or past when asking is allowed
	BlockedBy    Kind      // why; empty when nothing blocks
}
