package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"sync/atomic"
)

// NATS returns a proxy whose messages are the payloads, headers and all, of what a
// NATS server hands to its clients. One that is lost is left out alone.
func NATS(dial func() (net.Conn, error)) (*Proxy, error) {
	return listen(dial, func(l *link) {
		l.both(
			func() error { _, err := io.Copy(l.toServer(), l.client); return err },
			func() error { return l.natsAnswers(bufio.NewReader(l.server)) },
		)
	})
}

func (l *link) natsAnswers(server *bufio.Reader) error {
	for {
		line, err := server.ReadBytes('\n')
		if err != nil {
			return err
		}
		var payload []byte
		if bytes.HasPrefix(line, []byte("MSG ")) || bytes.HasPrefix(line, []byte("HMSG ")) {
			fields := bytes.Fields(line)
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return err
			}
			payload = make([]byte, size+2)
			if _, err := io.ReadFull(server, payload); err != nil {
				return err
			}
			switch l.proxy.fate(payload[:size]) {
			case Lose:
				continue
			case CutBefore, CutAfter: // the answer is all there is: its cause has taken effect
				return io.ErrUnexpectedEOF
			}
		}
		if _, err := l.toClient().Write(append(line, payload...)); err != nil {
			return err
		}
	}
}

// Acknowledged returns the stream sequence that a message of a NATS server
// acknowledges a publication with, 0 when it is something else.
func Acknowledged(message []byte) uint64 {
	var ack struct {
		Type     string
		Stream   string
		Sequence uint64 `json:"seq"`
	}
	if json.Unmarshal(message, &ack) != nil || ack.Type != "" || ack.Stream == "" {
		return 0
	}
	return ack.Sequence
}

// FirstOfEach returns a judge by which the first acknowledgement of every
// sequence of a stream meets its fate, and nothing else does.
func FirstOfEach(fate Fate) func(message []byte) Fate {
	seen := map[uint64]bool{}
	return func(message []byte) Fate {
		sequence := Acknowledged(message)
		if sequence == 0 || seen[sequence] {
			return Pass
		}
		seen[sequence] = true
		return fate
	}
}

// LoseFirst makes a NATS proxy lose the first acknowledgement of every sequence. Heard
// returns how many others it has let through: those of later attempts.
func (p *Proxy) LoseFirst() (heard func() int64) {
	var passed atomic.Int64
	judge := FirstOfEach(Lose)
	p.Judge(func(message []byte) Fate {
		fate := judge(message)
		if fate == Pass && Acknowledged(message) > 0 {
			passed.Add(1)
		}
		return fate
	})
	return passed.Load
}
