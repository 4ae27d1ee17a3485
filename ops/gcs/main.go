// Command emulator serves a bucket of Google Cloud Storage out of a folder: fake-gcs-server's file backend, made fit
// to be stopped and killed.
//
// What it adds, each found by measurement:
//
//   - It serves one folder under any host name. The XML interface, by which Delta libraries read, is found by the name
//     a caller uses, and containers and the host they run on use different ones.
//   - That interface takes writes, in one piece and in parts, and lists from a name on, as Delta libraries need.
//   - SIGTERM lets requests under way finish.
//   - An object and its attributes are two writes. What a kill left between them (one kill in ten under load) is
//     completed at the next start: the object was written, with a generation of its own.
//   - A delete obeys `ifGenerationMatch`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

const drainFor = 10 * time.Second

func main() {
	listen := flag.String("listen", "127.0.0.1:4443", "address to listen on")
	root := flag.String("root", "", "folder that holds the objects")
	flag.Parse()
	if err := serve(*listen, *root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(listen, root string) error {
	if root == "" {
		return errors.New("-root is not set: name the folder that holds the objects")
	}
	completed, err := repair(root)
	if err != nil {
		return fmt.Errorf("-root %s: %w", root, err)
	}
	emulator, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		StorageRoot: root,
		NoListener:  true,
		PublicHost:  publicHost,
	})
	if err != nil {
		return fmt.Errorf("-root %s: %w", root, err)
	}
	server := &http.Server{
		Addr:              listen,
		Handler:           &door{inside: emulator.HTTPHandler()},
		ReadHeaderTimeout: 10 * time.Second,
	}
	drained := make(chan error, 1)
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		<-asked.Done()
		within, cancel := context.WithTimeout(context.Background(), drainFor)
		defer cancel()
		drained <- server.Shutdown(within)
	}()
	log.Printf("serving %s on %s; writes completed that were cut off: %d", root, listen, completed)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("-listen %s: %w", listen, err)
	}
	return <-drained
}
