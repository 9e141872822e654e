package event_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

const (
	instance  = "0badcafe"
	companyID = "8a210b68-6988-11ed-a1eb-0242ac120002"
	key       = "b888f774-3e7c-4135-a18c-6b985523c4bc"
)

// The golden files are the contract as subscribers know it: a difference is a
// change of version 1, which may only gain optional keys.
func TestEventsAreSpeltAsInTheGoldenFiles(t *testing.T) {
	cases := goldenEvents()
	for name, e := range cases {
		t.Run(name, func(t *testing.T) {
			message, err := event.Encode(event.DefaultPrefix, dataType(e), e)
			require.NoError(t, err)
			path := goldenFile(name)
			if *update {
				require.NoError(t, os.WriteFile(path, readable(t, message), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "make it with: go test ./event -run Golden -update")
			assert.Equal(t, string(want), string(readable(t, message)))
			assert.Equal(t, compact(t, want), string(message.Data), "bytes of the body")
		})
	}
	files, err := filepath.Glob(goldenFile("*"))
	require.NoError(t, err)
	assert.Len(t, files, len(cases), "golden files without a case")
}

func goldenFile(name string) string { return filepath.Join("testdata", name+".golden") }

// readable spells a message as one text: what NATS sees, a blank line, the body.
func readable(t *testing.T, m event.Message) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "subject: %s\nfilter: %s\n", m.Subject, m.Filter)
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, m.Header[name])
	}
	b.WriteByte('\n')
	require.NoError(t, json.Indent(&b, m.Data, "", "  "))
	b.WriteByte('\n')
	return b.Bytes()
}

// compact returns the body of a golden file as the message holds it.
func compact(t *testing.T, golden []byte) string {
	_, body, found := bytes.Cut(golden, []byte("\n\n"))
	require.True(t, found, "no body")
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, body))
	return b.String()
}

func dataType(e event.Event) string {
	if e.DataType == nil {
		return ""
	}
	return *e.DataType
}

func ptr[T any](v T) *T { return &v }

func at(second int) time.Time {
	return time.Date(2023, 3, 21, 17, 17, second, 923_536_700, time.UTC)
}

// operation returns an operation as Codat shows it, and its event as the store
// completes it.
func operation(status push.Status) push.Operation {
	op := push.Operation{CompanyID: companyID, Key: key, ConnectionID: "2e2eb431-c1fa-4dc9-93fa-d29781c12bcd",
		DataType: "invoices", Status: status, RequestedOn: at(1)}
	if status.Terminal() {
		op.CompletedOn = at(9)
	}
	return op
}

func changed(op push.Operation, version int64, previous push.Status) event.Event {
	e := event.New(instance, op, version)
	if previous != "" {
		e.PreviousStatus = &previous
		e.LastSeenPreviousAt = event.At(at(5))
	}
	e.ObservedAt, e.Source = event.Timestamp(at(12)), push.FromList
	return e
}

func failed() push.Operation {
	op := operation(push.Failed)
	op.StatusCode, op.ErrorMessage = ptr(400), ptr("The platform refused <the> \"invoice\" & said so")
	op.Validation = &push.Validation{
		Errors: []push.ValidationItem{{ItemID: ptr("line-1"), Message: ptr("Account 4000 is locked"), ValidatorName: ptr("Account")}},
	}
	return op
}

func goldenEvents() map[string]event.Event {
	success := operation(push.Success)
	success.StatusCode = ptr(200)
	success.Changes = []push.Change{{Type: ptr("Created"), RecordRef: &push.RecordRef{ID: ptr("251"), DataType: ptr("invoices")}},
		{Type: ptr("AttachmentUploaded"), AttachmentID: ptr("a-1")}}
	pending := operation(push.Pending)
	pending.TimeoutInMinutes = ptr(30)
	odd := operation("Güt /*.> \"50%\"")
	odd.CompanyID, odd.Key, odd.DataType = "c.1 >*", "ключ=%41\t\"", "_"

	// As the store redacts: no text, and what was refused by whom stays.
	redacted := changed(failed(), 2, push.Pending)
	redacted.ErrorMessage = nil
	redacted.Validation = &push.Validation{Errors: []push.ValidationItem{{ItemID: ptr("line-1"), ValidatorName: ptr("Account")}}}
	large := failed()
	large.Validation.Errors[0].Message = ptr(strings.Repeat("x", event.MaxSize))

	baseline := changed(success, 1, "")
	baseline.Baseline = true
	replayed := event.Replayed(changed(success, 2, push.Pending), "00c0ffee5eeded01")
	got := changed(operation(push.TimedOut), 2, push.Pending)
	got.Source = push.FromGet
	stalled := changed(pending, 2, push.Pending)
	stalled.Type, stalled.Event = event.Stalled, "stalled"
	gone := changed(pending, 3, push.Pending)
	gone.Type, gone.Event = event.Gone, "gone"
	bare := push.Operation{CompanyID: companyID, Key: key, Status: push.Pending}

	return map[string]event.Event{
		"first_sight":            changed(pending, 1, ""),
		"first_sight_bare":       changed(bare, 1, ""),
		"success":                changed(success, 2, push.Pending),
		"failed_with_validation": changed(failed(), 2, push.Pending),
		"failed_redacted":        redacted,
		"failed_omitted":         changed(large, 2, push.Pending),
		"timed_out_from_get":     got,
		"unknown_status":         changed(operation("AwaitingReview"), 2, push.Pending),
		"status_called_gone":     changed(operation("Gone"), 2, push.Pending),
		"baseline":               baseline,
		"replayed":               replayed,
		"odd_bytes":              changed(odd, 1, ""),
		"stalled":                stalled,
		"gone":                   gone,
	}
}
