package push_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/push"
)

func TestTimeIsUTCInWholeMicroseconds(t *testing.T) {
	east := time.FixedZone("east", 5*3600+1800)
	for _, c := range []struct {
		name string
		in   time.Time
		want time.Time
	}{
		{"seven digits are cut, not rounded", time.Date(2023, 3, 21, 17, 17, 58, 923536899, time.UTC), time.Date(2023, 3, 21, 17, 17, 58, 923536000, time.UTC)},
		{"the last tick of a year stays in it", time.Date(2023, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(2023, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"an offset becomes UTC", time.Date(2023, 3, 21, 1, 0, 0, 0, east), time.Date(2023, 3, 20, 19, 30, 0, 0, time.UTC)},
		{"the zero time stays zero", time.Time{}, time.Time{}},
		{"zero in another zone is still zero", time.Time{}.In(east), time.Time{}},
		{"the year 9999 ends inside", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"an offset that leads into the year 10000 is unusable", time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -5*3600)), time.Time{}},
		{"a time before the year 1 is unusable", time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC), time.Time{}},
		{"a time before 1970 is cut downwards", time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := push.Time(c.in)
			assert.Equal(t, c.want, got)
			assert.Equal(t, time.UTC, got.Location())
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		in := time.Unix(rapid.Int64Range(math.MinInt32, 253402300799).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))
		got := push.Time(in)
		if got != push.Time(got) || in.Sub(got) >= time.Microsecond || in.Before(got) || got.Nanosecond()%1000 != 0 {
			t.Fatalf("%s became %s", in, got)
		}
		if _, err := got.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
	})
}

func operation() push.Operation {
	text, code, minutes := "no such account", 400, 30
	return push.Operation{
		CompanyID: "c", Key: "k", ConnectionID: "n", DataType: "invoices", Status: push.Failed, StatusCode: &code,
		ErrorMessage: &text, Validation: &push.Validation{Errors: []push.ValidationItem{{Message: &text}}},
		Changes:     []push.Change{{Type: &text, RecordRef: &push.RecordRef{ID: &text}}},
		RequestedOn: time.Unix(1000, 0).UTC(), CompletedOn: time.Unix(2000, 0).UTC(), TimeoutInMinutes: &minutes,
		Flags: []string{"errorMessage:cut"},
	}
}

func TestFingerprintTellsEveryDifference(t *testing.T) {
	other, number := "other", 7
	changes := map[string]func(*push.Operation){
		"connection":     func(o *push.Operation) { o.ConnectionID = other },
		"data type":      func(o *push.Operation) { o.DataType = "" },
		"status":         func(o *push.Operation) { o.Status = "failed" },
		"status code":    func(o *push.Operation) { o.StatusCode = &number },
		"no status code": func(o *push.Operation) { o.StatusCode = nil },
		"error":          func(o *push.Operation) { o.ErrorMessage = &other },
		"no error":       func(o *push.Operation) { o.ErrorMessage = nil },
		"no validation":  func(o *push.Operation) { o.Validation = nil },
		"a warning":      func(o *push.Operation) { o.Validation.Warnings = []push.ValidationItem{{}} },
		"an item's field": func(o *push.Operation) {
			o.Validation.Errors[0] = push.ValidationItem{ItemID: o.Validation.Errors[0].Message}
		},
		"no changes":     func(o *push.Operation) { o.Changes = nil },
		"another change": func(o *push.Operation) { o.Changes[0].RecordRef.DataType = &other },
		"requested":      func(o *push.Operation) { o.RequestedOn = o.RequestedOn.Add(time.Microsecond) },
		"completed":      func(o *push.Operation) { o.CompletedOn = time.Time{} },
		"timeout":        func(o *push.Operation) { o.TimeoutInMinutes = nil },
		"flags":          func(o *push.Operation) { o.Flags = nil },
	}
	seen := map[string]string{string(operation().Fingerprint()): "nothing"}
	for name, change := range changes {
		o := operation()
		change(&o)
		print := string(o.Fingerprint())
		require.Len(t, print, 16)
		assert.Empty(t, seen[print], "%s is not told from the other", name)
		seen[print] = name
	}
}

func TestFingerprintOfEqualOperationsIsEqual(t *testing.T) {
	assert.Equal(t, operation().Fingerprint(), operation().Fingerprint(), "though their pointers differ")
	extreme := operation()
	extreme.RequestedOn = push.Time(time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("west", -12*3600)))
	assert.NotPanics(t, func() { extreme.Fingerprint() }, "a normalised time can always be encoded")
}
