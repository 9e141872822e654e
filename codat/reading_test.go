package codat

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// TestAnotherReadingHasAnotherNumber: what is read out of these records belongs to
// the number of the reading. Where it changed on purpose, raise reading and put the
// new digest here; the next sweep then writes every record once more.
func TestAnotherReadingHasAnotherNumber(t *testing.T) {
	known := map[byte]string{1: "aa80ce6af5913960"}
	var result listing
	d := &decoder{companyID: company, lookedAt: noon}
	reason, ok := decodePage(examplePage(3), d, &result)
	require.True(t, ok, reason)
	for _, odd := range []string{
		`{"status":" Success ","statusCode":1e2,"timeoutInSeconds":90}`,
		`{"status":"Cancelled","companyId":null,"statusCode":"200","timeoutInMinutes":-1}`,
		`{"errorMessage":"a\u0000b\ud800","dataType":"` + strings.Repeat("t", 300) + `","dataConnectionKey":7}`,
		`{"errorMessage":"` + strings.Repeat("long", maxText) + `","changes":[7,{"type":null,"recordRef":[]}]}`,
		`{"requestedOnUtc":1774095478000,"completedOnUtc":"2026-11-24 10:00:00","validation":{"errors":null,"warnings":[{}]}}`,
		`{"requestedOnUtc":"2099-01-01T00:00:00Z","completedOnUtc":"2026-02-30","validation":[],"changes":{}}`,
	} {
		row, refused := d.decode([]byte(with(odd)), 1)
		require.Nil(t, refused, odd)
		result.page.Rows = append(result.page.Rows, row)
	}
	sum := sha256.New()
	for _, op := range push.Whole(result.page.Rows) {
		sum.Write(op.Fingerprint())
	}
	assert.Equal(t, known[reading], hex.EncodeToString(sum.Sum(nil)[:8]), "reading %d", reading)
}

func TestADigestIsOfEveryByteAndOfTheReading(t *testing.T) {
	raw := []byte(with(`{"errorMessage":"x"}`))
	whole := digest(raw)
	assert.Equal(t, byte(reading), whole[15])
	for i := range raw {
		raw[i]++
		assert.NotEqual(t, whole, digest(raw), "byte %d", i)
		raw[i]--
	}
	assert.Equal(t, whole, digest(raw))
}
