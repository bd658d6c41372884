// Command containerd-stargz-grpc serves the stargz snapshotter to one containerd, over a Unix socket.
//
// Debian packages the snapshotter as a library only, so this is the daemon around it: it reads a configuration, listens,
// and on a signal unmounts what it has mounted. One process serves one job and ends with it.
//
// Standard input is a config.json of Docker's with logins for registries, or empty. It is read once, at the start: the
// file itself need not be anywhere where jobs can read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/pelletier/go-toml"
	"google.golang.org/grpc"
)

func main() {
	address := flag.String("address", "", "socket to listen on")
	root := flag.String("root", "", "directory for snapshots and cache")
	configuration := flag.String("config", "", "configuration file (TOML)")
	flag.Parse()
	if *address == "" || *root == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: containerd-stargz-grpc --address SOCKET --root DIRECTORY [--config FILE]")
		os.Exit(64)
	}
	if err := run(*address, *root, *configuration); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-stargz-grpc:", err)
		os.Exit(1)
	}
}

// run serves until a signal comes.
func run(address, root, configuration string) error {
	config, err := read(configuration)
	if err != nil {
		return err
	}
	known, err := readLogins(os.Stdin)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, config, service.WithCredsFuncs(known.credentials))
	if err != nil {
		return fmt.Errorf("snapshotter in %s: %w", root, err)
	}
	listener, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		server.Stop()
		err = nil
	}
	return errors.Join(err, snapshotter.Close())
}

// read gives the configuration in a file, or the default one where there is no file to read.
func read(name string) (*service.Config, error) {
	config := &service.Config{}
	if name == "" {
		return config, nil
	}
	tree, err := toml.LoadFile(name)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	if err := tree.Unmarshal(config); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return config, nil
}
