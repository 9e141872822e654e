package publisher

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// proxy stands between client and server, keeps its address while the server
// changes its own, and loses what it is told to lose of what the server sends.
type proxy struct{ *faultproxy.Proxy }

func startProxy(t *testing.T, target string) *proxy {
	p, err := faultproxy.NATS(faultproxy.To("tcp", target))
	require.NoError(t, err)
	t.Cleanup(p.Close)
	if target == "" {
		p.Set(faultproxy.Refusing)
	}
	return &proxy{p}
}

func (p *proxy) url() string { return "nats://" + p.Addr() }

// point sends clients to target from now on, "" nowhere, and breaks what is connected.
func (p *proxy) point(target string) {
	if target == "" {
		p.Set(faultproxy.Refusing)
		return
	}
	p.Redirect(faultproxy.To("tcp", target))
	p.Set(faultproxy.Open)
}

// losing makes the proxy lose the messages to the client for which lose says so.
func (p *proxy) losing(lose func(payload []byte) bool) { p.befalls(faultproxy.Lose, lose) }

// breakingAt makes the proxy break the connection at such a message.
func (p *proxy) breakingAt(lose func(payload []byte) bool) { p.befalls(faultproxy.CutBefore, lose) }

func (p *proxy) befalls(fate faultproxy.Fate, whom func(payload []byte) bool) {
	if whom == nil {
		p.Judge(nil)
		return
	}
	p.Judge(func(message []byte) faultproxy.Fate {
		if whom(message) {
			return fate
		}
		return faultproxy.Pass
	})
}

func (p *proxy) lost() int { return p.Struck() }

func (p *proxy) accepted() int { return p.Accepted() }

// firstOfEach loses the first acknowledgement of every message of the stream.
func firstOfEach() func([]byte) bool {
	judge := faultproxy.FirstOfEach(faultproxy.Lose)
	return func(message []byte) bool { return judge(message) == faultproxy.Lose }
}

func everyAcknowledgement(message []byte) bool { return faultproxy.Acknowledged(message) != 0 }
