package config

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// derived are the fields that no key sets directly, by the key that decides them.
func derived(field string) (key string, ok bool) {
	key, ok = map[string]string{
		"codat.api_key":     "codat.api_key_file",
		"codat.ca":          "codat.ca_file",
		"http.token":        "http.token_file",
		"http.any_port":     "http.listen",
		"postgres.external": "postgres.url",
		"file":              "config",
	}[field]
	return key, ok
}

// Differs returns the keys whose values differ between two configurations,
// sorted, each once. A file that holds a secret counts by what it holds.
func (c Config) Differs(other Config) []string {
	var keys []string
	differs("", reflect.ValueOf(c), reflect.ValueOf(other), &keys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func differs(key string, a, b reflect.Value, keys *[]string) {
	if a.Kind() != reflect.Struct {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			if decider, ok := derived(key); ok {
				key = decider
			}
			*keys = append(*keys, key)
		}
		return
	}
	for i := range a.NumField() {
		name := snake(a.Type().Field(i).Name)
		if key != "" {
			name = key + "." + name
		}
		differs(name, a.Field(i), b.Field(i), keys)
	}
}

// snake spells a field's name as its key: MaxBytes as max_bytes, APIKeyFile as
// api_key_file, NATS as nats.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		ends := i+1 < len(runes) && unicode.IsLower(runes[i+1]) // of a run of capitals
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || ends) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
