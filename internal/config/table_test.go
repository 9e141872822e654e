package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told are the fields that no key sets, and what does.
var told = map[string]string{
	"Companies": "takeCompanies", "Codat.APIKey": "readAPIKey", "Codat.CA": "readCA", "HTTP.Token": "readToken",
	"HTTP.AnyPort": "load", "Postgres.External": "load",
}

func TestEveryFieldIsBoundToExactlyOneSetting(t *testing.T) {
	samples := []string{"cron", "verify", "transaction", "publish", "redacted", "json", "true", "3", "0.25", "3s", "debug", "127.0.0.1:9"}
	bound := map[string]string{}
	for i := range settings(new(Config), nil) {
		var c Config
		s := settings(&c, nil)[i]
		name := s.key + s.flag
		for _, sample := range samples {
			if s.set(sample) != nil {
				continue
			}
			for _, field := range changed("", reflect.ValueOf(c)) {
				if before, ok := bound[field]; ok {
					require.Equal(t, name, before, "two settings write %s", field)
				}
				bound[field] = name
			}
		}
	}
	for _, field := range leaves("", reflect.TypeFor[Config]()) {
		if told[field] == "" {
			assert.NotEmpty(t, bound[field], "no setting writes %s", field)
		}
	}
}

func leaves(path string, t reflect.Type) []string {
	if t.Kind() != reflect.Struct {
		return []string{strings.TrimPrefix(path, ".")}
	}
	var all []string
	for i := range t.NumField() {
		all = append(all, leaves(path+"."+t.Field(i).Name, t.Field(i).Type)...)
	}
	return all
}

func changed(path string, v reflect.Value) []string {
	if v.Kind() != reflect.Struct {
		if v.IsZero() {
			return nil
		}
		return []string{strings.TrimPrefix(path, ".")}
	}
	var all []string
	for i := range v.NumField() {
		all = append(all, changed(path+"."+v.Type().Field(i).Name, v.Field(i))...)
	}
	return all
}

func TestEveryDefaultIsTakenByItsOwnReader(t *testing.T) {
	for _, s := range settings(new(Config), nil) {
		if s.initial != "" {
			assert.NoError(t, s.set(s.initial), s.key)
		}
		assert.NotEmpty(t, s.meaning, s.key)
	}
}

func TestTable(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(Table(), "\n"), "\n")
	assert.Len(t, lines, 2+len(settings(new(Config), nil))+1, "a head, a row for each setting and one for companies")
	for _, line := range lines {
		assert.Equal(t, 5, strings.Count(line, "|")-strings.Count(line, `\|`), line)
	}
	for _, want := range []string{
		"| `--data-dir` | `PUSHWATCH_DATA_DIR` |  |",
		"| `poll.discover` | `PUSHWATCH_POLL_DISCOVER` | `*/5 * * * *` | cron spec, in UTC: every company is listed |",
		"| `postgres.url` | `PUSHWATCH_POSTGRES_URL`, `DATABASE_URL` |  |",
		"| `http.listen`, `--http-listen` | `PUSHWATCH_HTTP_LISTEN` | `127.0.0.1:8080` |",
		"| `companies` | `PUSHWATCH_COMPANIES` |  |",
	} {
		assert.Contains(t, Table(), want)
	}
}

func TestNearestKey(t *testing.T) {
	known := []string{"poll.track", "poll.page_size", "nats.url", "nats.max_age", "audit_horizon"}
	for unknown, want := range map[string]string{
		"poll.trac": "poll.track", "nats.page_size": "poll.page_size", "url": "nats.url", "auditHorizon": "audit_horizon",
		"nat": "nats", "nats.maxage": "nats.max_age", "": "poll", strings.Repeat("x", 1<<20): "poll",
	} {
		assert.Equal(t, want, nearestKey(unknown, known), "%.40q", unknown)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		assert.Equal(t, c.want, distance(c.a, c.b), "%s to %s", c.a, c.b)
	}
}
