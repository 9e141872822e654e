package codat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// signer is who signs certificates.
type signer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newSigner returns an authority, and its certificate in PEM.
func newSigner(t *testing.T) (signer, string) {
	t.Helper()
	own := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	made := signer{certificate: own}.sign(t, own)
	parsed, err := x509.ParseCertificate(made.Certificate[0])
	require.NoError(t, err)
	return signer{parsed, made.PrivateKey.(*ecdsa.PrivateKey)},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}))
}

// sign returns a certificate with a key of its own, with which a signer without a
// key signs it too.
func (s signer) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	by := s.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.certificate, key.Public(), by)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOnlyAServerThatTheAuthorityVouchesForIsAsked(t *testing.T) {
	authority, trusted := newSigner(t)
	another, untrusted := newSigner(t)
	loopback := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		change(c)
		return c
	}
	good := func(*x509.Certificate) {}
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	elsewhere := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"api.codat.io"} }
	ofClients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	itself := loopback(good)
	for _, c := range []struct {
		name    string
		shown   tls.Certificate
		highest uint16 // TLS version of the server
		ca      string
		says    string // empty: it is asked
	}{
		{name: "one of our authority", shown: authority.sign(t, loopback(good)), ca: trusted},
		{name: "one of our authority among others", shown: authority.sign(t, loopback(good)), ca: untrusted + trusted},
		{name: "TLS 1.2", shown: authority.sign(t, loopback(good)), highest: tls.VersionTLS12, ca: trusted},
		{name: "TLS 1.1", shown: authority.sign(t, loopback(good)), highest: tls.VersionTLS11, ca: trusted, says: "protocol version"},
		{name: "TLS 1.0", shown: authority.sign(t, loopback(good)), highest: tls.VersionTLS10, ca: trusted, says: "protocol version"},
		{name: "expired", shown: authority.sign(t, loopback(expired)), ca: trusted, says: "expired"},
		{name: "not valid yet", shown: authority.sign(t, loopback(early)), ca: trusted, says: "not yet valid"},
		{name: "of another name", shown: authority.sign(t, loopback(elsewhere)), ca: trusted, says: "127.0.0.1"},
		{name: "of a client", shown: authority.sign(t, loopback(ofClients)), ca: trusted, says: "usage"},
		{name: "of another authority", shown: another.sign(t, loopback(good)), ca: trusted, says: "unknown authority"},
		{name: "signed by itself", shown: signer{certificate: itself}.sign(t, itself), ca: trusted, says: "certificate"},
		{name: "of an authority that the system does not know", shown: authority.sign(t, loopback(good)), says: "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				answering(with(`{}`))(w, r)
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{c.shown}, MinVersion: tls.VersionTLS10, MaxVersion: c.highest}
			server.StartTLS()
			t.Cleanup(server.Close)
			ledger := &gate{}
			client, err := New(Config{BaseURL: server.URL, Key: NewSecret(canary), Gate: ledger, CA: c.ca})
			require.NoError(t, err)
			page, err := client.Get(t.Context(), company, "k", push.ForTrack)
			ledger.settled(t)
			if c.says == "" {
				require.NoError(t, err)
				assert.Len(t, page.Rows, 1)
				return
			}
			assert.Equal(t, push.KindTransport, kindOfError(t, err))
			assert.ErrorContains(t, err, c.says)
			assert.Zero(t, asked.Load(), "the key is not sent to it")
		})
	}
}
