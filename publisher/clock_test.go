package publisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A machine that slept, and its clock with it, takes what left the stream by its
// age meanwhile for young. Whether it is, the database's clock must say.
func TestAClockThatStoodStillBringsNothingBackThatLeftByItsAge(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	c := streamConfig()
	c.MaxAge = time.Second
	s, _, err := EnsureStream(t.Context(), nc, c)
	require.NoError(t, err)
	o := newOutbox()
	first := o.add("company", "key", "pending")
	asleep := time.Now()
	r := newRelay(t, s, o, func(c *Config) { c.Now = func() time.Time { return asleep } })
	drain(t, r, o)
	require.Eventually(t, func() bool { return len(readAll(t, nc)) == 0 }, 10*time.Second, 50*time.Millisecond, "it has left by its age")
	second := o.add("company", "key", "success")

	drain(t, r, o)

	messages := readAll(t, nc)
	require.Len(t, messages, 1)
	assert.Equal(t, second.ID, messages[0].ID)
	assert.NotEqual(t, first.sequence, messages[0].Sequence)
}

// What was stored but never recorded, because the process died in between, is found
// there later. It leaves the stream as if it had been recorded at once.
func TestAnEventThatIsFoundLateIsRecordedAsOfWhenItWasStored(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.add("company", "key", "pending")
	o.arm(o.before, "Sent", 1)
	r := newRelay(t, s, o)
	_, err := r.RunOnce(t.Context())
	require.ErrorIs(t, err, errFault)
	later := time.Now().Add(5 * time.Hour)
	o.now = func() time.Time { return later }

	drain(t, r, o)

	messages := readAll(t, nc)
	require.Len(t, messages, 1)
	assert.Equal(t, messages[0].Time, o.rows[0].at)
}
