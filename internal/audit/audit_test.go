package audit

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReportCountsEachKindOfDamageByItself(t *testing.T) {
	one, two := Operation{"c", "1"}, Operation{"c", "2"}
	sound := func(a *Audit) {
		a.Truth(one, "Success")
		a.Truth(two, "Pending")
		a.Stored(one, "Success")
		a.Stored(two, "Pending")
		for _, id := range []string{"1-1", "1-2", "2-1"} {
			a.Transition(id)
		}
	}
	stream := func(a *Audit) {
		a.Message(one, 1, "1-1")
		a.Message(two, 1, "2-1")
		a.Message(one, 2, "1-2")
	}
	cases := []struct {
		name string
		feed func(*Audit)
		want Report
	}{
		{"a sound history has four zeros", func(a *Audit) { sound(a); stream(a) },
			Report{Operations: 2, Changes: 3, Published: 3}},
		{"a transition without a message is lost", func(a *Audit) {
			sound(a)
			a.Message(one, 1, "1-1")
			a.Message(one, 2, "1-2")
		}, Report{Operations: 2, Changes: 3, Published: 2, Lost: 1}},
		{"a stored status that is not the truth's is lost", func(a *Audit) {
			sound(a)
			stream(a)
			a.Truth(two, "Failed")
		}, Report{Operations: 2, Changes: 3, Published: 3, Lost: 1}},
		{"an operation that was never stored is lost", func(a *Audit) {
			sound(a)
			stream(a)
			a.Truth(Operation{"c", "3"}, "Pending")
		}, Report{Operations: 3, Changes: 3, Published: 3, Lost: 1}},
		{"a dropped event is a gap that is no damage", func(a *Audit) {
			sound(a)
			a.Dropped(one, 1, "1-1")
			a.Message(two, 1, "2-1")
			a.Message(one, 2, "1-2")
		}, Report{Operations: 2, Changes: 3, Published: 2}},
		{"messages of pruned changes are known, and need not be there", func(a *Audit) {
			sound(a)
			stream(a)
			pruned := Operation{"c", "pruned"}
			a.Forgotten(pruned, 2)
			a.Message(pruned, 2, "p-2")
			a.Transition("p-3")
			a.Message(pruned, 3, "p-3")
		}, Report{Operations: 2, Changes: 4, Published: 5}},
		{"a message beyond what was pruned is unknown", func(a *Audit) {
			sound(a)
			stream(a)
			pruned := Operation{"c", "pruned"}
			a.Forgotten(pruned, 1)
			a.Message(pruned, 1, "p-1")
			a.Message(pruned, 2, "p-2")
		}, Report{Operations: 2, Changes: 3, Published: 5, Unknown: 1}},
		{"a second message of an event is a duplicate", func(a *Audit) { sound(a); stream(a); a.Message(one, 1, "1-1") },
			Report{Operations: 2, Changes: 3, Published: 4, Duplicated: 1}},
		{"a later version first is out of order, and so is what it overtook", func(a *Audit) {
			sound(a)
			a.Message(one, 2, "1-2")
			a.Message(one, 1, "1-1")
			a.Message(two, 1, "2-1")
		}, Report{Operations: 2, Changes: 3, Published: 3, OutOfOrder: 2}},
		{"messages that are no events are unknown", func(a *Audit) {
			sound(a)
			stream(a)
			a.Foreign("message 4 of the stream")
			a.Foreign("message 5 of the stream")
		}, Report{Operations: 2, Changes: 3, Published: 5, Unknown: 2}},
		{"a message of no transition is unknown", func(a *Audit) { sound(a); stream(a); a.Message(two, 2, "2-2") },
			Report{Operations: 2, Changes: 3, Published: 4, Unknown: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := New()
			c.feed(a)
			got := a.Report()
			for kind, want := range map[int][]string{c.want.Duplicated: got.Examples.Duplicated,
				c.want.OutOfOrder: got.Examples.OutOfOrder, c.want.Unknown: got.Examples.Unknown} {
				if kind > 0 {
					assert.Len(t, want, kind)
				}
			}
			got.Examples = Examples{}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want.Lost+c.want.Duplicated+c.want.OutOfOrder+c.want.Unknown == 0, a.Report().Sound())
		})
	}
}

func TestWhatMayBeMissingFromTheStreamIsNotLost(t *testing.T) {
	op := Operation{"c", "1"}
	a := New()
	a.Aged(op, 1, "1-1")
	a.Transition("1-2")
	a.Waiting("1-3")
	a.Message(op, 2, "1-2")
	assert.True(t, a.Report().Sound(), "the first left by its age, the third is not published yet")

	a = New()
	a.Aged(op, 1, "1-1")
	a.Transition("1-2")
	a.Transition("1-3")
	a.Message(op, 3, "1-3")
	got := a.Report()
	assert.Equal(t, []string{"1-2"}, got.Examples.Lost)
	assert.Equal(t, []string{"1-3"}, got.Examples.OutOfOrder)
}

func TestWhatIsStillToBePublishedIsCounted(t *testing.T) {
	op := Operation{"c", "1"}
	a := New()
	a.Dropped(op, 1, "1-1")
	a.Message(op, 2, "1-2")
	for _, id := range []string{"1-1", "1-2", "1-4"} {
		a.Waiting(id) // the second was published meanwhile
	}
	a.SetAside("1-3")
	got := a.Report()
	assert.True(t, got.Sound())
	assert.Equal(t, Report{Changes: 4, Published: 1, Waiting: 1, Aside: 1}, got)
}

func TestTheLastLineOfTheDemo(t *testing.T) {
	r := Report{Operations: 5, Changes: 7, Published: 7, Lost: 1, Duplicated: 2, OutOfOrder: 3}
	assert.Equal(t, "operations 5, changes 7, published 7, lost 1, duplicated 2, out of order 3", r.String())
}
