package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

const pooledSessions = 24

// Pooler returns the address of a pooler in front of a database, which lends a
// session for one transaction at a time and never the same one twice in a row, as
// PgBouncer may in transaction mode. It is harsher than that: it passes on no
// setting of the client's, its sessions live in another time zone, and nothing
// cleans up what a transaction leaves in its session.
func Pooler(t testing.TB, databaseURL string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &pooler{databaseURL: databaseURL, idle: make(chan *session, pooledSessions), clients: map[net.Conn]bool{}}
	p.work.Go(func() { p.accept(listener) })
	t.Cleanup(func() {
		_ = listener.Close()
		p.end()
	})
	u := url.URL{Scheme: "postgres", User: url.User("pushwatch"), Host: listener.Addr().String(), Path: "/pooled",
		RawQuery: "sslmode=disable"}
	return u.String()
}

type pooler struct {
	databaseURL string
	idle        chan *session // oldest first: so no client gets its last one again while others are free
	work        sync.WaitGroup

	mu      sync.Mutex // protects all below
	clients map[net.Conn]bool
	opened  int
	ended   bool
}

// session is a connection to the server.
type session struct {
	conn       net.Conn
	reader     io.Reader // of conn
	parameters map[string]string
}

// take lends a session. It opens another one while fewer than two are idle, so
// that there is a choice, up to the limit; then it waits.
func (p *pooler) take() (*session, error) {
	p.mu.Lock()
	more := len(p.idle) < 2 && p.opened < pooledSessions
	if more {
		p.opened++
	}
	p.mu.Unlock()
	if !more {
		return <-p.idle, nil
	}
	s, err := p.open()
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opened--
	}
	return s, err
}

// lose forgets a session whose transaction was not finished: the server does too.
func (p *pooler) lose(s *session) {
	_ = s.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened--
}

func (p *pooler) open() (*session, error) {
	config, err := pgconn.ParseConfig(p.databaseURL)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["timezone"] = "America/St_Johns"
	config.RuntimeParams["application_name"] = "pooled"
	// Where a write takes long, as on a busy machine, pgconn reads ahead in the
	// background, and goes on with that when it has the connection no more: who read
	// conn itself would miss an answer, and wait for ever.
	var reader io.Reader
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		reader = r
		return pgproto3.NewFrontend(r, w)
	}
	conn, err := pgconn.ConnectConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	raw, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return &session{raw.Conn, reader, raw.ParameterStatuses}, nil
}

func (p *pooler) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.ended {
			_ = conn.Close()
		} else {
			p.clients[conn] = true
			p.work.Go(func() { p.serve(conn) })
		}
		p.mu.Unlock()
	}
}

func (p *pooler) end() {
	p.mu.Lock()
	p.ended = true
	for conn := range p.clients {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
	close(p.idle)
	for s := range p.idle {
		_ = s.conn.Close()
	}
}

// serve lends sessions to one client until it goes.
func (p *pooler) serve(client net.Conn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.clients, client)
		_ = client.Close()
	}()
	if err := p.greet(client); err != nil {
		return
	}
	for {
		first, err := readMessage(client)
		if err != nil || first.kind == 'X' {
			return
		}
		s, err := p.take()
		if err != nil {
			return
		}
		if err := s.transaction(client, first); err != nil {
			p.lose(s)
			return
		}
		p.idle <- s
	}
}

// greet answers a client's startup as a server that trusts it.
func (p *pooler) greet(client net.Conn) error {
	backend := pgproto3.NewBackend(client, client)
	for {
		startup, err := backend.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch startup.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := client.Write([]byte{'N'}); err != nil {
				return err
			}
		case *pgproto3.StartupMessage:
			s, err := p.take()
			if err != nil {
				return err
			}
			parameters := s.parameters
			p.idle <- s
			backend.Send(&pgproto3.AuthenticationOk{})
			for name, value := range parameters {
				backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
			}
			backend.Send(&pgproto3.BackendKeyData{SecretKey: []byte{0, 0, 0, 0}})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			return backend.Flush()
		default: // a request to cancel: by then the session may be somebody else's
			return errors.New("not a startup")
		}
	}
}

// transaction passes messages to and fro until the server is outside a
// transaction again. What a client sends up to where the server must answer is
// passed on beside the answer: of a pipeline that is larger than the buffers between
// them the server answers the beginning before it reads the end.
func (s *session) transaction(client net.Conn, first message) error {
	var asked []byte
	for m := first; ; {
		asked = m.append(asked)
		switch m.kind {
		case 'Q', 'S': // a query or a Sync: the server answers up to ReadyForQuery
			passed := make(chan error, 1)
			go func(asked []byte) {
				_, err := s.conn.Write(asked)
				passed <- err
			}(asked)
			outside, err := s.answer(client)
			if err != nil { // whoever loses the session closes it, and ends the write
				return err
			}
			if err := <-passed; err != nil || outside {
				return err
			}
			asked = nil
		case 'H', 'd', 'c', 'f':
			return fmt.Errorf("message %q: this pooler knows neither Flush nor COPY", m.kind)
		}
		var err error
		if m, err = readMessage(client); err != nil {
			return err
		}
		if m.kind == 'X' {
			return errors.New("the client left inside a transaction")
		}
	}
}

// answer passes one answer on and reports whether no transaction is open after it.
func (s *session) answer(client net.Conn) (outside bool, err error) {
	for {
		m, err := readMessage(s.reader)
		if err != nil {
			return false, err
		}
		if _, err := client.Write(m.append(nil)); err != nil {
			return false, err
		}
		if m.kind == 'Z' {
			return string(m.body) == "I", nil
		}
	}
}

// message is one message of PostgreSQL's protocol.
type message struct {
	kind byte
	body []byte
}

func readMessage(from io.Reader) (message, error) {
	var head [5]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return message{}, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err := io.ReadFull(from, body)
	return message{head[0], body}, err
}

func (m message) append(to []byte) []byte {
	to = binary.BigEndian.AppendUint32(append(to, m.kind), uint32(len(m.body)+4))
	return append(to, m.body...)
}
