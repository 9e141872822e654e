package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/poller"
)

// compose is all that docker-compose.yml may say.
type compose struct {
	Name     string
	Services map[string]*service
	Configs  map[string]struct{ Content string }
	Volumes  map[string]any
}

type service struct {
	Image       string
	Build       string
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Configs     []struct{ Source, Target string }
	Ports       []string
	Volumes     []string
	Tmpfs       []string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	StopGrace   string                                `yaml:"stop_grace_period"`
	HealthCheck struct {
		Test              []string
		Interval, Timeout string
		Retries           int
	} `yaml:"healthcheck"`
}

var interpolation = regexp.MustCompile(`\$(\$|\{[A-Z_]+:-([^}]*)\}|.?)`)

// interpolated is what Compose makes of a text where no variable is set.
func interpolated(t *testing.T, text string) string {
	t.Helper()
	return interpolation.ReplaceAllStringFunc(text, func(found string) string {
		groups := interpolation.FindStringSubmatch(found)
		if groups[1] == "$" {
			return "$"
		}
		require.True(t, strings.HasPrefix(groups[1], "{"), "%s: write $$ for a dollar, ${NAME:-default} for a variable", found)
		return groups[2]
	})
}

func readCompose(t *testing.T) (c compose) {
	t.Helper()
	source := text(t, "docker-compose.yml")
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(source), &c, yaml.Strict()))
	for _, s := range c.Services {
		for _, list := range [][]string{s.Entrypoint, s.Command, s.Ports, s.HealthCheck.Test} {
			for i := range list {
				list[i] = interpolated(t, list[i])
			}
		}
		for name := range s.Environment {
			s.Environment[name] = interpolated(t, s.Environment[name])
		}
	}
	return c
}

func TestEveryServiceIsPinnedAndHasAHealthCheckThatOthersWaitFor(t *testing.T) {
	c := readCompose(t)
	require.ElementsMatch(t, []string{"postgres", "nats", "codatsim", "pushwatch"}, keys(c.Services))
	for name, s := range c.Services {
		if s.Build == "" {
			assert.Regexp(t, pinned, s.Image, name)
		} else {
			assert.Empty(t, s.Image, "%s: two services that build one name get in each other's way", name)
		}
		require.NotEmpty(t, s.HealthCheck.Test, name)
		assert.Equal(t, "CMD", s.HealthCheck.Test[0], name)
		assert.Positive(t, s.HealthCheck.Retries, name)
		for other, d := range s.DependsOn {
			assert.Equal(t, "service_healthy", d.Condition, "%s waits for %s", name, other)
		}
	}
	assert.ElementsMatch(t, []string{"postgres", "nats", "codatsim"}, keys(c.Services["pushwatch"].DependsOn))
}

func keys[V any](m map[string]V) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

func TestEveryPortIsOfThisMachineAloneAndCanBeMoved(t *testing.T) {
	for _, port := range regexp.MustCompile(`(?m)^ *ports: (.*)$`).FindAllStringSubmatch(text(t, "docker-compose.yml"), -1) {
		assert.Regexp(t, `^\["127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+"\]$`, port[1])
	}
	c := readCompose(t)
	assert.Equal(t, []string{"127.0.0.1:5432:5432"}, c.Services["postgres"].Ports)
	assert.Equal(t, []string{"127.0.0.1:4222:4222"}, c.Services["nats"].Ports)
	assert.Equal(t, []string{"127.0.0.1:8080:8080"}, c.Services["pushwatch"].Ports)
	assert.Empty(t, c.Services["codatsim"].Ports)
}

func TestTheOnlySecretIsTheSimulatorsKey(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		for variable, value := range s.Environment {
			if variable == "CODAT_API_KEY" {
				assert.Equal(t, "demo-key", value)
				continue
			}
			assert.NotRegexp(t, `(?i)(PASSWORD|SECRET|TOKEN|KEY|CREDENTIALS)$`, variable, name)
			assert.NotRegexp(t, `://[^/@]*:[^/@]*@`, value, "%s: %s holds a password", name, variable)
		}
	}
	assert.NotContains(t, text(t, "docker-compose.yml"), "${CODAT_API_KEY", "a real key must not reach the simulator")
}

// environment is the daemon's, as Compose gives it.
func (s *service) environ() (entries []string) {
	for name, value := range s.Environment {
		entries = append(entries, name+"="+value)
	}
	return entries
}

func TestTheDaemonsEnvironmentIsAConfiguration(t *testing.T) {
	s := readCompose(t).Services["pushwatch"]
	token := filepath.Join(t.TempDir(), "token") // the entrypoint makes it
	require.NoError(t, os.WriteFile(token, []byte("t"), 0o600))
	require.NotEmpty(t, s.Environment["PUSHWATCH_HTTP_TOKEN_FILE"])
	s.Environment["PUSHWATCH_HTTP_TOKEN_FILE"] = token
	schedule := func(spec string) error { _, err := poller.ParseSchedule(spec); return err }
	c, warnings, err := config.Load(config.Flags{CheckSchedule: schedule}, s.environ())
	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.True(t, c.Postgres.External)
	assert.True(t, c.NATS.External())
	grace, err := time.ParseDuration(s.StopGrace)
	require.NoError(t, err)
	assert.Greater(t, grace, c.ShutdownTimeout, "Docker must not kill what still stops")

	s.Environment["PUSHWATCH_POLL_DISCOVERY"] = "x"
	_, _, err = config.Load(config.Flags{CheckSchedule: schedule}, s.environ())
	assert.Error(t, err, "a variable that means nothing would be found")
}

func TestTheCompaniesAreThoseOfTheSimulatorsSeed(t *testing.T) {
	c := readCompose(t)
	assert.Subset(t, c.Services["codatsim"].Command, []string{"codatsim", "--seed", "1", "--companies", "3"})
	var ids []string
	for _, company := range codatsim.MakeCompanies(1, 3) {
		ids = append(ids, company.ID)
	}
	assert.Equal(t, strings.Join(ids, ","), c.Services["pushwatch"].Environment["PUSHWATCH_COMPANIES"])
}

func TestNATSIsDurableAndOfTheReleaseThatTheTestsRun(t *testing.T) {
	c := readCompose(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(interpolated(t, c.Configs["nats"].Content)), 0o600))
	options, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	assert.True(t, options.JetStream)
	assert.True(t, options.SyncAlways, "an acknowledged message must survive a power cut")
	assert.Equal(t, "/data", options.StoreDir)
	assert.Contains(t, c.Services["nats"].Volumes, "nats:/data")
	assert.Equal(t, "127.0.0.1", options.HTTPHost)
	assert.Equal(t, 8222, options.HTTPPort)
	for _, required := range goMod(t).Require {
		if required.Path == "github.com/nats-io/nats-server/v2" {
			assert.Equal(t, "nats:"+strings.TrimPrefix(required.Version, "v")+"-alpine", c.Services["nats"].Image)
		}
	}
	require.Len(t, c.Services["nats"].Configs, 1)
	assert.Equal(t, []string{"--config", c.Services["nats"].Configs[0].Target}, c.Services["nats"].Command)
}
