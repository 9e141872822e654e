package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

func TestATimestampReadsBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		when := instant().Draw(t, "when")
		written, err := json.Marshal(event.Timestamp(when))
		require.NoError(t, err)
		require.Regexp(t, `^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"$`, string(written))
		var back event.Timestamp
		require.NoError(t, json.Unmarshal(written, &back))
		require.True(t, push.Time(when).Equal(back.Time()), "%s is not %s", back, when)
		require.Equal(t, time.UTC, back.Time().Location())
	})
}

func TestTimestampsAreTruncatedNeverRounded(t *testing.T) {
	almost := time.Date(2023, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("zone", 3600))
	assert.Equal(t, "2023-12-31T22:59:59.999999Z", event.At(almost).String())
	assert.Nil(t, event.At(time.Time{}), "no time is null")
}

func TestATimestampThatIsNoRFC3339TimeIsRefused(t *testing.T) {
	for _, text := range []string{`"2023-03-21T17:17:58"`, `"yesterday"`, `17`, `""`} {
		var at event.Timestamp
		require.ErrorContains(t, json.Unmarshal([]byte(text), &at), "timestamp: ", text)
	}
}
