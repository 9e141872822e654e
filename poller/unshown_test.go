package poller

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// newTrackBench returns a bench with due operations that lie on no first page, the
// youngest first: bad ones, of which every get fails with err, and good ones.
func newTrackBench(t *testing.T, bad, good int, err error) *bench {
	b := newBench(t, 10)
	b.codat.getFails = map[string]error{}
	for i := range bad + good {
		key := fmt.Sprintf("good-%d", i)
		if i < bad {
			key = fmt.Sprintf("bad-%d", i)
			b.codat.getFails[key] = err
		}
		b.codat.getOther[key] = push.Operation{CompanyID: "c", Key: key, Status: push.Pending}
		b.store.due = append(b.store.due, push.Due{CompanyID: "c", Key: key, RequestedOn: midday.Add(-time.Hour)})
	}
	return b
}

// track runs one track tick and returns which keys were asked for, in order of
// their names.
func (b *bench) track() ([]string, error) {
	b.codat.gets = nil
	_, err := b.poller.Track(b.Context())
	return slices.Sorted(slices.Values(b.codat.gets)), err
}

func askFailed(kind push.Kind) error {
	return &push.AskError{Ask: push.Ask{Request: push.GetOperation, CompanyID: "c"}, Kind: kind}
}

func TestAnOperationThatCannotBeShownHurtsNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		fails bool // the run: somebody must look into it
	}{
		"gone at Codat":            {askFailed(push.KindNotFound), false},
		"a record set aside":       {nil, false},
		"too large":                {askFailed(push.KindTooLarge), true},
		"a key that no path takes": {askFailed(push.KindRefused), true},
		"no operation":             {askFailed(push.KindMalformed), true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTrackBench(t, 8, 4, c.err)
			asked, err := b.track()
			assert.Len(t, asked, 12)
			assert.Equal(t, c.fails, err != nil, "%v", err)
			assert.Len(t, b.store.rows, 4)

			asked, err = b.track()
			require.NoError(t, err)
			assert.Equal(t, []string{"good-10", "good-11", "good-8", "good-9"}, asked, "not at every tick: an hour old, it waits for six minutes")
			b.store.due[0].Disputed = true
			asked, _ = b.track()
			assert.Contains(t, asked, "bad-0", "the disputed one is asked at every tick")
			for range 15 * 60 {
				b.codat.now() // a second each
			}
			asked, _ = b.track()
			assert.Len(t, asked, 12)

			clear(b.codat.getFails)
			b.codat.gone = nil
			for range 15 * 60 {
				b.codat.now()
			}
			asked, err = b.track()
			require.NoError(t, err)
			assert.Len(t, asked, 12)
			asked, err = b.track()
			require.NoError(t, err)
			assert.Len(t, asked, 12, "one that was shown is asked like any other")
		})
	}
}

func TestWhatMayBeTheServersFaultIsTriedLastAtTheNextTick(t *testing.T) {
	for _, kind := range []push.Kind{push.KindUnavailable, push.KindTransport, push.KindRedirected} {
		b := newTrackBench(t, 8, 4, askFailed(kind))
		asked, err := b.track()
		require.Error(t, err)
		assert.GreaterOrEqual(t, len(asked), giveUp)
		assert.Less(t, len(asked), giveUp+getsAtOnce, "when three have failed the rest waits")
		for range 3 {
			_, err = b.track()
			require.Error(t, err)
		}
		assert.Len(t, b.store.rows, 4, "those that can be shown were, whatever stands before them")
	}
}

func TestWhatConcernsTheWholeClientIsNotTriedWithOtherOperations(t *testing.T) {
	for _, err := range []error{askFailed(push.KindUnauthorised), askFailed(push.KindQuota), errors.New("no database")} {
		b := newTrackBench(t, 8, 4, err)
		asked, _ := b.track()
		assert.LessOrEqual(t, len(asked), getsAtOnce)
		again, _ := b.track()
		assert.NotEmpty(t, again)
		assert.Subset(t, []string{"bad-0", "bad-1", "bad-2", "bad-3"}, again, "and nobody is blamed for it")
	}
}

func TestAListThatFailsLeavesTheGets(t *testing.T) {
	b := newTrackBench(t, 0, 6, nil)
	for i := range b.store.due {
		b.store.due[i].OnFirstPage = true
	}
	b.codat.fail = askFailed(push.KindMalformed)
	asked, err := b.track()
	require.Error(t, err)
	assert.Len(t, asked, 6)
}

func TestWhatIsNotDueAnyMoreIsForgotten(t *testing.T) {
	b := newTrackBench(t, 3, 0, askFailed(push.KindNotFound))
	_, err := b.track()
	require.NoError(t, err)
	assert.Len(t, b.poller.unshown.asked, 3)
	b.store.due = b.store.due[:1]
	_, err = b.track()
	require.NoError(t, err)
	assert.Len(t, b.poller.unshown.asked, 1)
}
