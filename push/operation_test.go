package push_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
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

// Every field counts, also one that is added later.
func TestFingerprintTellsEveryFieldThatThereIs(t *testing.T) {
	var o push.Operation // whose pointers are all different
	encoded, err := json.Marshal(operation())
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, &o))
	seen := map[string]string{string(o.Fingerprint()): "nothing"}
	variations(reflect.ValueOf(&o).Elem(), "Operation", func(field string) {
		print := string(o.Fingerprint())
		assert.Empty(t, seen[print], "%s is not told from the other", field)
		seen[print] = field
	})
	require.Greater(t, len(seen), 25)
	assert.Equal(t, operation(), o, "everything is as it was")
}

// variations changes one field after the other, tells each time, and changes it back.
func variations(v reflect.Value, name string, changed func(string)) {
	try := func(how string, other reflect.Value) {
		was := reflect.New(v.Type()).Elem()
		was.Set(v)
		v.Set(other)
		changed(name + how)
		v.Set(was)
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		try("", reflect.ValueOf(v.Interface().(time.Time).Add(time.Microsecond)))
	case v.Kind() == reflect.String:
		try("", reflect.ValueOf(v.String()+"x").Convert(v.Type()))
	case v.Kind() == reflect.Int:
		try("", reflect.ValueOf(int(v.Int())+1))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			variations(v.Field(i), name+"."+v.Type().Field(i).Name, changed)
		}
	case v.Kind() == reflect.Pointer && v.IsNil():
		try(" there", reflect.New(v.Type().Elem()))
	case v.Kind() == reflect.Pointer:
		try(" not there", reflect.Zero(v.Type()))
		variations(v.Elem(), name, changed)
	case v.Kind() == reflect.Slice:
		try(" longer", reflect.Append(v.Slice3(0, v.Len(), v.Len()), reflect.Zero(v.Type().Elem())))
		for i := range v.Len() {
			variations(v.Index(i), fmt.Sprintf("%s[%d]", name, i), changed)
		}
	default:
		panic("no variation of " + name)
	}
}

func TestFingerprintOfEqualOperationsIsEqual(t *testing.T) {
	assert.Equal(t, operation().Fingerprint(), operation().Fingerprint(), "though their pointers differ")
	extreme := operation()
	extreme.RequestedOn = push.Time(time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("west", -12*3600)))
	assert.NotPanics(t, func() { extreme.Fingerprint() }, "a normalised time can always be encoded")
}
