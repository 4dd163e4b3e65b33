// What the harness's own tests run in pods, and what holds a pod's namespaces open (`probe pause`).
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = "probe pause | sleep SECONDS | exit CODE | eat MEBIBYTES | meet PORT HOST[:PORT]... | fetch SECONDS URL"

func main() {
	words := append(os.Args[1:], "", "")
	number, err := strconv.Atoi(words[1])
	switch {
	case words[0] == "pause":
		pause()
	case err != nil:
		fail(fmt.Errorf("usage: %s", usage))
	case words[0] == "sleep":
		time.Sleep(time.Duration(number) * time.Second)
	case words[0] == "exit":
		os.Exit(number)
	case words[0] == "eat":
		fmt.Println("ate", len(eat(number)), "pages")
	case words[0] == "meet":
		meet(words[1], os.Args[3:])
	case words[0] == "fetch":
		fetch(time.Duration(number)*time.Second, words[2])
	default:
		fail(fmt.Errorf("usage: %s", usage))
	}
}

// pause waits for its end and, being the first process of its namespace, takes up those that lost their parent.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for child := 1; child > 0; {
			child, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}

// eat touches every page, or the kernel would not count it.
func eat(mebibytes int) []byte {
	memory := make([]byte, mebibytes<<20)
	for page := 0; page < len(memory); page += 4096 {
		memory[page] = 1
	}
	return memory
}

// meet listens on a port and ends once every host was reached by its name, there or at a port of its own, and has had
// time to do the same.
func meet(port string, hosts []string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fail(err)
	}
	go func() {
		for {
			if connection, err := listener.Accept(); err == nil {
				connection.Close()
			}
		}
	}()
	deadline := time.Now().Add(time.Minute)
	var rest time.Duration
	for _, host := range hosts {
		address := host
		if !strings.Contains(host, ":") {
			address = net.JoinHostPort(host, port)
			// a peer may stand still before it has met this one
			rest = 20 * time.Second
		}
		connection, err := net.DialTimeout("tcp", address, time.Second)
		for ; err != nil && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			connection, err = net.DialTimeout("tcp", address, time.Second)
		}
		if err != nil {
			fail(err)
		}
		fmt.Println("met", host, "at", connection.RemoteAddr())
	}
	time.Sleep(rest)
}

// fetch prints what is at a URL.
func fetch(limit time.Duration, url string) {
	client := http.Client{Timeout: limit}
	answer, err := client.Get(url)
	if err != nil {
		fail(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		fail(err)
	}
	fmt.Println(answer.StatusCode, string(body))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(64)
}
