package codat

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

const exampleOptions = `{
  "type": "Object", "displayName": "Bill", "description": "A bill", "required": true, "newField": {"x": []},
  "properties": {
    "lineItems": {
      "type": "Array", "displayName": "Lines", "description": "The lines", "required": true,
      "properties": {
        "unitAmount": {"type": "Number", "displayName": "Amount", "description": "\u00e9\u0000", "required": true,
          "validation": {"warnings": [{"field": "UnitAmount", "details": "two digits", "ref": null}], "information": [{"details": "net"}]}},
        "note": null
      }
    },
    "currency": {"type": "String", "displayName": "Currency", "description": "ISO", "required": false,
      "options": [{"value": "GBP", "type": "String", "displayName": "Pound", "description": "d", "required": false}, {"value": 7, "required": true}, "EUR"]}
  }
}`

func TestOptionsAreReadAsATree(t *testing.T) {
	var path string
	client, ledger := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		answering(exampleOptions)(w, r)
	})
	option, err := client.Options(t.Context(), company, "conn/1", "bills")
	require.NoError(t, err)
	assert.Equal(t, Option{
		Type: "Object", DisplayName: "Bill", Description: "A bill", Required: true,
		Properties: map[string]Option{
			"lineItems": {Type: "Array", DisplayName: "Lines", Description: "The lines", Required: true, Properties: map[string]Option{
				"unitAmount": {Type: "Number", DisplayName: "Amount", Description: "é\uFFFD", Required: true, Validation: &OptionValidation{
					Warnings:    []OptionRemark{{Field: "UnitAmount", Details: "two digits"}},
					Information: []OptionRemark{{Details: "net"}},
				}},
			}},
			"currency": {Type: "String", DisplayName: "Currency", Description: "ISO", Choices: []OptionChoice{
				{Value: "GBP", Type: "String", DisplayName: "Pound", Description: "d"}, {Value: "7", Required: true},
			}},
		},
	}, option)
	assert.Equal(t, "/companies/"+company+"/connections/conn%2F1/options/bills", path)
	assert.Equal(t, []push.Ask{{Request: push.GetModelOptions, CompanyID: company, Purpose: push.ForUser}}, ledger.asks)
	ledger.settled(t)
}

func TestOptionsEncodeAsTheyAreRead(t *testing.T) {
	option := readOption([]byte(exampleOptions))
	encoded, err := json.Marshal(option)
	require.NoError(t, err)
	assert.Equal(t, option, readOption(encoded))
}

func TestFieldsOfOtherTypesAreEmpty(t *testing.T) {
	option := readOption([]byte(`{"type":"Object","displayName":{"a":1},"description":[],"required":"true","properties":[{"type":"x"}],"options":{"value":1},"validation":"x"}`))
	assert.Equal(t, Option{Type: "Object"}, option)
}

func TestOptionsThatAreNone(t *testing.T) {
	deep := strings.Repeat(`{"type":"Object","properties":{"a":`, 33) + `{}` + strings.Repeat("}}", 33)
	for body, says := range map[string]string{
		"": "empty", "null": "not an object", "[]": "not an object", `{"type":"Object"`: "not complete", "{}": "neither a type nor properties",
		`{"error":"no"}`: "neither a type nor properties", deep: "nests deeper than 64", `{"type":"Object"}{}`: "not complete",
	} {
		client, ledger := serve(t, answering(body))
		_, err := client.Options(t.Context(), company, "c", "bills")
		assert.Equal(t, push.KindMalformed, kindOfError(t, err))
		assert.ErrorContains(t, err, says)
		ledger.settled(t)
	}
	allowed := strings.Repeat(`{"type":"Object","properties":{"a":`, 31) + `{}` + strings.Repeat("}}", 31)
	client, _ := serve(t, answering(allowed))
	_, err := client.Options(t.Context(), company, "c", "bills")
	require.NoError(t, err)
}
