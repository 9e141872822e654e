package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
)

// A row per rule: the file, beside what is needed, and the exact message behind
// the file's path.
func TestRefusedFiles(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"an unknown key names the nearest", "poll:\n  discovery: x\n", `:2:3: unknown key "poll.discovery"; the nearest is "poll.discover"`},
		{"an unknown section too", "pol:\n  track: x\n", `:1:1: unknown key "pol"; the nearest is "poll"`},
		{"a key of another section is named there", "page_size: 5\n", `:1:1: unknown key "page_size"; the nearest is "poll.page_size"`},
		{"what is like no key is not shown", "codat: {q7f3c0ffee}\n", `:1:9: unknown key, not shown because it may be a secret; a key is made of letters and _ and followed by ': '`},
		{"nor in a company", "companies:\n- {q7f3c0ffee, q7f3c0ffee}\n", `:2:4: unknown key, not shown because it may be a secret; a key is made of letters and _ and followed by ': '`},
		{"an unknown key of a company", "companies:\n- id: a\n  label: b\n", `:3:3: unknown key "companies.label"; the nearest is "companies.name"`},
		{"the data directory is no key of the file", "data_dir: /x\n", `:1:1: unknown key "data_dir"; the data directory is set by --data-dir or PUSHWATCH_DATA_DIR`},
		{"a key twice", "log:\n  level: info\n  format: text\n  level: warn\n", `:4:3: key "log.level" is set again; first in line 2`},
		{"a section twice", "log: {level: info}\npoll: {}\nlog: {}\n", `:3:1: key "log" is set again; first in line 1`},
		{"a company's key twice", "companies:\n- {id: a, id: b}\n", `:2:11: key "companies.id" is set again; first in line 2`},
		{"indented with a tab", "log:\n\tlevel: info\n", `:2:1: not YAML: indented with a tab; use spaces`},
		{"an unquoted cron spec is an alias", "poll:\n  discover: */5 * * * *\n", `:2:13: anchors and aliases are not allowed; quote a value that begins with * or &`},
		{"an alias bomb", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", `:1:4: anchors and aliases are not allowed; quote a value that begins with * or &`},
		{"an unquoted @every", "poll: {discover: @every 5s}\n", `:1:18: not YAML: '@' is a reserved character; quote a value that begins with it`},
		{"indented with a tab further down", "log:\n  level: info\n\tformat: text\n", `:3:1: not YAML: indented with a tab; use spaces`},
		{"a tag", "log: !!map {level: info}\n", `:1:6: tags, directives and complex keys are not allowed; quote a value that begins with !, % or ?`},
		{"several documents", "log: {level: info}\n---\npoll: {}\n", `:2:1: a second document begins; a configuration is one document`},
		{"nested without end", "poll: " + strings.Repeat("[", 1000), `:1:15: nested too deeply`},
		{"nested in dashes", "companies:\n" + strings.Repeat("- ", 1000), `:2:3: a dash behind a dash; every item of a list must hold something`},
		{"an item that holds nothing", "companies:\n-\n- id: a\n", `:3:1: a dash behind a dash; every item of a list must hold something`},
		{"keys without end", strings.Repeat("a: 1\n", 300), `:201:2: more keys than a configuration has`},
		{"an unclosed bracket", "poll: {track: x\n", `:1:7: not YAML: could not find flow mapping end token '}'`},
		{"a bad indent", "log:\n  level: info\n format: text\n", `:3:2: not YAML: value is not allowed in this context`},
		{"a list where keys are wanted", "- a\n", `:1:1: a configuration: wanted keys and values`},
		{"a text where keys are wanted", "poll: often\n", `:1:7: poll: wanted keys and values`},
		{"keys where a value is wanted", "poll: {track: {a: b}}\n", `:1:15: poll.track: wanted a single value`},
		{"companies that are no list", "companies: a\n", `:1:12: companies: wanted a list of companies, each with an id`},
		{"a company without keys", "companies: [a]\n", `:1:13: companies[0]: wanted keys and values`},
		{"a company whose id is a list", "companies:\n- id: [a]\n", `:2:7: companies.id: wanted a single value`},
		{"no company", "log: {}\ncompanies: []\n", `: companies: none is configured; list them under companies, or set PUSHWATCH_COMPANIES=id[=name],…`},
		{"a company without an id", "companies:\n- id: a\n- name: b\n", `:3:3: companies: the id of number 2 is empty`},
		{"a company whose id is empty", "companies:\n- id: ''\n", `:2:7: companies: the id of number 1 is empty`},
		{"a company whose id has a space", "companies:\n- id: a b\n", `:2:7: companies: the id of number 1 has white space or control characters in it: "a b"`},
		{"a company whose id is too long", "companies:\n- id: " + strings.Repeat("x", 257) + "\n", `:2:7: companies: the id of number 1 is longer than 256 bytes`},
		{"a company twice", "companies:\n- id: a\n- id: b\n- id: a\n", `:4:7: companies: "a" is configured twice, as number 1 and number 3`},
		{"adaptive mode, before its time", "poll: {mode: adaptive}\n", `:1:14: poll.mode: "adaptive" is not built yet, there is: cron`},
		{"another mode", "poll: {mode: fast}\n", `:1:14: poll.mode: "fast" is not one of cron`},
		{"a bad cron spec", "poll:\n  track: bad\n", `:2:10: poll.track: cron spec "bad": wanted five fields`},
		{"a page size of 0", "poll: {page_size: 0}\n", `:1:19: poll.page_size: "0" is not a whole number from 1 to 5000`},
		{"a page size over the API's", "poll: {page_size: 5001}\n", `:1:19: poll.page_size: "5001" is not a whole number from 1 to 5000`},
		{"a page size with a fraction", "poll: {page_size: 1.5}\n", `:1:19: poll.page_size: "1.5" is not a whole number from 1 to 5000`},
		{"a baseline", "poll: {baseline: loud}\n", `:1:18: poll.baseline: "loud" is not one of silent, publish`},
		{"a reserve that leaves nothing", "quota: {reserve: 0.96}\n", `:1:18: quota.reserve: "0.96" is not a number from 0 to 0.95`},
		{"a negative reserve", "quota: {reserve: -0.1}\n", `:1:18: quota.reserve: "-0.1" is not a number from 0 to 0.95`},
		{"a reserve that is no number", "quota: {reserve: NaN}\n", `:1:18: quota.reserve: "NaN" is not a number from 0 to 0.95`},
		{"postgres.migrate", "postgres: {migrate: never}\n", `:1:21: postgres.migrate: "never" is not one of auto, verify`},
		{"postgres.pooler", "postgres: {pooler: session}\n", `:1:20: postgres.pooler: "session" is not one of none, transaction`},
		{"nats.stream", "nats: {stream: a.b}\n", `:1:16: nats.stream: "a.b" is not a stream name: at most 255 ASCII characters without spaces and . * > / \`},
		{"nats.subject_prefix with a wild card", "nats: {subject_prefix: codat.>}\n", `:1:24: nats.subject_prefix: "codat.>" is not a subject prefix: words of A-Za-z0-9_- joined by dots`},
		{"nats.subject_prefix with an empty word", "nats: {subject_prefix: codat.}\n", `:1:24: nats.subject_prefix: "codat." is not a subject prefix: words of A-Za-z0-9_- joined by dots`},
		{"nats.manage", "nats: {manage: force}\n", `:1:16: nats.manage: "force" is not one of create, update, verify`},
		{"nats.max_age without a unit", "nats: {max_age: 720}\n", `:1:17: nats.max_age: "720" is not a duration above 0 with its unit, such as 90s, 20m or 168h`},
		{"nats.max_age of nothing", "nats: {max_age: 0s}\n", `:1:17: nats.max_age: "0s" is not a duration above 0 with its unit, such as 90s, 20m or 168h`},
		{"nats.max_bytes below 0", "nats: {max_bytes: -1}\n", `:1:19: nats.max_bytes: "-1" is not a whole number of bytes, 0 or more`},
		{"nats.max_bytes with a unit", "nats: {max_bytes: 1GB}\n", `:1:19: nats.max_bytes: "1GB" is not a whole number of bytes, 0 or more`},
		{"nats.replicas of 6", "nats: {url: x, replicas: 6}\n", `:1:26: nats.replicas: "6" is not a whole number from 1 to 5`},
		{"replicas of the embedded server", "nats: {replicas: 3}\n", `:1:18: nats.replicas: 3 needs an external NATS cluster; set nats.url, or leave 1`},
		{"events.detail", "events: {detail: none}\n", `:1:18: events.detail: "none" is not one of full, redacted`},
		{"a negative horizon", "audit_horizon: -1s\n", `:1:16: audit_horizon: "-1s" is not a duration above 0 with its unit, such as 90s, 20m or 168h`},
		{"a negative retention", "retention: {history: -1h}\n", `:1:22: retention.history: "-1h" is not 0 for ever, or a duration with its unit, such as 90m or 720h`},
		{"a horizon beyond time", "audit_horizon: 1000000000h\n", `:1:16: audit_horizon: "1000000000h" is not a duration above 0 with its unit, such as 90s, 20m or 168h`},
		{"an address without a port", "http: {listen: 127.0.0.1}\n", `:1:16: http.listen: "127.0.0.1" is not a host:port with a port from 0 to 65535`},
		{"a port that is none", "http: {listen: '127.0.0.1:65536'}\n", `:1:16: http.listen: "127.0.0.1:65536" is not a host:port with a port from 0 to 65535`},
		{"profiles for others", "http: {pprof_listen: '0.0.0.0:6060'}\n", `:1:22: http.pprof_listen: "0.0.0.0:6060" is not a loopback address, such as 127.0.0.1:6060`},
		{"every address without a token", "http: {listen: ':8080'}\n", `:1:16: http.listen: ":8080" is not a loopback address, so http.token_file is needed; or use 127.0.0.1`},
		{"log.level", "log: {level: loud}\n", `:1:14: log.level: "loud" is not one of debug, info, warn, error`},
		{"log.format", "log: {format: xml}\n", `:1:15: log.format: "xml" is not one of auto, json, text`},
		{"codat.allow_http", "codat: {allow_http: yes}\n", `:1:21: codat.allow_http: "yes" is not true or false`},
		{"shutdown_timeout", "shutdown_timeout: soon\n", `:1:19: shutdown_timeout: "soon" is not a duration above 0 with its unit, such as 90s, 20m or 168h`},
		{"a long value is cut in the message", "log: {level: " + strings.Repeat("x", 500) + "}\n", `:1:14: log.level: "` + strings.Repeat("x", 80) + `…" is not one of debug, info, warn, error`},
		{"text that is not UTF-8", "log: {level: \xff}\n", `: not UTF-8 text`},
		{"a file over 1 MiB", strings.Repeat("# comment\n", 1<<17), `: larger than 1 MiB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "pw.yaml", c.yaml, 0o600)
			environ := []string{"CODAT_API_KEY=key"}
			if !strings.Contains(c.yaml, "companies") {
				environ = enough
			}
			_, _, err := config.Load(config.Flags{File: path, CheckSchedule: checkSchedule}, environ)
			require.Error(t, err)
			assert.Equal(t, c.want, strings.TrimPrefix(err.Error(), path))
			var configuration *config.Error
			assert.True(t, errors.As(err, &configuration))
		})
	}
}

