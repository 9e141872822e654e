package event_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
)

// compiled returns the schemas of all types, with formats asserted.
func compiled(t testing.TB) map[event.Type]*jsonschema.Schema {
	t.Helper()
	schemas := map[event.Type]*jsonschema.Schema{}
	for _, typ := range event.Types() {
		raw, err := event.Schema(typ)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, event.SchemaURN(typ), document.(map[string]any)["$id"])
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		require.NoError(t, compiler.AddResource(event.SchemaURN(typ), document))
		schemas[typ], err = compiler.Compile(event.SchemaURN(typ))
		require.NoError(t, err)
	}
	return schemas
}

func validate(schema *jsonschema.Schema, body []byte) error {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return schema.Validate(document)
}

func TestEveryGoldenFileIsValidByTheSchemaOfItsType(t *testing.T) {
	schemas := compiled(t)
	seen := map[event.Type]bool{}
	files, err := filepath.Glob(goldenFile("*"))
	require.NoError(t, err)
	for _, file := range files {
		golden, err := os.ReadFile(file)
		require.NoError(t, err)
		body := []byte(compact(t, golden))
		var e event.Event
		require.NoError(t, json.Unmarshal(body, &e))
		require.NoError(t, validate(schemas[e.Type], body), file)
		for _, other := range event.Types() {
			if other != e.Type {
				require.Error(t, validate(schemas[other], body), "%s by the schema of %s", file, other)
			}
		}
		seen[e.Type] = true
	}
	assert.Len(t, seen, len(event.Types()), "a type without a golden file")
}

func TestWhateverAnOperationHoldsItsEventIsValid(t *testing.T) {
	schemas := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		message, err := event.Encode(event.DefaultPrefix, dataType(e), e)
		require.NoError(t, err)
		require.NoError(t, validate(schemas[e.Type], message.Data), "%s", message.Data)
		require.LessOrEqual(t, len(message.Data), event.MaxSize)
	})
}

func TestSchemasRefuseWhatIsNoEventAndTakeWhatIsNew(t *testing.T) {
	schemas := compiled(t)
	for _, typ := range event.Types() {
		e := goldenEvents()["success"]
		e.Type = typ
		if typ != event.StatusChanged {
			e = goldenEvents()[map[event.Type]string{event.Stalled: "stalled", event.Gone: "gone"}[typ]]
		}
		message, err := event.Encode(event.DefaultPrefix, "invoices", e)
		require.NoError(t, err)
		check := func(name string, valid bool, change func(map[string]any)) {
			t.Run(string(typ)+"/"+name, func(t *testing.T) {
				var body map[string]any
				require.NoError(t, json.Unmarshal(message.Data, &body))
				change(body)
				changed, err := json.Marshal(body)
				require.NoError(t, err)
				if err := validate(schemas[typ], changed); valid {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			})
		}
		set := func(key string, value any) func(map[string]any) {
			return func(body map[string]any) { body[key] = value }
		}
		check("unchanged is valid", true, func(map[string]any) {})
		check("a key of a later version is taken", true, set("somethingNew", map[string]any{"a": 1}))
		check("a status of a later Codat is taken", true, set("status", "Parked"))
		var keys map[string]any
		require.NoError(t, json.Unmarshal(message.Data, &keys))
		for key := range keys {
			check("missing "+key, false, func(body map[string]any) { delete(body, key) })
		}
		for name, wrong := range map[string]func(map[string]any){
			"type of another event":           set("type", "pushwatch.operation.other.v1"),
			"event of another type":           set("event", map[bool]string{true: "gone", false: "stalled"}[typ != event.Gone]),
			"event with a dot":                set("event", "a.b"),
			"id that ID never makes":          set("id", "order-17"),
			"id of half a replay":             set("id", e.ID+"-r00c0ffee"),
			"replay id that is none":          set("replayId", "tuesday"),
			"version zero":                    set("version", 0),
			"version as text":                 set("version", "1"),
			"empty company":                   set("companyId", ""),
			"empty key":                       set("pushOperationKey", ""),
			"empty status":                    set("status", ""),
			"empty previous status":           set("previousStatus", ""),
			"timestamp without fraction":      set("observedAt", "2023-03-21T17:17:58Z"),
			"timestamp with three digits":     set("observedAt", "2023-03-21T17:17:58.923Z"),
			"timestamp with an offset":        set("observedAt", "2023-03-21T17:17:58.923536+00:00"),
			"timestamp without a zone":        set("requestedOn", "2023-03-21T17:17:58.923536"),
			"day that no month has":           set("requestedOn", "2023-02-30T17:17:58.923536Z"),
			"no time of observation":          set("observedAt", nil),
			"source that is no request":       set("source", "webhook"),
			"baseline unknown":                set("baseline", nil),
			"validation as text":              set("validation", "bad"),
			"omitted without a key":           set("omitted", []any{}),
			"omitted key that cannot be":      set("omitted", []any{"id"}),
			"change without attachment key":   set("changes", []any{map[string]any{"type": nil, "recordRef": nil}}),
			"outcome certain as a text":       set("outcomeCertain", "yes"),
			"status code that is not a whole": set("statusCode", 400.5),
		} {
			check(name, false, wrong)
		}
	}
}

func TestThereIsNoSchemaOfAnUnknownType(t *testing.T) {
	_, err := event.Schema("pushwatch.operation.other.v1")
	require.ErrorContains(t, err, "no such type of event")
}
