package config

import "strings"

// setting is one key: where its value may come from, and how the value's text is
// taken up.
type setting struct {
	key     string // path in the file, with dots; empty: not in the file
	flag    string // its flag of run, if any
	also    string // a customary variable, weaker than the key's own
	initial string // what holds when nothing is set; empty: nothing does
	meaning string // for the table of keys; Markdown
	set     func(text string) error
}

const variablePrefix = "PUSHWATCH_"

// variable returns the name of the setting's own environment variable.
func (s setting) variable() string {
	name := s.key
	if name == "" {
		name = strings.TrimPrefix(s.flag, "--")
	}
	return variablePrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(name))
}

// settings lists every setting, bound to the fields of c, in the order of the
// documentation.
func settings(c *Config, schedule func(spec string) error) []setting {
	return []setting{
		{flag: "--config", meaning: "path of the YAML file; there is no default file", set: text(&c.File)},
		{flag: "--data-dir", meaning: "where the embedded servers keep their data; by default `/var/lib/pushwatch` for root, " +
			"else `${XDG_STATE_HOME:-~/.local/state}/pushwatch`", set: text(&c.DataDir)},

		{key: "codat.base_url", initial: "https://api.codat.io", set: text(&c.Codat.BaseURL),
			meaning: "address of the Codat API: https, or http to a loopback address"},
		{key: "codat.api_key_file", set: text(&c.Codat.APIKeyFile),
			meaning: "file that holds the API key, raw or as a ready `Basic …` value; `CODAT_API_KEY` holds the key itself and wins"},
		{key: "codat.allow_http", initial: "false", set: boolean(&c.Codat.AllowHTTP),
			meaning: "take `http://` to other hosts than loopback: the key then travels in the clear"},
		{key: "codat.ca_file", set: text(&c.Codat.CAFile),
			meaning: "file of the certificates (PEM) that vouch for the Codat API, in place of the system's"},

		{key: "poll.mode", initial: "cron", set: mode(&c.Poll.Mode),
			meaning: "`cron`: look at ticks only"},
		{key: "poll.discover", initial: "*/5 * * * *", set: cron(&c.Poll.Discover, schedule),
			meaning: "cron spec, in UTC: every company is listed"},
		{key: "poll.track", initial: "* * * * *", set: cron(&c.Poll.Track, schedule),
			meaning: "cron spec, in UTC: unfinished operations are followed"},
		{key: "poll.sweep", initial: "0 3 * * *", set: cron(&c.Poll.Sweep, schedule),
			meaning: "cron spec, in UTC: each company's whole history is walked and reconciled"},
		{key: "poll.page_size", initial: "100", set: whole(&c.Poll.PageSize, 1, 5000),
			meaning: "operations on a page of discover, 1 to 5000"},
		{key: "poll.baseline", initial: "silent", set: oneOf(&c.Poll.Baseline, "silent", "publish"),
			meaning: "what a company's history from before its first look does: `silent` records it, `publish` also sends events"},

		{key: "quota.reserve", initial: "0.5", set: share(&c.Quota.Reserve, 0, 0.95),
			meaning: "share of the day's quota left to other users of the key, 0 to 0.95"},

		{key: "postgres.url", also: "DATABASE_URL", set: secret(&c.Postgres.URL),
			meaning: "PostgreSQL to use; when neither it nor `PGHOST` nor `PGSERVICE` is set, an embedded one"},
		{key: "postgres.migrate", initial: "auto", set: oneOf(&c.Postgres.Migrate, "auto", "verify"),
			meaning: "`auto` applies schema migrations at the start, `verify` refuses to start while some are pending"},
		{key: "postgres.pooler", initial: "none", set: oneOf(&c.Postgres.Pooler, "none", "transaction"),
			meaning: "`transaction` behind a pooler in transaction mode, such as PgBouncer"},

		{key: "nats.url", also: "NATS_URL", set: secret(&c.NATS.URL),
			meaning: "NATS server to use, several with commas; empty: an embedded one"},
		{key: "nats.credentials_file", also: "NATS_CREDS", set: text(&c.NATS.CredentialsFile),
			meaning: "credentials (JWT and seed) for an external server"},
		{key: "nats.stream", initial: "CODAT_PUSH", set: streamName(&c.NATS.Stream),
			meaning: "name of the stream"},
		{key: "nats.subject_prefix", initial: "codat.push", set: subjectPrefix(&c.NATS.SubjectPrefix),
			meaning: "what every subject begins with; only pushwatch may publish below it"},
		{key: "nats.manage", initial: "create", set: oneOf(&c.NATS.Manage, "create", "update", "verify"),
			meaning: "what may be done to the stream: `create` it, also `update` its configuration, or only `verify` it"},
		{key: "nats.max_age", initial: "720h", set: duration(&c.NATS.MaxAge),
			meaning: "how long messages stay in the stream"},
		{key: "nats.max_bytes", initial: "0", set: bytes(&c.NATS.MaxBytes),
			meaning: "size of the stream in bytes; 0: 80 % of the store when embedded, else no limit"},
		{key: "nats.replicas", initial: "1", set: whole(&c.NATS.Replicas, 1, 5),
			meaning: "replicas of the stream, 1 to 5; more than 1 needs an external cluster"},

		{key: "events.detail", initial: "full", set: oneOf(&c.Events.Detail, "full", "redacted"),
			meaning: "`redacted` leaves error text and validation messages out of events"},
		{key: "audit_horizon", initial: "168h", set: duration(&c.AuditHorizon),
			meaning: "how long rendered payloads of published events are kept for healing the stream"},
		{key: "retention.payloads", initial: "720h", set: age(&c.Retention.Payloads),
			meaning: "how long the bodies of quarantined records are kept after they were last seen; 0 is for ever"},
		{key: "retention.quarantine", initial: "2160h", set: age(&c.Retention.Quarantine),
			meaning: "how long quarantined records are kept after they were last seen; 0 is for ever; rejected events stay until " +
				"they are retried or dropped"},
		{key: "retention.history", initial: "0", set: age(&c.Retention.History),
			meaning: "how long finished operations are kept after their last change, with their transitions, never less than " +
				"`audit_horizon`; 0 is for ever"},

		{key: "http.listen", flag: "--http-listen", initial: "127.0.0.1:8080", set: listen(&c.HTTP.Listen),
			meaning: "address of health and metrics; other than loopback needs `http.token_file`"},
		{key: "http.token_file", set: text(&c.HTTP.TokenFile),
			meaning: "file that holds the token which HTTP clients must send"},
		{key: "http.pprof_listen", set: local(&c.HTTP.PprofListen),
			meaning: "loopback address of Go's profiles, for `go tool pprof`; empty: none"},
		{key: "log.level", flag: "--log-level", initial: "info", set: level(&c.Log.Level),
			meaning: "`debug`, `info`, `warn` or `error`"},
		{key: "log.format", initial: "auto", set: oneOf(&c.Log.Format, "auto", "json", "text"),
			meaning: "`json`, `text`, or `auto`: text on a terminal, else JSON"},
		{key: "shutdown_timeout", initial: "20s", set: duration(&c.ShutdownTimeout),
			meaning: "how long a graceful stop may take"},
	}
}

const (
	companiesKey      = "companies"
	companiesVariable = variablePrefix + "COMPANIES"
	companiesMeaning  = "list of `id` and optional `name`; the variable reads `id[=name],…` and replaces the whole list"
	apiKeyVariable    = "CODAT_API_KEY"
)