func checkSchedule(spec string) error {
	if spec == "bad" {
		return fmt.Errorf("cron spec %q: wanted five fields", spec)
	}
	return nil
}

func TestRefusedVariablesAndFlags(t *testing.T) {
	for _, c := range []struct {
		name    string
		flags   config.Flags
		environ []string
		want    string
	}{
		{"an unknown variable names the nearest", config.Flags{}, []string{"PUSHWATCH_POLL_DISCOVERY=x"}, "unknown environment variable PUSHWATCH_POLL_DISCOVERY; the nearest is PUSHWATCH_POLL_DISCOVER"},
		{"a customary variable with our prefix", config.Flags{}, []string{"PUSHWATCH_DATABASE_URL=postgres://u:canary@h/x"},
			"unknown environment variable PUSHWATCH_DATABASE_URL; it is DATABASE_URL, or PUSHWATCH_POSTGRES_URL"},
		{"of several unknown ones always the same is named", config.Flags{}, []string{"PUSHWATCH_Z=1", "PUSHWATCH_B=1", "PUSHWATCH_COMPANY=1"}, "unknown environment variable PUSHWATCH_B; the nearest is PUSHWATCH_CONFIG"},
		{"companies are not one", config.Flags{}, []string{"PUSHWATCH_COMPANY=1"}, "unknown environment variable PUSHWATCH_COMPANY; the nearest is PUSHWATCH_COMPANIES"},
		{"the key has no variable of ours", config.Flags{}, []string{"PUSHWATCH_CODAT_API_KEY=canary"}, "unknown environment variable PUSHWATCH_CODAT_API_KEY; it is CODAT_API_KEY, or PUSHWATCH_CODAT_API_KEY_FILE"},
		{"a value outside its range", config.Flags{}, []string{"PUSHWATCH_POLL_PAGE_SIZE=9000"}, `PUSHWATCH_POLL_PAGE_SIZE: poll.page_size: "9000" is not a whole number from 1 to 5000`},
		{"a cron spec", config.Flags{}, []string{"PUSHWATCH_POLL_SWEEP=bad"}, `PUSHWATCH_POLL_SWEEP: poll.sweep: cron spec "bad": wanted five fields`},
		{"a flag", config.Flags{LogLevel: "loud"}, nil, `--log-level: log.level: "loud" is not one of debug, info, warn, error`},
		{"an address that others reach", config.Flags{HTTPListen: "192.0.2.1:80"}, nil, `--http-listen: http.listen: "192.0.2.1:80" is not a loopback address, so http.token_file is needed; or use 127.0.0.1`},
		{"a host that may be any address", config.Flags{HTTPListen: "example.com:80"}, nil, `--http-listen: http.listen: "example.com:80" is not a loopback address, so http.token_file is needed; or use 127.0.0.1`},
		{"an empty company", config.Flags{}, []string{"PUSHWATCH_COMPANIES=a,,b"}, "PUSHWATCH_COMPANIES: companies: the id of number 2 is empty"},
		{"a company twice", config.Flags{}, []string{"PUSHWATCH_COMPANIES=a=x,b,a=y"}, `PUSHWATCH_COMPANIES: companies: "a" is configured twice, as number 1 and number 3`},
		{"no company at all", config.Flags{}, []string{"PUSHWATCH_COMPANIES="}, "PUSHWATCH_COMPANIES: companies: none is configured; list them under companies, or set PUSHWATCH_COMPANIES=id[=name],…"},
		{"no key", config.Flags{}, []string{"CODAT_API_KEY="}, "codat.api_key_file: no API key is given; name a file that holds it, or set CODAT_API_KEY"},
		{"a key of white space", config.Flags{}, []string{"CODAT_API_KEY= \n"}, "CODAT_API_KEY: the API key is white space only"},
		{"line breaks in a value stay in their line", config.Flags{LogLevel: "a\nb\x1b"}, nil, `--log-level: log.level: "a\nb\x1b" is not one of debug, info, warn, error`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.flags.CheckSchedule = checkSchedule
			_, _, err := config.Load(c.flags, append(append([]string{}, enough...), c.environ...))
			assert.EqualError(t, err, c.want)
		})
	}
}

