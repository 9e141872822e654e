package codat

import (
	"context"

	"github.com/pushwatch/pushwatch/push"
)

// Option is one field of the model that a push of some data type takes: a tree
// through Properties. Its text is valid UTF-8 and otherwise as the server wrote
// it, control characters included: escape it for a terminal.
type Option struct {
	Type        string            `json:"type"` // Array, Object, String, Number, Boolean, DateTime, File, MultiPart or, in time, others
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Required    bool              `json:"required"`
	Properties  map[string]Option `json:"properties,omitempty"` // by the name that a push uses
	Choices     []OptionChoice    `json:"options,omitempty"`    // the values that are taken; none when any is
	Validation  *OptionValidation `json:"validation,omitempty"`
}

// OptionChoice is one value that a field takes.
type OptionChoice struct {
	Value       string `json:"value"` // a number or truth value as JSON spells it
	Type        string `json:"type"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
	Required    bool   `json:"required"`
}

// OptionValidation is what the platform says of a field beforehand.
type OptionValidation struct {
	Warnings    []OptionRemark `json:"warnings,omitempty"`
	Information []OptionRemark `json:"information,omitempty"`
}

// OptionRemark is one remark on a field.
type OptionRemark struct {
	Field   string `json:"field"`
	Details string `json:"details"`
	Ref     string `json:"ref"`
}

// Options asks what a push of dataType takes for a company's connection. Fields
// it does not know are left out, and known ones of another type are empty. Errors
// are *push.AskError or what the gate returned; KindNotFound means that the
// company, the connection or the data type is not there. Its purpose is ForUser.
func (c *Client) Options(ctx context.Context, companyID, connectionID, dataType string) (Option, error) {
	ask := push.Ask{Request: push.GetModelOptions, CompanyID: companyID, Purpose: push.ForUser}
	got, err := c.do(ctx, request{
		ask: ask, segments: []string{"companies", companyID, "connections", connectionID, "options", dataType}, maxBody: c.maxOtherBody,
	})
	if err != nil {
		return Option{}, err
	}
	raw, depth, err := got.value()
	if err != nil {
		return Option{}, err
	}
	if depth > maxDepth {
		return Option{}, got.malformed("the answer nests deeper than %d", maxDepth)
	}
	option := readOption(raw)
	if option.Type == "" && option.Properties == nil {
		return Option{}, got.malformed("the answer has neither a type nor properties")
	}
	return option, nil
}

// readOption reads an object that nests at most maxDepth deep.
func readOption(raw []byte) Option {
	told := members(raw, "type", "displayName", "description", "required", "properties", "options", "validation")
	return Option{
		Type:        optionText(told[0]),
		DisplayName: optionText(told[1]),
		Description: optionText(told[2]),
		Required:    string(told[3]) == "true",
		Properties:  readProperties(told[4]),
		Choices:     readObjects(told[5], readChoice),
		Validation:  readOptionValidation(told[6]),
	}
}

func readProperties(raw []byte) map[string]Option {
	var properties map[string]Option
	eachMember(raw, func(name, value []byte, _ int) bool {
		if isObject(value) {
			if properties == nil {
				properties = map[string]Option{}
			}
			properties[memberName(name)] = readOption(value)
		}
		return true
	})
	return properties
}

func readChoice(raw []byte) OptionChoice {
	told := members(raw, "value", "type", "displayName", "description", "required")
	return OptionChoice{
		Value:       optionText(told[0]),
		Type:        optionText(told[1]),
		DisplayName: optionText(told[2]),
		Description: optionText(told[3]),
		Required:    string(told[4]) == "true",
	}
}

func readOptionValidation(raw []byte) *OptionValidation {
	if !isObject(raw) {
		return nil
	}
	told := members(raw, "warnings", "information")
	return &OptionValidation{
		Warnings:    readObjects(told[0], readOptionRemark),
		Information: readObjects(told[1], readOptionRemark),
	}
}

func readOptionRemark(raw []byte) OptionRemark {
	told := members(raw, "field", "details", "ref")
	return OptionRemark{Field: optionText(told[0]), Details: optionText(told[1]), Ref: optionText(told[2])}
}

// readObjects reads the objects of an array; of anything else there are none.
func readObjects[T any](raw []byte, read func(raw []byte) T) []T {
	var objects []T
	eachElement(raw, func(element []byte, _ int) bool {
		if isObject(element) {
			objects = append(objects, read(element))
		}
		return true
	})
	return objects
}

// optionText reads text, or a scalar as it is spelled.
func optionText(raw []byte) string {
	switch {
	case isNull(raw) || raw[0] == '{' || raw[0] == '[':
		return ""
	case isString(raw):
		read, _ := unquote(raw)
		return read
	}
	return string(raw)
}
