package publisher

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between client and server, keeps its address while the server
// changes its own, and loses what it is told to lose of what the server sends.
type proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	target  string // empty: nobody is let through
	lose    func(payload []byte) bool
	conns   map[net.Conn]struct{}
	cut     bool // break the connection instead of losing a message
	dropped int
	passed  int // connections let through
}

func startProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.point("")
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

// point sends clients to target from now on and breaks what is connected.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for c := range p.conns {
		c.Close()
	}
}

// losing makes the proxy lose the messages to the client for which lose says so.
func (p *proxy) losing(lose func(payload []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose, p.cut = lose, false
}

// breakingAt makes the proxy break the connection at such a message.
func (p *proxy) breakingAt(lose func(payload []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose, p.cut = lose, true
}

func (p *proxy) lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped
}

func (p *proxy) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if target == "" || err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		if p.target != target {
			p.mu.Unlock()
			client.Close()
			server.Close()
			continue
		}
		p.passed++
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { defer p.close(client, server); _, _ = io.Copy(server, client) })
		p.wg.Go(func() { defer p.close(client, server); p.answers(client, bufio.NewReader(server)) })
	}
}

func (p *proxy) close(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// answers passes on what the server says, message by message.
func (p *proxy) answers(client io.Writer, server *bufio.Reader) {
	for {
		line, err := server.ReadBytes('\n')
		if err != nil {
			return
		}
		var payload []byte
		if bytes.HasPrefix(line, []byte("MSG ")) || bytes.HasPrefix(line, []byte("HMSG ")) {
			fields := bytes.Fields(line)
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return
			}
			payload = make([]byte, size+2)
			if _, err := io.ReadFull(server, payload); err != nil {
				return
			}
		}
		p.mu.Lock()
		drop := payload != nil && p.lose != nil && p.lose(payload)
		if drop {
			p.dropped++
		}
		cut := drop && p.cut
		p.mu.Unlock()
		if cut {
			return
		}
		if drop {
			continue
		}
		if _, err := client.Write(append(line, payload...)); err != nil {
			return
		}
	}
}

// acknowledgement returns the sequence that a publish was acknowledged with, 0
// when payload is something else.
func acknowledgement(payload []byte) uint64 {
	var ack struct {
		Type     string
		Stream   string
		Sequence uint64 `json:"seq"`
	}
	if json.Unmarshal(payload, &ack) != nil || ack.Type != "" || ack.Stream == "" {
		return 0
	}
	return ack.Sequence
}

// firstOfEach loses the first acknowledgement of every message of the stream.
func firstOfEach() func([]byte) bool {
	seen := map[uint64]bool{}
	return func(payload []byte) bool {
		sequence := acknowledgement(payload)
		first := sequence != 0 && !seen[sequence]
		seen[sequence] = true
		return first
	}
}

func everyAcknowledgement(payload []byte) bool { return acknowledgement(payload) != 0 }