func TestLoopbackAddressesNeedNoToken(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "localhost:80", "LOCALHOST:80", "[::ffff:127.0.0.1]:80"} {
		_, _, err := config.Load(config.Flags{HTTPListen: address}, enough)
		assert.NoError(t, err, address)
	}
}

func TestConfigurationFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	_, _, err := config.Load(config.Flags{File: filepath.Join(dir, "none.yaml")}, enough)
	assert.EqualError(t, err, "configuration file: open "+dir+"/none.yaml: no such file or directory; "+
		"correct --config (PUSHWATCH_CONFIG), or leave it out: none is needed")
	_, _, err = config.Load(config.Flags{File: dir}, enough)
	assert.EqualError(t, err, "configuration file: read "+dir+": is a directory")
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, path, want string
		warning          string
	}{
		{"a missing one", dir + "/none", "open " + dir + "/none: no such file or directory", ""},
		{"a directory", dir, dir + " is a directory", ""},
		{"an empty one", write(t, "k", "", 0o600), "%PATH% is empty", ""},
		{"one with nothing but white space", write(t, "k", " \n", 0o600), "%PATH% is empty", ""},
		{"a huge one", write(t, "k", strings.Repeat("k", 64<<10+1), 0o600), "%PATH% is larger than 64 KiB", ""},
		{"one that everybody may write to", write(t, "k", "canary", 0o602), "%PATH% may be written by everybody (mode 0602); chmod o-w it and check what it holds", ""},
		{"one that everybody may read", write(t, "k", "canary\n", 0o444), "", "%PATH% may be read by everybody (mode 0444); chmod 600 it"},
		{"one that the group may read", write(t, "k", "canary\n", 0o640), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for key, take := range map[string]func(config.Config) config.Secret{
				"codat.api_key_file": func(c config.Config) config.Secret { return c.Codat.APIKey },
				"http.token_file":    func(c config.Config) config.Secret { return c.HTTP.Token },
			} {
				section, name, _ := strings.Cut(key, ".")
				environ := []string{"PUSHWATCH_COMPANIES=c"}
				if section == "http" {
					environ = enough
				}
				file := write(t, "pw.yaml", section+":\n  "+name+": "+c.path+"\n", 0o600)
				got, warnings, err := config.Load(config.Flags{File: file}, environ)
				if c.want != "" {
					column := len(name) + 5
					require.EqualError(t, err, fmt.Sprintf("%s:2:%d: %s: %s", file, column, key, strings.ReplaceAll(c.want, "%PATH%", c.path)))
					assert.NotContains(t, err.Error(), "canary")
					continue
				}
				require.NoError(t, err)
				assert.Equal(t, "canary", take(got).Reveal())
				if c.warning == "" {
					assert.Empty(t, warnings)
					continue
				}
				assert.Equal(t, config.Warnings{key + ": " + strings.ReplaceAll(c.warning, "%PATH%", c.path)}, warnings)
			}
		})
	}
}

