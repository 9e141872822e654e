package publisher

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// CheckURLs refuses what is no list of servers, and asks none of them. Its errors quote nothing: with a
// password that should have been percent-encoded, what looks like a host, a port
// or a path is a part of it, and the client library would ask the network for it.
func CheckURLs(servers string) error {
	found := 0
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if server == "" {
			continue // a comma too many, as the library takes it
		}
		found++
		if err := checkURL(server); err != nil {
			return fmt.Errorf("server %d: %w", found, err)
		}
	}
	if found == 0 {
		return errors.New("it names no server")
	}
	return nil
}

// hosts returns the hosts of servers that CheckURLs takes, without what is secret.
func hosts(servers string) string {
	var all []string
	for server := range strings.SplitSeq(servers, ",") {
		if u, err := url.Parse(withScheme(strings.TrimSpace(server))); err == nil && u.Host != "" {
			all = append(all, u.Host)
		}
	}
	return strings.Join(all, ", ")
}

func withScheme(server string) string {
	if strings.Contains(server, "://") {
		return server
	}
	return "nats://" + server
}

func checkURL(server string) error {
	server = withScheme(server)
	const encode = "percent-encode / ? # % and spaces in a user, a password or a token"
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return errors.New("it is not a URL; " + encode)
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return errors.New("it must begin with nats://, tls://, ws:// or wss://")
	case u.Hostname() == "":
		return errors.New("it names no host")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || strings.Contains(server, "#"):
		return errors.New("it must end with the host and port; " + encode)
	}
	return nil
}
