package publisher

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadingAnEmptyStreamTellsNothing(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	ensure(t, nc)
	assert.Empty(t, readAll(t, nc))
}

func TestReadingAStreamThatIsNotThereIsAnError(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	err := ReadAll(t.Context(), nc, "CODAT_PUSH", func(StoredMessage) error { return nil })
	assert.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestReadingEndsWithWhatWasLastWhenItBegan(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(5, 1)
	r := newRelay(t, s, o)
	drain(t, r, o)
	var seen []uint64

	err := ReadAll(t.Context(), nc, s.Name(), func(m StoredMessage) error {
		seen = append(seen, m.Sequence)
		o.fill(5, 1)
		drain(t, r, o)
		return nil
	})

	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2, 3, 4, 5}, seen)
}

// deletable publishes n operations to a stream whose messages may be deleted.
func deletable(t *testing.T, n int) (*nats.Conn, jetstream.Stream, *outbox) {
	nc := dial(t, startBroker(t).url())
	c := streamConfig().wanted()
	c.DenyDelete = false
	stream, err := api(t, nc).CreateStream(t.Context(), c)
	require.NoError(t, err)
	o := newOutbox()
	o.fill(n, 1)
	drain(t, newRelay(t, &JetStream{nc: nc, js: api(t, nc), want: c}, o), o)
	return nc, stream, o
}

func TestReadingStepsOverGaps(t *testing.T) {
	nc, stream, o := deletable(t, 5)
	for _, sequence := range []uint64{1, 3, 5} {
		require.NoError(t, stream.DeleteMsg(t.Context(), sequence))
	}

	messages := readAll(t, nc)

	require.Len(t, messages, 2)
	assert.Equal(t, uint64(2), messages[0].Sequence)
	assert.Equal(t, uint64(4), messages[1].Sequence)
	assert.Equal(t, o.rows[1].ID, messages[0].ID)
	assert.Equal(t, o.rows[1].Data, messages[0].Data)
	assert.False(t, messages[0].Time.IsZero())
}

// TestReadingBringsEachMessageOnceInOrder over windows that are full, empty and
// begin or end in a gap.
func TestReadingBringsEachMessageOnceInOrder(t *testing.T) {
	nc, stream, _ := deletable(t, 4*readAhead)
	var want, got []uint64
	for sequence := uint64(1); sequence <= 4*readAhead; sequence++ {
		switch {
		case sequence < 3, sequence > readAhead-5 && sequence < 3*readAhead+5, sequence%7 == 0:
			require.NoError(t, stream.DeleteMsg(t.Context(), sequence))
		default:
			want = append(want, sequence)
		}
	}
	for _, m := range readAll(t, nc) {
		got = append(got, m.Sequence)
	}
	assert.Equal(t, want, got)
}

func TestReadingEndsWithTheCallersError(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(5, 1)
	drain(t, newRelay(t, s, o), o)
	enough, n := errors.New("enough"), 0

	err := ReadAll(t.Context(), nc, s.Name(), func(StoredMessage) error { n++; return enough })

	assert.Equal(t, enough, err)
	assert.Equal(t, 1, n)
}

// What the relay decides by: the last message over all subjects of one
// operation, and never another operation's.
func TestTheLastMessageOfAFilterIsThatOfTheOperation(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.add("company", "key", "pending")
	newest := o.add("company", "key", "success")
	o.add("company", "key.other", "pending")
	o.add("company2", "key", "pending")
	drain(t, newRelay(t, s, o), o)

	m, err := last(t.Context(), s, newest.Filter)

	require.NoError(t, err)
	require.NotNil(t, m)
	assert.Equal(t, newest.ID, m.ID)
	assert.Equal(t, newest.sequence, m.Sequence)
	m, err = last(t.Context(), s, "codat.push.company.invoices.nothing.*")
	require.NoError(t, err)
	assert.Nil(t, m)
}