// authority returns a certificate in PEM that signed itself.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificateFiles(t *testing.T) {
	dir, good := t.TempDir(), authority(t)
	damaged := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("canary")}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")}))
	const wanted = "; wanted certificates in PEM, from -----BEGIN CERTIFICATE-----"
	for _, c := range []struct{ name, path, want string }{
		{"one certificate, which everybody may read", write(t, "ca", good, 0o644), ""},
		{"a bundle with text between", write(t, "ca", "# first\n"+good+"\n# second\r\n"+good, 0o600), ""},
		{"a missing one", dir + "/none", "open " + dir + "/none: no such file or directory"},
		{"a directory", dir, dir + " is a directory"},
		{"one that everybody may write to", write(t, "ca", good, 0o646), "%PATH% may be written by everybody (mode 0646); chmod o-w it and check what it holds"},
		{"an empty one", write(t, "ca", "", 0o600), "%PATH% holds no certificate" + wanted},
		{"one in another form", write(t, "ca", "canary", 0o600), "%PATH% holds no certificate" + wanted},
		{"a damaged certificate behind a good one", write(t, "ca", good+damaged, 0o600), "%PATH% holds a damaged certificate" + wanted},
		{"a private key beside it", write(t, "ca", good+private, 0o600), "%PATH% holds something else than certificates" + wanted},
		{"a huge one", write(t, "ca", strings.Repeat("#", 1<<20+1), 0o600), "%PATH% is larger than 1024 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, warnings, err := config.Load(config.Flags{}, append([]string{"PUSHWATCH_CODAT_CA_FILE=" + c.path}, enough...))
			if c.want != "" {
				require.EqualError(t, err, "PUSHWATCH_CODAT_CA_FILE: codat.ca_file: "+strings.ReplaceAll(c.want, "%PATH%", c.path))
				return
			}
			require.NoError(t, err)
			assert.Empty(t, warnings)
			assert.Contains(t, got.Codat.CA, good)
		})
	}
}

func TestAnUnreadableSecretFile(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root reads everything: what is guarded here is the text, which a path
		// through a file shows as well.
		path := write(t, "k", "x", 0o600) + "/below"
		_, _, err := config.Load(config.Flags{}, []string{"PUSHWATCH_COMPANIES=c", "PUSHWATCH_CODAT_API_KEY_FILE=" + path})
		assert.EqualError(t, err, "PUSHWATCH_CODAT_API_KEY_FILE: codat.api_key_file: open "+path+": not a directory")
		return
	}
	path := write(t, "k", "x", 0)
	_, _, err := config.Load(config.Flags{}, []string{"PUSHWATCH_COMPANIES=c", "PUSHWATCH_CODAT_API_KEY_FILE=" + path})
	assert.EqualError(t, err, "PUSHWATCH_CODAT_API_KEY_FILE: codat.api_key_file: open "+path+": permission denied")
}
