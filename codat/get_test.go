package codat

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestGetGivesOneOperation(t *testing.T) {
	client, ledger := serve(t, answering("\xEF\xBB\xBF "+with(`{"status":"Failed","statusCode":400}`)+"\n"))
	page, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.NoError(t, err)
	code := 400
	assert.Equal(t, []push.Operation{{CompanyID: company, Key: "k", Status: push.Failed, StatusCode: &code}}, push.Whole(page.Rows))
	assert.Empty(t, page.Quarantined)
	assert.Equal(t, push.FromGet, page.Source)
	assert.False(t, page.Ordered)
	assert.False(t, page.Last)
	assert.Equal(t, []push.Ask{{Request: push.GetOperation, CompanyID: company, Purpose: push.ForTrack}}, ledger.asks)
}

func TestGetSetsAsideWhatIsNotTheOperation(t *testing.T) {
	for _, c := range []struct{ name, body, class, key string }{
		{"another operation", with(`{"pushOperationKey":"l"}`), ForeignKey, "l"},
		{"the key in capitals is another", with(`{"pushOperationKey":"K"}`), ForeignKey, "K"},
		{"another company", with(`{"companyId":"x"}`), ForeignCompany, "k"},
		{"no status", with(`{"status":null}`), StatusMissing, "k"},
		{"an empty object", `{}`, KeyMissing, ""},
		{"65 deep", `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, TooDeep, ""},
		{"deeper than encoding/json goes", strings.Repeat(`{"a":`, 10_001) + `1` + strings.Repeat("}", 10_001), TooDeep, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := serve(t, answering(c.body))
			page, err := client.Get(t.Context(), company, "k", push.ForTrack)
			require.NoError(t, err)
			assert.Empty(t, page.Rows)
			require.Len(t, page.Quarantined, 1)
			assert.Equal(t, c.class, page.Quarantined[0].Class)
			assert.Equal(t, c.key, page.Quarantined[0].Key)
			assert.Equal(t, push.FromGet, page.Source)
		})
	}
}

func TestAGetThatIsNoObjectIsMalformed(t *testing.T) {
	good := with(`{}`)
	for _, body := range []string{"", " ", "null", "[]", "[" + good + "]", `"k"`, "7", good + "x", good + good, good[:len(good)-1], "{]", `{"a":NaN}`, "\xFF\xFE"} {
		client, ledger := serve(t, answering(body))
		_, err := client.Get(t.Context(), company, "k", push.ForTrack)
		assert.Equal(t, push.KindMalformed, kindOfError(t, err), body)
		ledger.settled(t)
	}
}

func TestIDsStayOneSegmentOfThePath(t *testing.T) {
	for key, path := range map[string]string{
		"56e6f94f-5477-4f82-a29b-0e08fb45c1c9": "56e6f94f-5477-4f82-a29b-0e08fb45c1c9",
		"a/b":                                  "a%2Fb",
		"../../admin":                          "..%2F..%2Fadmin",
		"%2F":                                  "%252F",
		"%2e%2e":                               "%252e%252e",
		"a?b=c#d":                              "a%3Fb=c%23d",
		"a b\r\nc":                             "a%20b%0D%0Ac",
		"é😀":                                   "%C3%A9%F0%9F%98%80",
		"...":                                  "...",
		`a\b`:                                  "a%5Cb",
		"*.>;,&+":                              "%2A.%3E%3B%2C&+",
	} {
		var got string
		client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.RequestURI
			w.WriteHeader(404)
		})
		_, err := client.Get(t.Context(), company, key, push.ForTrack)
		assert.Equal(t, push.KindNotFound, kindOfError(t, err))
		want := "/companies/" + company + "/push/" + path
		assert.Equal(t, want, strings.ReplaceAll(got, "*", "%2A"), key)

		client.base.Path = "/prefix with space"
		_, _ = client.Get(t.Context(), company, key, push.ForTrack)
		assert.Equal(t, "/prefix%20with%20space"+want, strings.ReplaceAll(got, "*", "%2A"), key)
	}
}

func TestIDsThatCannotBeASegmentAreRefusedBeforeTheyCost(t *testing.T) {
	client, ledger := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("sent") })
	for _, id := range []string{"", ".", ".."} {
		_, errKey := client.Get(t.Context(), company, id, push.ForTrack)
		_, errCompany := client.Get(t.Context(), id, "k", push.ForTrack)
		_, errOptions := client.Options(t.Context(), company, "c", id)
		var errWalk error
		for _, errWalk = range client.Walk(t.Context(), push.ListWalk{CompanyID: id}) {
			continue
		}
		for _, err := range []error{errKey, errCompany, errOptions, errWalk} {
			assert.Equal(t, push.KindRefused, kindOfError(t, err))
			assert.ErrorContains(t, err, "cannot be part of a path")
		}
	}
	assert.Empty(t, ledger.asks)
}
