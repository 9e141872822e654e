package faultproxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// Postgres returns a proxy whose messages are the texts of the simple queries that
// a client sends; "commit" is one. The client must not ask for TLS. One that is
// lost breaks the connection, like CutBefore: nobody could go on without it.
func Postgres(dial func() (net.Conn, error)) (*Proxy, error) {
	return listen(dial, func(l *link) {
		var last atomic.Bool // the next end of an answer is the last thing that happens
		l.both(
			func() error { return l.queries(&last) },
			func() error { return l.postgresAnswers(&last) },
		)
	})
}

func (l *link) queries(last *atomic.Bool) error {
	var length [4]byte // the first message has no type
	if _, err := io.ReadFull(l.client, length[:]); err != nil {
		return err
	}
	startup, err := body(l.client, length)
	if err != nil {
		return err
	}
	if _, err := l.toServer().Write(append(length[:], startup...)); err != nil {
		return err
	}
	for {
		head, text, err := frame(l.client)
		if err != nil {
			return err
		}
		if head[0] == 'Q' {
			switch l.proxy.fate(text[:len(text)-1]) {
			case Lose, CutBefore:
				return io.ErrUnexpectedEOF
			case CutAfter:
				last.Store(true)
			}
		}
		if _, err := l.toServer().Write(append(head[:], text...)); err != nil {
			return err
		}
	}
}

func (l *link) postgresAnswers(last *atomic.Bool) error {
	for {
		head, text, err := frame(l.server)
		if err != nil {
			return err
		}
		if last.Load() {
			if head[0] == 'Z' { // the query has taken effect
				return io.ErrUnexpectedEOF
			}
			continue
		}
		if _, err := l.toClient().Write(append(head[:], text...)); err != nil {
			return err
		}
	}
}

func frame(from io.Reader) (head [5]byte, text []byte, err error) {
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return head, nil, err
	}
	text, err = body(from, [4]byte(head[1:]))
	return head, text, err
}

func body(from io.Reader, length [4]byte) ([]byte, error) {
	size := binary.BigEndian.Uint32(length[:])
	if size < 4 || size > 1<<30 {
		return nil, errors.New("not a message of PostgreSQL's protocol")
	}
	text := make([]byte, size-4)
	_, err := io.ReadFull(from, text)
	return text, err
}
