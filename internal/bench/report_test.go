package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestRatiosAreTakenInsideOneRepetition(t *testing.T) {
	r := &report{Measurements: []measured{{Name: "publish"}, {Name: "publish-bare"}, {Name: "relay-first"}}}
	r.add(samples{"publish": 100, "publish-bare": 100, "relay-first": 50})
	r.add(samples{"publish": 10, "publish-bare": 10, "relay-first": 9})
	r.add(samples{"publish": 1000, "publish-bare": 500, "relay-first": 700})
	r.compare()
	require.Len(t, r.Ratios, 4)
	c := r.Ratios[0]
	assert.Equal(t, "relay-first", c.Name)
	assert.InDeltaSlice(t, []float64{0.5, 0.9, 0.7}, c.Samples, 1e-9)
	assert.InDelta(t, 0.7, c.Median, 1e-9)
	assert.InDelta(t, 0.5, c.Min, 1e-9)
	assert.InDelta(t, 0.9, c.Max, 1e-9)
	assert.Equal(t, "reached", c.verdict())
	peer := r.Ratios[2]
	assert.Equal(t, "relay-watermill", peer.Name)
	assert.InDelta(t, 0.7/0.058, peer.Median, 1e-9)
	assert.Equal(t, "at least 10", peer.wanted())
	assert.Equal(t, "reached", peer.verdict())
}

func TestTheMedianOfAnEvenNumberLiesBetweenTheMiddleOnes(t *testing.T) {
	s := spread{Samples: []float64{4, 1, 3, 2}}
	s.summarise()
	assert.InDelta(t, 2.5, s.Median, 1e-9)
}

func TestWhatMissesItsTargetSaysByHowMuch(t *testing.T) {
	for name, c := range map[string]struct {
		comparison comparison
		median     float64
		wanted     string
		verdict    string
	}{
		"at least, reached": {comparison{target: 0.75}, 0.8, "at least 0.75", "reached"},
		"at least, missed":  {comparison{target: 0.5}, 0.4, "at least 0.5", "missed by 20 %"},
		"at most, reached":  {comparison{target: 80, most: true}, 80, "at most 80", "reached"},
		"at most, missed":   {comparison{target: 5, most: true}, 6, "at most 5", "missed by 20 %"},
	} {
		got := compared{Target: judged(c.comparison, c.median)}
		assert.Equal(t, c.wanted, got.wanted(), name)
		assert.Equal(t, c.verdict, got.verdict(), name)
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for x, want := range map[float64]string{
		0.0384: "0.038", 0.7: "0.7", 1: "1", 2.456: "2.46", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567", 0: "0",
	} {
		assert.Equal(t, want, number(x), "%v", x)
	}
}

func TestTheP99OfFewValuesIsTheirLargest(t *testing.T) {
	values := []time.Duration{1, 2, 3}
	assert.Equal(t, time.Duration(3), quantile(values, 0.99))
	assert.Equal(t, time.Duration(2), quantile(values, 0.5))
}

func TestATenthOfTheHistoryChanges(t *testing.T) {
	h := history{salt: "a", size: 25, newest: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	before, after := h.operations(false), h.operations(true)
	changed := 0
	for i := range before {
		assert.Equal(t, before[i].Key, after[i].Key)
		assert.Equal(t, push.Success, after[i].Status)
		if before[i].Status != after[i].Status {
			changed++
		}
	}
	assert.Equal(t, h.changed(), changed)
	assert.NotEqual(t, before[0].Key, history{salt: "b"}.key(0))
	assert.Len(t, before[0].Key, 36)
}

func TestThePlotShowsEveryRatioOfItsPanels(t *testing.T) {
	r := &report{}
	for _, c := range comparisons() {
		got := compared{Name: c.name, spread: spread{Samples: []float64{c.target}, Median: c.target / 2}}
		if !c.told {
			got.Target = judged(c, got.Median)
		}
		r.Ratios = append(r.Ratios, got)
	}
	picture, err := r.plot()
	require.NoError(t, err)
	assertPicture(t, picture)
}
