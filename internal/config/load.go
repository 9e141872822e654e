package config

import (
	"slices"
	"strings"
)

// Load returns the configuration that a file, the environment (as "NAME=value")
// and flags make up, and what should be mended in it. Its errors are of type
// *[Error]. It reads the configuration file, the files that it names (key, token and
// certificates) and changes nothing.
func Load(args Flags, environ []string) (Config, Warnings, error) {
	var c Config
	l := loader{args: args, config: &c, settings: settings(&c, args.CheckSchedule)}
	l.variables = l.readVariables(environ)
	if err := l.load(); err != nil {
		return Config{}, nil, err
	}
	return c, l.warnings, nil
}

type loader struct {
	args      Flags
	config    *Config
	settings  []setting
	variables map[string]string
	origins   map[string]string // of the keys that were set
	warnings  Warnings
}

// load takes the sources up from the weakest to the strongest, then checks what
// concerns more than one key.
func (l *loader) load() error {
	if err := l.checkVariables(); err != nil {
		return err
	}
	path := first(l.args.File, l.variables[variablePrefix+"CONFIG"])
	read := &file{}
	if path != "" {
		var err error
		if read, err = readFile(path, l.keys()); err != nil {
			return err
		}
	}
	l.origins = map[string]string{}
	for _, s := range l.settings {
		if err := l.take(s, read.values); err != nil {
			return err
		}
	}
	l.config.File = path
	l.config.HTTP.AnyPort = l.origins["http.listen"] == ""
	l.config.Postgres.External = l.config.Postgres.URL != "" || l.variables["PGHOST"] != "" || l.variables["PGSERVICE"] != ""
	for _, check := range []func() error{
		l.checkAddresses,
		func() error { return l.takeCompanies(read) },
		l.readAPIKey, l.readCA, l.readToken, l.checkReplicas,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) keys() []string {
	var keys []string
	for _, s := range l.settings {
		if s.key != "" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// take sets one setting from the strongest source that says anything.
func (l *loader) take(s setting, fromFile map[string]value) error {
	v := value{text: s.initial}
	for _, stronger := range []value{
		fromFile[s.key],
		{l.variables[s.also], s.also},
		{l.variables[s.variable()], s.variable()},
		{l.flag(s.flag), s.flag},
	} {
		if stronger.text != "" {
			v = stronger
		}
	}
	if v.text == "" {
		return nil
	}
	if v.origin != "" {
		l.origins[s.key] = v.origin
	}
	if err := s.set(v.text); err != nil {
		name := s.key
		if name == "" {
			name = strings.TrimPrefix(s.flag, "--")
		}
		return failf(v.origin, "%s: %v", name, err)
	}
	return nil
}

func (l *loader) flag(name string) string {
	return map[string]string{
		"--config": l.args.File, "--data-dir": l.args.DataDir,
		"--log-level": l.args.LogLevel, "--http-listen": l.args.HTTPListen,
	}[name]
}

func (l *loader) readVariables(environ []string) map[string]string {
	variables := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, text, _ := strings.Cut(entry, "="); name != "" {
			variables[name] = text
		}
	}
	return variables
}

// checkVariables refuses PUSHWATCH_ variables that mean nothing. Kubernetes
// injects PUSHWATCH_SERVICE_* and PUSHWATCH_PORT* beside a service of our name.
func (l *loader) checkVariables() error {
	known := []string{companiesVariable}
	for _, s := range l.settings {
		known = append(known, s.variable())
	}
	var unknown []string
	for name, text := range l.variables {
		if text != "" && strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) &&
			!strings.HasPrefix(name, variablePrefix+"SERVICE_") && !strings.HasPrefix(name, variablePrefix+"PORT") {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	name := slices.Min(unknown) // the same one every time
	if customary := l.customary(strings.TrimPrefix(name, variablePrefix)); customary != "" {
		return failf("", "unknown environment variable %s; it is %s", name, customary)
	}
	return failf("", "unknown environment variable %s; the nearest is %s", name, nearest(name, known))
}

// checkAddresses refuses what can be known to be no address before anything is
// started or asked.
func (l *loader) checkAddresses() error {
	c, args := l.config, l.args
	refused := func(key string, err error) error {
		if err == nil {
			return nil
		}
		return failf(l.origins[key], "%s: %v", key, err)
	}
	if c.Postgres.External && args.CheckPostgres != nil {
		key := "postgres.url"
		if c.Postgres.URL == "" {
			key = "PGHOST or PGSERVICE"
		}
		if err := refused(key, args.CheckPostgres(c.Postgres.URL.Reveal())); err != nil {
			return err
		}
	}
	if c.NATS.External() && args.CheckNATS != nil {
		if err := refused("nats.url", args.CheckNATS(c.NATS.URL.Reveal())); err != nil {
			return err
		}
	}
	if !args.WithoutAPIKey && args.CheckCodat != nil {
		return refused("codat.base_url", args.CheckCodat(c.Codat.BaseURL, c.Codat.AllowHTTP))
	}
	return nil
}

// customary returns the names of what is set by a variable that is not all
// pushwatch's own, such as DATABASE_URL; empty for any other.
func (l *loader) customary(variable string) string {
	if variable == apiKeyVariable {
		return apiKeyVariable + ", or " + variablePrefix + "CODAT_API_KEY_FILE"
	}
	for _, s := range l.settings {
		if s.also == variable {
			return s.also + ", or " + s.variable()
		}
	}
	return ""
}

func (l *loader) checkReplicas() error {
	if l.config.NATS.Replicas > 1 && !l.config.NATS.External() {
		return failf(l.origins["nats.replicas"], "nats.replicas: %d needs an external NATS cluster; set nats.url, or leave 1",
			l.config.NATS.Replicas)
	}
	return nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
