// The one program of the node's own images.
// Without an argument it does what the sandbox of a pod does: it waits to be ended.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = "probe [serve ADDRESS | resolve NAME | connect HOST:PORT]"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
		return nil
	}
	if len(arguments) != 2 {
		return fmt.Errorf("usage: %s", usage)
	}
	switch argument := arguments[1]; arguments[0] {
	case "serve":
		fmt.Println("serving on", argument)
		return http.ListenAndServe(argument, http.HandlerFunc(greet))
	case "resolve":
		addresses, err := net.LookupHost(argument)
		fmt.Println(addresses)
		return err
	case "connect":
		connection, err := net.DialTimeout("tcp", argument, 5*time.Second)
		if err != nil {
			return err
		}
		fmt.Println("connected to", connection.RemoteAddr())
		return connection.Close()
	default:
		return fmt.Errorf("usage: %s", usage)
	}
}

func greet(response http.ResponseWriter, request *http.Request) {
	name, err := os.Hostname()
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(response, "%s answers %s %s%s\n", name, request.Method, request.Host, request.URL.Path)
}
