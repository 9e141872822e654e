package publisher

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startCluster starts three servers that replicate to each other.
func startCluster(t *testing.T) []*broker {
	// Each must know the others' ports before it starts. They are held until all are known.
	var routes []*url.URL
	var ports []int
	var held []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	for _, l := range held {
		l.Close()
	}
	var nodes []*broker
	for i, port := range ports {
		nodes = append(nodes, startBroker(t, func(o *server.Options) {
			o.ServerName, o.Routes = fmt.Sprintf("node-%d", i), routes
			o.Cluster = server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: port}
		}))
	}
	eventually(t, "a leader that sees all", func() bool {
		for _, n := range nodes {
			if n.running.JetStreamIsLeader() {
				return len(n.running.JetStreamClusterPeers()) == 3
			}
		}
		return false
	})
	return nodes
}

// A cluster checks the id before the sequence and refuses what is still in
// flight with codes of its own, without saying where anything is.
func TestOnAClusterLostAcknowledgementsAndRacingRelaysDuplicateNothing(t *testing.T) {
	nodes := startCluster(t)
	direct := dial(t, nodes[0].url())
	c := streamConfig()
	c.Replicas = 3
	wanted := c.wanted()
	wanted.Duplicates = 100 * time.Millisecond
	_, err := api(t, direct).CreateStream(t.Context(), wanted)
	require.NoError(t, err)
	o := newOutbox()
	o.fill(100, 3)
	forgetful := &amnesia{outbox: o, offered: map[string]int{}}
	var wg sync.WaitGroup
	for i := range 2 {
		p := startProxy(t, nodes[i+1].address())
		p.losing(firstOfEach())
		s, _, err := EnsureStream(t.Context(), dial(t, p.url()), c)
		require.NoError(t, err)
		r := newRelay(t, s, forgetful, func(c *Config) { c.AckTimeout = 200 * time.Millisecond })
		wg.Go(func() {
			for range 1000 {
				if o.empty() {
					return
				}
				_, _ = r.RunOnce(t.Context())
			}
		})
	}
	wg.Wait()
	collide(t, nodes, c, o)

	messages := readAll(t, direct)
	o.finished(t, messages)
	assert.Len(t, messages, 300+maxInFlight)
}

// collide publishes the same new events over two nodes at the same moment: each
// is stored by one of them at most, and to the other nothing is proven.
func collide(t *testing.T, nodes []*broker, c StreamConfig, o *outbox) {
	var streams [2]*JetStream
	for i := range streams {
		s, _, err := EnsureStream(t.Context(), dial(t, nodes[i+1].url()), c)
		require.NoError(t, err)
		streams[i] = s
	}
	first := len(o.rows)
	for i := range maxInFlight {
		o.add("company", fmt.Sprintf("collision %d", i), "pending")
	}
	var attempts []attempt
	for _, row := range o.rows[first:] {
		attempts = append(attempts, attempt{pending: &row.Pending})
	}
	var answers [2][]answer
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() { answers[i] = publish(s, c.Name, attempts, true, 5*time.Second) })
	}
	wg.Wait()
	for i := range attempts {
		for _, a := range [2]answer{answers[0][i], answers[1][i]} {
			require.Contains(t, []outcome{stored, unclear}, a.outcome, "%v", a.err)
		}
		require.False(t, answers[0][i].outcome == stored && answers[1][i].outcome == stored, "stored twice")
	}
	drain(t, newRelay(t, streams[0], o), o)
}
