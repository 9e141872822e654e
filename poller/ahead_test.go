package poller

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// pages is a source whose list has so many pages.
type pages struct {
	Source
	last  int
	asked int
	err   error // on the last one
	panic any   // there
}

func (s *pages) Walk(ctx context.Context, list push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		for number := 1; number <= s.last; number++ {
			s.asked++
			switch {
			case ctx.Err() != nil:
				yield(push.Page{}, ctx.Err())
				return
			case number == s.last && s.panic != nil:
				panic(s.panic)
			case number == s.last && s.err != nil:
				yield(push.Page{}, s.err)
				return
			case !yield(push.Page{Number: number}, nil):
				return
			}
		}
	}
}

func ahead(s *pages) *Poller { return &Poller{config: Config{Source: s}} }

func TestOnePageIsReadAheadAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &pages{last: 5}
		var numbers []int
		for page, err := range ahead(s).ahead(t.Context(), push.ListWalk{}) {
			require.NoError(t, err)
			synctest.Wait()
			numbers = append(numbers, page.Number)
			assert.Equal(t, min(page.Number+1, 5), s.asked)
		}
		assert.Equal(t, []int{1, 2, 3, 4, 5}, numbers)
	})
}

func TestWhoStopsReadingAheadAsksForNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &pages{last: 5}
		for range ahead(s).ahead(t.Context(), push.ListWalk{}) {
			break
		}
		synctest.Wait()
		assert.LessOrEqual(t, s.asked, 2)
	})
}

func TestWhatGoesWrongAheadIsToldInItsTurn(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		source *pages
		want   func(error)
	}{
		"an error": {&pages{last: 3, err: refused}, func(err error) { assert.ErrorIs(t, err, refused) }},
		"a panic": {&pages{last: 3, panic: "boom"}, func(err error) {
			var panicked *panicError
			assert.ErrorAs(t, err, &panicked)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			read := 0
			for page, err := range ahead(c.source).ahead(t.Context(), push.ListWalk{CompanyID: "c"}) {
				if read++; read < 3 {
					require.NoError(t, err)
					require.Equal(t, read, page.Number)
					continue
				}
				c.want(err)
			}
			assert.Equal(t, 3, read)
		})
	}
}

func TestAWalkThatIsCalledOffSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range ahead(&pages{last: 5}).ahead(ctx, push.ListWalk{}) {
		cancel()
		last = err
	}
	assert.ErrorIs(t, last, context.Canceled)
}
