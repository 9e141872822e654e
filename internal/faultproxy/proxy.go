// Package faultproxy stands between pushwatch and one of its servers, in tests,
// and does to their connections what networks do: it cuts them, lets bytes vanish
// in one direction or in both, slows them to a trickle, and loses the very message
// that a test picks.
//
// It guarantees that a connection never skips bytes: what a fault held back is
// delivered when the fault ends, or the connection breaks, as with TCP. Close
// leaves no goroutine and no connection behind.
package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Mode is what the proxy does to all its connections.
type Mode int

// The modes. A change of mode takes effect on the bytes that come next.
const (
	Open      Mode = iota // bytes pass
	Refusing              // connections are broken, new ones too
	BlackHole             // connections stand, new ones too, and nothing comes through
	HalfOpen              // what the client says arrives, what the server says does not
	Slow                  // a byte a second
)

// Fate is what befalls a message.
type Fate int

// The fates.
const (
	Pass      Fate = iota
	Lose           // it does not arrive; the connection goes on, where the protocol allows that
	CutBefore      // the connection breaks instead
	CutAfter       // it arrives and takes effect, and the connection breaks instead of the answer
)

// Proxy listens on the loopback. Its methods may be called from any goroutine.
type Proxy struct {
	listener net.Listener
	pump     func(*link) // of the connection's protocol
	work     sync.WaitGroup

	mu       sync.Mutex // protects all below
	dial     func() (net.Conn, error)
	mode     Mode
	changed  chan struct{} // closed at the next change of mode
	closed   bool
	links    map[*link]struct{}
	judge    func(message []byte) Fate
	struck   int
	accepted int
}

// New returns a proxy to whatever dial reaches, without regard to what is said.
func New(dial func() (net.Conn, error)) (*Proxy, error) { return listen(dial, (*link).copyBoth) }

// To returns a dial for New: a network, such as tcp or unix, and an address.
func To(network, address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.DialTimeout(network, address, 5*time.Second) }
}

func listen(dial func() (net.Conn, error), pump func(*link)) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, pump: pump, dial: dial, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// Addr returns host and port of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close breaks everything and waits until it is gone.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.work.Wait()
}

// Set changes the mode. Refusing breaks what is connected.
func (p *Proxy) Set(m Mode) {
	p.mu.Lock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if m == Refusing {
		p.Cut()
	}
}

// Cut breaks what is connected. New connections are taken as the mode says.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end()
	}
}

// Redirect sends new connections elsewhere and breaks the old ones.
func (p *Proxy) Redirect(dial func() (net.Conn, error)) {
	p.mu.Lock()
	p.dial = dial
	p.mu.Unlock()
	p.Cut()
}

// Judge makes the proxy ask what befalls each message, as the proxy's protocol
// defines them; nil lets all pass. It is called from many goroutines, one at a time.
func (p *Proxy) Judge(judge func(message []byte) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

// Struck returns how many messages did not just pass.
func (p *Proxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck
}

// Accepted returns how many connections were let through.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *Proxy) fate(message []byte) Fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judge == nil {
		return Pass
	}
	fate := p.judge(message)
	if fate != Pass {
		p.struck++
	}
	return fate
}

func (p *Proxy) state() (Mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.connect(client) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	p.mu.Lock()
	dial, refusing := p.dial, p.mode == Refusing
	p.mu.Unlock()
	var server net.Conn
	err := errors.New("refused")
	if !refusing {
		server, err = dial()
	}
	if err != nil {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, server: server, gone: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.mode == Refusing {
		p.mu.Unlock()
		l.end()
		return
	}
	p.links[l] = struct{}{}
	p.accepted++
	p.mu.Unlock()
	p.pump(l)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	once           sync.Once
	gone           chan struct{}
}

// end breaks both sides without a farewell: what is on its way is lost.
func (l *link) end() { l.endWith(reset) }

func (l *link) endWith(end func(net.Conn)) {
	l.once.Do(func() {
		close(l.gone)
		end(l.client)
		end(l.server)
	})
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// both runs the two directions of a link until one ends, and ends the other: where
// one side has said all it had to say, the other hears all of it.
func (l *link) both(toServer, toClient func() error) {
	var directions sync.WaitGroup
	for _, f := range []func() error{toServer, toClient} {
		directions.Go(func() {
			if f() == nil {
				l.endWith(func(conn net.Conn) { _ = conn.Close() })
			}
			l.end()
		})
	}
	directions.Wait()
}

func (l *link) copyBoth() {
	l.both(
		func() error { _, err := io.Copy(l.toServer(), l.client); return err },
		func() error { _, err := io.Copy(l.toClient(), l.server); return err },
	)
}

func (l *link) toServer() io.Writer { return &valve{l, l.server, false} }
func (l *link) toClient() io.Writer { return &valve{l, l.client, true} }

// valve is one direction of a link: it passes bytes on as the mode lets it.
type valve struct {
	link   *link
	to     net.Conn
	answer bool // what the server says
}

func (v *valve) Write(b []byte) (n int, err error) {
	for n < len(b) {
		mode, changed := v.link.proxy.state()
		var pause <-chan time.Time
		step := len(b) - n
		switch {
		case mode == BlackHole, mode == HalfOpen && v.answer:
			step = 0
		case mode == Slow:
			step, pause = 1, time.After(time.Second)
		default:
			changed = nil
		}
		if step > 0 {
			written, err := v.to.Write(b[n : n+step])
			n += written
			if err != nil {
				return n, err
			}
		}
		if changed == nil {
			continue
		}
		select {
		case <-changed:
		case <-pause:
		case <-v.link.gone:
			return n, net.ErrClosed
		}
	}
	return n, nil
}
