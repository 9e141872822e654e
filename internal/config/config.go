// Package config reads pushwatch's configuration: a YAML file, then the
// environment, then flags, where later wins and empty means unset.
//
// It guarantees that nothing is taken silently: an unknown or repeated key, an
// unknown PUSHWATCH_ variable and a value outside its range are errors of one
// line ([Error]) that say where the value came from and what is allowed. Secrets
// are held as [Secret], which no formatting shows. It reads the files that the
// configuration names (the API key, the certificates that vouch for Codat, the
// token of the HTTP server) and nothing else; it contacts no service.
package config

import (
	"log/slog"
	"time"
)

// Flags is what the command line says, and what the command needs.
type Flags struct {
	File       string // --config: path of the YAML file; empty: PUSHWATCH_CONFIG, else none
	DataDir    string // --data-dir
	LogLevel   string // --log-level
	HTTPListen string // --http-listen

	// CheckSchedule says what is wrong with a cron spec, such as a wrapper of
	// poller.ParseSchedule; nil takes every spec. Its error names the spec and what
	// is allowed; key and origin are put before it.
	CheckSchedule func(spec string) error
	// CheckPostgres, CheckNATS and CheckCodat say what is wrong with an address, and
	// show nothing of it; nil takes every one. That of PostgreSQL may be empty, then
	// libpq's variables tell it; that of NATS may be several.
	CheckPostgres func(url string) error
	CheckNATS     func(urls string) error
	CheckCodat    func(baseURL string, allowHTTP bool) error
	// WithoutCompanies lets a command that works on none start with none.
	WithoutCompanies bool
	// WithoutAPIKey lets a command that asks Codat nothing start without a key,
	// and reads none, nor the certificates that vouch for Codat.
	WithoutAPIKey bool
}

// Config is a whole, checked configuration: each field is what the user said, or
// else its default.
type Config struct {
	// File is the path of the file that was read; empty when there was none.
	File string
	// DataDir is where the embedded servers keep their data; empty when it was not
	// set, for embedded.DefaultDir to tell.
	DataDir string

	Codat     Codat
	Companies []Company // at least one, each id once, in the order given
	Poll      Poll
	Quota     Quota
	Postgres  Postgres
	NATS      NATS
	Events    Events
	// AuditHorizon is how long the rendered payloads of published events are kept
	// for healing the stream; more than 0, default 168h.
	AuditHorizon time.Duration
	Retention    Retention
	HTTP         HTTP
	Log          Log
	// ShutdownTimeout bounds a graceful stop; more than 0, default 20s.
	ShutdownTimeout time.Duration
}

// Codat says how to reach the API. Its rules for the address are checked by
// codat.New.
type Codat struct {
	BaseURL    string // default https://api.codat.io
	APIKey     Secret // of CODAT_API_KEY, else of the file; raw, or a ready "Basic …" value
	APIKeyFile string // where the key was to be read from; not read when CODAT_API_KEY is set
	AllowHTTP  bool   // takes http:// to other hosts than loopback; default false
	CAFile     string // of certificates that vouch for the API; empty: the system's do
	CA         string // what CAFile holds: at least one certificate in PEM
}

// Company is one configured company.
type Company struct {
	ID   string // not empty, no white space, at most 256 bytes
	Name string // a label; may be empty
}

// Poll says what is asked and when. Schedules are cron specs in UTC.
type Poll struct {
	Mode     string // "cron": look at ticks only; the one mode that is built, and the default
	Discover string // every company is listed; default "*/5 * * * *"
	Track    string // unfinished operations are followed; default "* * * * *"
	Sweep    string // whole histories are walked; default "0 3 * * *"
	PageSize int    // records of a discover page, 1 to 5000, default 100
	Baseline string // history from before the first look: "silent" (default) or "publish"
}

// Quota says how much of Codat's daily quota is pushwatch's.
type Quota struct {
	Reserve float64 // share left to other users of the key, 0 to 0.95, default 0.5
}

// Postgres says which database to use.
type Postgres struct {
	// External tells that a URL, PGHOST or PGSERVICE is set. Otherwise the embedded
	// cluster is used, and every PG* variable ignored.
	External bool
	URL      Secret // may be empty while External: then libpq's PG* variables tell
	Migrate  string // "auto" (default) applies migrations at the start, "verify" refuses pending ones
	Pooler   string // "none" (default), or "transaction" behind a transaction pooler
}

// NATS says which server and stream to use.
type NATS struct {
	URL             Secret        // empty: the embedded server
	CredentialsFile string        // of an external server; empty: none
	Stream          string        // default CODAT_PUSH
	SubjectPrefix   string        // default codat.push
	Manage          string        // "create" (default), "update" or "verify": what may be done to the stream
	MaxAge          time.Duration // of messages in the stream; more than 0, default 720h
	MaxBytes        int64         // of the stream; 0 (default): 80 % of the store when embedded, else no limit
	Replicas        int           // 1 (default) to 5; more than 1 needs an external server
}

// External reports whether NATS is somebody else's server.
func (n NATS) External() bool { return n.URL != "" }

// Events says what events tell.
type Events struct {
	Detail string // "full" (default), or "redacted": no error text, no validation messages
}

// Retention says how long is kept what need not be kept for ever; 0 is for ever.
type Retention struct {
	Payloads   time.Duration // bodies of quarantined records, since last seen; default 720h
	Quarantine time.Duration // quarantined records, since last seen; default 2160h
	History    time.Duration // finished operations, since their last change; default 0
}

// HTTP says where health and metrics are served.
type HTTP struct {
	Listen string // host:port, default 127.0.0.1:8080
	// AnyPort tells that Listen was not set: when its port is taken the next free
	// one may be used.
	AnyPort   bool
	TokenFile string // required when Listen is not a loopback address
	Token     Secret // read from TokenFile; empty when none is set
	// PprofListen is the host:port, of a loopback address, at which Go's profiles are
	// served; empty: nowhere.
	PprofListen string
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level // debug, info (default), warn or error
	Format string     // "auto" (default), "json" or "text"
}

// Warnings are what should be mended but does not keep the program from
// starting, each one line.
type Warnings []string
