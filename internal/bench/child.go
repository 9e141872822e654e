package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pushwatch/pushwatch/internal/embedded"
)

// What a process of this program does when it is started with this variable: it
// reads its orders from standard input, answers on standard output, and ends when
// its input does, so that it never outlives who started it.
const childTask = "PUSHWATCH_BENCH_TASK"

const (
	serveLazily   = "nats"
	serveStrictly = "nats-sync-always"
	relayOnce     = "relay"
	lookAfter     = "companies"
	takeUp        = "take-up"
)

// child does a task and returns the exit code.
func child(task string) int {
	tasks := map[string]func(in io.Reader, out io.Writer) error{serveLazily: serveLazy, serveStrictly: serveStrict,
		relayOnce: relayAlone, lookAfter: lookAlone, takeUp: takeUpAlone}
	// A Ctrl-C goes to every process of the terminal. Ours end when their input does.
	signal.Ignore(os.Interrupt)
	do, ok := tasks[task]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: %s=%q: no such task\n", childTask, task)
		return 1
	}
	if err := do(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", task, err)
		return 1
	}
	return 0
}

// spawned is a child that answered.
type spawned struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// ourselves returns this program as a child that is killed with ctx.
func ourselves(ctx context.Context, task string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// killWhen starts a child, gives it orders, and kills it when struck is closed. That it
// ends before is an error.
func killWhen(ctx context.Context, struck <-chan struct{}, task string, orders any) error {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	cmd, err := ourselves(ctx, task)
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = json.NewEncoder(in).Encode(orders)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err == nil {
		select {
		case <-struck:
		case err = <-ended:
			return fmt.Errorf("child %s has ended too early: %w", task, err)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	kill()
	<-ended
	return err
}

// spawn starts a child, gives it orders and reads its answer.
func spawn(ctx context.Context, task string, orders, answer any) (*spawned, error) {
	cmd, err := ourselves(context.WithoutCancel(ctx), task) // ends with its input
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &spawned{cmd, in}
	err = json.NewEncoder(in).Encode(orders)
	if err == nil {
		err = json.NewDecoder(out).Decode(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("child %s: %w", task, errors.Join(err, s.stop()))
	}
	return s, nil
}

// stop tells the child to end and waits for it.
func (s *spawned) stop() error { return errors.Join(s.in.Close(), s.cmd.Wait()) }

// broker is a NATS server in a process of its own.
type broker struct {
	*spawned
	address
}

// address is how to reach a broker.
type address struct {
	URL      string
	Version  string
	MaxBytes int64 // that a stream may be given
}

func startBroker(ctx context.Context, task, dir string) (*broker, error) {
	b := &broker{}
	var err error
	b.spawned, err = spawn(ctx, task, dir, &b.address)
	return b, err
}

// connect returns a connection of one's own, as a program without pushwatch makes it.
func (b *broker) connect() (*nats.Conn, error) { return nats.Connect(b.URL) }

// serveStrict serves what the daemon embeds.
func serveStrict(in io.Reader, out io.Writer) error {
	dir, orders, err := readDir(in)
	if err != nil {
		return err
	}
	s, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Port: -1})
	if err != nil {
		return err
	}
	defer s.Stop()
	return answerAndWait(orders, out, address{URL: s.URL(), Version: server.VERSION, MaxBytes: s.StreamMaxBytes()})
}

// serveLazy serves the same, but for the sync before each acknowledgement.
func serveLazy(in io.Reader, out io.Writer) error {
	dir, orders, err := readDir(in)
	if err != nil {
		return err
	}
	const storeLimit = 64 << 30 // a limit, not a size
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: filepath.Join(dir, "nats"),
		JetStreamMaxStore: storeLimit, JetStreamMaxMemory: 64 << 20, NoSigs: true, NoLog: true, DisableShortFirstPing: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("the NATS server is not ready")
	}
	return answerAndWait(orders, out, address{URL: s.ClientURL(), Version: server.VERSION, MaxBytes: storeLimit})
}

func readDir(in io.Reader) (dir string, orders *json.Decoder, err error) {
	orders = json.NewDecoder(in)
	return dir, orders, wrapped("read the orders", orders.Decode(&dir))
}

// answerAndWait answers and returns when the input ends.
func answerAndWait(orders *json.Decoder, out io.Writer, answer any) error {
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		return err
	}
	var nothing any
	if err := orders.Decode(&nothing); !errors.Is(err, io.EOF) {
		return fmt.Errorf("orders after the first: %v, %v", nothing, err)
	}
	return nil
}

func wrapped(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

var quiet = slog.New(slog.DiscardHandler)
