package publisher

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
)

func TestSubjectsCoverThePrefix(t *testing.T) {
	for name, c := range map[string]struct {
		subjects []string
		want     bool
	}{
		"the same":                     {[]string{"codat.push.>"}, true},
		"wider":                        {[]string{"codat.>"}, true},
		"everything":                   {[]string{">"}, true},
		"a wildcard for a token":       {[]string{"*.push.>"}, true},
		"one of several":               {[]string{"orders.*", "codat.push.>"}, true},
		"none":                         {nil, false},
		"another":                      {[]string{"codat.pull.>"}, false},
		"narrower":                     {[]string{"codat.push.company.>"}, false},
		"of fixed depth":               {[]string{"codat.push.*.*.*.*"}, false},
		"the prefix, nothing below it": {[]string{"codat.push"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, covered("codat.push.>", c.subjects))
		})
	}
}

func TestFiltersOverlap(t *testing.T) {
	for name, c := range map[string]struct {
		a    string
		want bool
	}{
		"no filter":           {"", true},
		"the same":            {"codat.push.>", true},
		"everything":          {">", true},
		"a company of it":     {"codat.push.company.>", true},
		"a wildcard token":    {"codat.*.company", true},
		"another":             {"orders.>", false},
		"the prefix itself":   {"codat.push", false},
		"another second word": {"codat.pull.*", false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, overlap(c.a, "codat.push.>"))
			assert.Equal(t, c.want, overlap("codat.push.>", c.a))
		})
	}
}

func TestASourceIsDangerousWhereItMayBringMessagesBelowThePrefix(t *testing.T) {
	transform := func(source, destination string) *jetstream.StreamSource {
		return &jetstream.StreamSource{Name: "S", SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: source, Destination: destination}}}
	}
	for name, c := range map[string]struct {
		source *jetstream.StreamSource
		want   bool
	}{
		"unfiltered":                         {&jetstream.StreamSource{Name: "S"}, true},
		"filtered to it":                     {&jetstream.StreamSource{Name: "S", FilterSubject: "codat.push.a.>"}, true},
		"filtered to others":                 {&jetstream.StreamSource{Name: "S", FilterSubject: "orders.>"}, false},
		"transformed to it":                  {transform("orders.*", "codat.push.{{wildcard(1)}}"), true},
		"transformed to what may be it":      {transform("*.*.*", "{{wildcard(1)}}.push.$3"), true},
		"transformed to others":              {transform("codat.push.*", "orders.{{wildcard(1)}}"), false},
		"a filter among the transforms":      {transform("codat.push.>", ""), true},
		"another filter among the transform": {transform("orders.>", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, brings(c.source, "codat.push.>"))
		})
	}
}

func TestDurationsAreSpeltAsPeopleTypeThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		720 * time.Hour: "720h", 10 * time.Minute: "10m", 90 * time.Minute: "1h30m", 0: "0s",
		100 * time.Millisecond: "100ms", 30 * time.Second: "30s", time.Hour + time.Second: "1h0m1s",
	} {
		assert.Equal(t, want, spell(d))
	}
}
