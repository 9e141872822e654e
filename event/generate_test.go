package event_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

// token draws any text that may be in an operation: UTF-8 without NUL, not empty.
func token() *rapid.Generator[string] {
	odd := rapid.StringOfN(rapid.SampledFrom([]rune("._-=>*% \t\r\n\"\\/aZ09é€😀\x7f")), 1, 12, -1)
	return rapid.OneOf(odd, rapid.StringN(1, 40, -1), rapid.SampledFrom([]string{"_", "=5F", "gone", "Stalled", "stalled="})).
		Filter(func(s string) bool { return push.ParseStatus(s) != "" && !containsNUL(s) })
}

func containsNUL(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}

func status() *rapid.Generator[push.Status] {
	return rapid.OneOf(rapid.SampledFrom([]push.Status{push.Pending, push.Success, push.Failed, push.TimedOut}),
		rapid.Map(token(), func(s string) push.Status { return push.ParseStatus(s) }))
}

func instant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		seconds := rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds") // years 1 to 9999
		zone := time.FixedZone("zone", rapid.IntRange(-12*3600, 14*3600).Draw(t, "offset"))
		return time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).In(zone)
	})
}

func item() *rapid.Generator[push.ValidationItem] {
	return rapid.Custom(func(t *rapid.T) push.ValidationItem {
		text := rapid.Ptr(rapid.String(), true)
		return push.ValidationItem{ItemID: text.Draw(t, "item"), Message: text.Draw(t, "message"), ValidatorName: text.Draw(t, "validator")}
	})
}

func change() *rapid.Generator[push.Change] {
	return rapid.Custom(func(t *rapid.T) push.Change {
		text := rapid.Ptr(rapid.String(), true)
		ref := rapid.Custom(func(t *rapid.T) push.RecordRef {
			return push.RecordRef{ID: text.Draw(t, "id"), DataType: text.Draw(t, "dataType")}
		})
		return push.Change{Type: text.Draw(t, "type"), RecordRef: rapid.Ptr(ref, true).Draw(t, "ref"), AttachmentID: text.Draw(t, "attachment")}
	})
}

func anyEvent() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		validation := rapid.Custom(func(t *rapid.T) push.Validation {
			items := rapid.SliceOfN(item(), 0, 3)
			return push.Validation{Errors: items.Draw(t, "errors"), Warnings: items.Draw(t, "warnings")}
		})
		op := push.Operation{
			CompanyID: token().Draw(t, "company"), Key: token().Draw(t, "key"),
			ConnectionID: rapid.String().Draw(t, "connection"), DataType: rapid.OneOf(rapid.Just(""), token()).Draw(t, "dataType"),
			Status:       status().Draw(t, "status"),
			StatusCode:   rapid.Ptr(rapid.Int(), true).Draw(t, "code"),
			ErrorMessage: rapid.Ptr(rapid.String(), true).Draw(t, "error"),
			Validation:   rapid.Ptr(validation, true).Draw(t, "validation"),
			Changes:      rapid.SliceOfN(change(), 0, 3).Draw(t, "changes"),
			RequestedOn:  push.Time(instant().Draw(t, "requested")), CompletedOn: push.Time(instant().Draw(t, "completed")),
			TimeoutInMinutes: rapid.Ptr(rapid.Int(), true).Draw(t, "timeout"),
		}
		e := event.New(instance, op, rapid.Int64Range(1, 1<<62).Draw(t, "version"))
		e.PreviousStatus = rapid.Ptr(status(), true).Draw(t, "previous")
		e.ObservedAt = event.Timestamp(instant().Draw(t, "observed"))
		e.LastSeenPreviousAt = event.At(instant().Draw(t, "lastSeen"))
		e.Source = rapid.SampledFrom([]push.Source{push.FromList, push.FromGet}).Draw(t, "source")
		e.Baseline = rapid.Bool().Draw(t, "baseline")
		if rapid.Bool().Draw(t, "replay") {
			e = event.Replayed(e, rapid.StringMatching("[0-9a-f]{16}").Draw(t, "replayId"))
		}
		switch e.Type = rapid.SampledFrom(event.Types()).Draw(t, "type"); e.Type {
		case event.Stalled:
			e.Event = "stalled"
		case event.Gone:
			e.Event = "gone"
		}
		return e
	})
}
