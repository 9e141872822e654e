package event

import (
	"embed"
	"fmt"
)

//go:embed schema
var schemas embed.FS

// Types lists the types of event.
func Types() []Type { return []Type{StatusChanged, Stalled, Gone} }

// SchemaURN returns the ce-dataschema of a type, which is the $id of its schema.
func SchemaURN(t Type) string { return "urn:pushwatch:schema:" + string(t) }

// Schema returns the JSON Schema (draft 2020-12) of the body of events of a type.
func Schema(t Type) ([]byte, error) {
	schema, err := schemas.ReadFile("schema/" + string(t) + ".json")
	if err != nil {
		return nil, fmt.Errorf("schema of %q: no such type of event", t)
	}
	return schema, nil
}
