// Command clients runs unmodified Go libraries against the server that REDIS_URL names, which may be a proxy before one.
//
//	clients LIBRARY     every feature with go-redis or Watermill, one line of JSON a feature
//	clients versions    the libraries and their versions, as JSON
//
// CONTROL_URL names the server itself, for what another client does to it. Every key, stream and channel begins with PREFIX.
// The exit status is 0 when it ran to the end, whatever the features came to.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A feature takes a second or two where it waits on purpose; the rest is for a machine with much to do.
const featureLimit = 20 * time.Second

type feature struct {
	name string
	run  func(context.Context)
	// What is said of it when it holds.
	note string
}

// What becomes of the command whose reply was awaited when its connection was killed, as the programs in other languages say it.
const sentAgain = "sent again over a new connection"

var libraries = map[string][]feature{
	"go-redis":  goRedis,
	"Watermill": waterMill,
}

var modules = map[string]string{
	"go-redis":  "github.com/redis/go-redis/v9",
	"Watermill": "github.com/ThreeDotsLabs/watermill-redisstream",
}

func main() {
	if len(os.Args) != 2 {
		fail("usage: clients LIBRARY | versions")
	}
	if os.Args[1] == "versions" {
		versions()
		return
	}
	features, known := libraries[os.Args[1]]
	if !known {
		fail("no library is called " + os.Args[1])
	}
	for _, name := range []string{"REDIS_URL", "CONTROL_URL", "PREFIX"} {
		if os.Getenv(name) == "" {
			fail(name + " is not set")
		}
	}
	for _, feature := range features {
		report(feature, bounded(feature.run))
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

func versions() {
	build, _ := debug.ReadBuildInfo()
	found := map[string]string{}
	for _, module := range build.Deps {
		for library, path := range modules {
			if module.Path == path {
				found[library] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	line, _ := json.Marshal(found)
	fmt.Println(string(line))
}

func report(of feature, why error) {
	line := struct {
		Feature string `json:"feature"`
		OK      bool   `json:"ok"`
		Note    string `json:"note,omitempty"`
		Why     string `json:"why,omitempty"`
	}{Feature: of.name, OK: why == nil}
	if why != nil {
		line.Why = why.Error()
	} else {
		line.Note = of.note
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

// bounded gives what went wrong with a feature: what it threw, or that it took too long, in which case it is left behind.
func bounded(run func(context.Context)) error {
	ctx, cancel := context.WithTimeout(context.Background(), featureLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if thrown := recover(); thrown != nil {
				if _, ours := thrown.(failure); !ours {
					debug.PrintStack()
				}
				done <- fmt.Errorf("%v", thrown)
				return
			}
			done <- nil
		}()
		run(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(featureLimit + time.Second):
		return fmt.Errorf("no end after %v", featureLimit)
	}
}

// --- What the features are written with -------------------------------------------------------------------------

// What a feature throws when it does not hold.
type failure string

func throw(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// ok is for commands whose answer does not matter.
func ok(what string, err error) {
	if err != nil {
		throw("%s: %v", what, err)
	}
}

// the is the answer of a command that must not fail: the("GET", client.Get(…).Result).
func the[T any](what string, result func() (T, error)) T {
	value, err := result()
	ok(what, err)
	return value
}

// Long values are not worth a line of that length.
func short(value any) string {
	text := fmt.Sprintf("%v", value)
	if len(text) > 100 {
		text = fmt.Sprintf("%s… (%d bytes)", text[:100], len(text))
	}
	return text
}

func equal[T any](what string, got, want T) {
	if !reflect.DeepEqual(got, want) {
		throw("%s: %s instead of %s", what, short(got), short(want))
	}
}

// refused demands an error that begins so.
func refused(what string, err error, prefix string) {
	if err == nil || !strings.HasPrefix(err.Error(), prefix) {
		throw("%s: %v instead of an error %s", what, err, prefix)
	}
}

// until asks again and again, for as long as the feature has time.
func until(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		select {
		case <-ctx.Done():
			throw("%s: not in time", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func key(name string) string { return os.Getenv("PREFIX") + ":" + name }

// open is a client as an application has it: from the URL, and otherwise the library's defaults.
func open(adjust ...func(*redis.Options)) *redis.Client { return openAt("REDIS_URL", adjust...) }

// control is another client, past the proxy.
func control() *redis.Client { return openAt("CONTROL_URL") }

func openAt(variable string, adjust ...func(*redis.Options)) *redis.Client {
	options, err := redis.ParseURL(os.Getenv(variable))
	ok(variable, err)
	for _, change := range adjust {
		change(options)
	}
	return redis.NewClient(options)
}

// For what depends on which connection a command takes.
func oneConnection(options *redis.Options) { options.PoolSize = 1 }

// whenBlocked waits until the server holds the connection with this id in a blocking command.
func whenBlocked(ctx context.Context, other *redis.Client, id int64) {
	until(ctx, "a blocked client", func() bool {
		list := the("CLIENT LIST", other.Do(ctx, "CLIENT", "LIST", "ID", id).Text)
		return strings.Contains(list, " flags=b")
	})
}

// sameFields holds an entry against what was sent; the proxy may have added a trace's context, and nothing else.
func sameFields(what string, got map[string]any, sent map[string]string) {
	for name, value := range sent {
		equal(what+" "+name, got[name], any(value))
	}
	for name := range got {
		if _, known := sent[name]; !known && name != "traceparent" && name != "tracestate" {
			throw("%s: an unknown field %s", what, name)
		}
	}
}
