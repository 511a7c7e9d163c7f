package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var goRedis = []feature{
	{name: "connect", run: connect},
	{name: "resp3", run: resp3},
	{name: "pipeline", run: pipeline},
	{name: "transaction", run: transaction},
	{name: "scripts", run: scripts},
	{name: "pubsub", run: pubsub},
	{name: "blocking", run: blocking},
	{name: "groups", run: groups},
	{name: "claims", run: claims},
	{name: "large", run: large},
	{name: "reconnect", run: reconnect, note: sentAgain},
}

func connect(ctx context.Context) {
	client := open(func(options *redis.Options) {
		options.ClientName = key("name")
		options.DB = 1
		options.PoolSize = 1
	})
	defer client.Close()
	equal("PING", the("PING", client.Ping(ctx).Result), "PONG")
	info := the("CLIENT INFO", client.ClientInfo(ctx).Result)
	equal("name", info.Name, key("name"))
	equal("database", info.DB, 1)
	equal("protocol", info.Resp, 3)
	// CLIENT SETINFO is sent in the handshake; a server before 7.2 refuses it, and the library goes on.
	if info.LibName != "" && !strings.HasPrefix(info.LibName, "go-redis") {
		throw("lib-name is %s", info.LibName)
	}

	ok("SET", client.Set(ctx, key("connect"), "one", 0).Err())
	zero := open()
	defer zero.Close()
	equal("EXISTS in database 0", the("EXISTS", zero.Exists(ctx, key("connect")).Result), 0)

	older := open(func(options *redis.Options) { options.Protocol = 2 })
	defer older.Close()
	equal("RESP2", the("CLIENT INFO", older.ClientInfo(ctx).Result).Resp, 2)
}

func resp3(ctx context.Context) {
	client := open(oneConnection)
	defer client.Close()
	name := key("resp3")
	want := map[string]string{"a": "1", "b": "", "c": "\r\n*2\r\n"}
	ok("HSET", client.HSet(ctx, name, want).Err())
	equal("HGETALL", the("HGETALL", client.HGetAll(ctx, name).Result), want)
	raw := the("HGETALL", client.Do(ctx, "HGETALL", name).Result)
	if _, is := raw.(map[any]any); !is {
		throw("HGETALL is no map but %T", raw)
	}
	ok("ZADD", client.ZAdd(ctx, name+":z", redis.Z{Score: 1.5, Member: "m"}).Err())
	equal("ZSCORE", the("ZSCORE", client.Do(ctx, "ZSCORE", name+":z", "m").Result), any(1.5))

	// The library's own cache: the server's pushes empty it.
	cache := redis.NewLocalCache(redis.CacheConfig{MaxStaleness: time.Hour})
	cached := open(oneConnection, func(options *redis.Options) { options.ClientSideCache = cache })
	defer cached.Close()
	other := control()
	defer other.Close()
	for i := range 3 {
		value := fmt.Sprint(i)
		ok("SET", other.Set(ctx, name+":cached", value, 0).Err())
		until(ctx, "an invalidation", func() bool { return cache.Len() == 0 })
		for range 2 {
			equal("GET", the("GET", cached.Get(ctx, name+":cached").Result), value)
		}
		equal("entries in the cache", cache.Len(), 1)
	}
}

func pipeline(ctx context.Context) {
	client := open()
	defer client.Close()
	stream := key("pipeline")
	ids := map[string]int{}
	for _, atomic := range []bool{false, true} {
		pipe := client.Pipeline()
		if atomic {
			pipe = client.TxPipeline()
		}
		ok("DEL", client.Del(ctx, stream).Err())
		for i := range 250 {
			pipe.Set(ctx, fmt.Sprint(stream, i), i, time.Minute)
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"i", fmt.Sprint(i)}})
			pipe.Get(ctx, fmt.Sprint(stream, i))
			pipe.XLen(ctx, stream)
		}
		replies := the("pipeline", func() ([]redis.Cmder, error) { return pipe.Exec(ctx) })
		equal("replies", len(replies), 1000)
		for i := range 250 {
			equal("SET", replies[4*i].(*redis.StatusCmd).Val(), "OK")
			ids[replies[4*i+1].(*redis.StringCmd).Val()] = i
			equal("GET", replies[4*i+2].(*redis.StringCmd).Val(), fmt.Sprint(i))
			equal("XLEN", replies[4*i+3].(*redis.IntCmd).Val(), int64(i+1))
		}
	}
	equal("ids", len(ids), 500)
	for _, entry := range the("XRANGE", client.XRange(ctx, stream, "-", "+").Result) {
		sameFields(entry.ID, entry.Values, map[string]string{"i": fmt.Sprint(ids[entry.ID])})
	}

	// An error in the middle is the answer of that command only.
	pipe := client.Pipeline()
	before, wrong, after := pipe.Ping(ctx), pipe.Incr(ctx, stream), pipe.Ping(ctx)
	_, err := pipe.Exec(ctx)
	refused("Exec", err, "WRONGTYPE")
	ok("before", before.Err())
	refused("INCR", wrong.Err(), "WRONGTYPE")
	equal("after", after.Val(), "PONG")
}

func transaction(ctx context.Context) {
	client := open()
	defer client.Close()
	other := control()
	defer other.Close()
	name, stream := key("transaction"), key("transaction:stream")

	var count *redis.IntCmd
	var id *redis.StringCmd
	ok("MULTI", drop(client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		count = pipe.Incr(ctx, name)
		id = pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"a", "1"}})
		return nil
	})))
	equal("INCR", count.Val(), 1)
	entries := the("XRANGE", client.XRange(ctx, stream, id.Val(), id.Val()).Result)
	equal("entries", len(entries), 1)
	sameFields(id.Val(), entries[0].Values, map[string]string{"a": "1"})

	// What is watched changes: nothing is done.
	increment := func(meddle bool) error {
		return client.Watch(ctx, func(tx *redis.Tx) error {
			value := the("GET", tx.Get(ctx, name).Int)
			if meddle {
				ok("SET", other.Set(ctx, name, 10, 0).Err())
			}
			return drop(tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.Set(ctx, name, value+1, 0)
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"b", "2"}})
				return nil
			}))
		}, name)
	}
	if err := increment(true); !errors.Is(err, redis.TxFailedErr) {
		throw("EXEC after a change of what is watched: %v", err)
	}
	equal("XLEN", the("XLEN", client.XLen(ctx, stream).Result), 1)
	ok("EXEC", increment(false))
	equal("GET", the("GET", client.Get(ctx, name).Result), "11")
	equal("XLEN", the("XLEN", client.XLen(ctx, stream).Result), 2)

	// A command that cannot be queued, and one that fails when it is run.
	refused("EXEC", drop(client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Incr(ctx, name)
		pipe.Do(ctx, "GET")
		return nil
	})), "EXECABORT")
	refused("EXEC", drop(client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.LPush(ctx, name, "no list")
		count = pipe.Incr(ctx, name)
		return nil
	})), "WRONGTYPE")
	equal("INCR after an error", count.Val(), 12)
}

// drop leaves the error alone.
func drop(_ []redis.Cmder, err error) error { return err }

func scripts(ctx context.Context) {
	client := open()
	defer client.Close()
	name := key("scripts")
	// No other run has this script: its text has the prefix.
	source := "-- " + name + "\nredis.call('XADD', KEYS[1], '*', 'a', ARGV[1]) return {ARGV[1], redis.call('XLEN', KEYS[1])}"
	script := redis.NewScript(source)
	refused("EVALSHA", script.EvalSha(ctx, client, []string{name}, "x").Err(), "NOSCRIPT")
	equal("Run", the("Run", script.Run(ctx, client, []string{name}, "x").Slice), []any{"x", int64(1)})
	equal("EVALSHA", the("EVALSHA", script.EvalSha(ctx, client, []string{name}, "y").Slice), []any{"y", int64(2)})
	equal("SCRIPT EXISTS", the("SCRIPT EXISTS", script.Exists(ctx, client).Result), []bool{true})
	refused("EVAL", client.Eval(ctx, "return redis.error_reply('MINE it is')", nil).Err(), "MINE it is")
	equal("EVAL", the("EVAL", client.Eval(ctx, "return {1, {2, 'three', false}}", nil).Slice), []any{int64(1), []any{int64(2), "three", nil}})

	library := strings.NewReplacer(":", "_", "-", "_", ".", "_", "/", "_").Replace(name)
	code := "#!lua name=" + library + "\nredis.register_function{function_name='" + library +
		"', callback=function(keys, args) return redis.call('XLEN', keys[1]) end, flags={'no-writes'}}"
	equal("FUNCTION LOAD", the("FUNCTION LOAD", client.FunctionLoadReplace(ctx, code).Result), library)
	defer client.FunctionDelete(ctx, library)
	equal("FCALL", the("FCALL", client.FCall(ctx, library, []string{name}).Int), 2)
	equal("FCALL_RO", the("FCALL_RO", client.FCallRO(ctx, library, []string{name}).Int), 2)
}

func large(ctx context.Context) {
	client := open()
	defer client.Close()
	name, value := key("large"), strings.Repeat("0123456789abcde\n", 20<<16)
	ok("SET", client.Set(ctx, name, value, 0).Err())
	if the("GET", client.Get(ctx, name).Result) != value {
		throw("GET: not the 20 MB that were set")
	}
	ok("DEL", client.Del(ctx, name).Err())

	sent := map[string]string{"small": "1", "large": value[:2<<20]}
	id := the("XADD", client.XAdd(ctx, &redis.XAddArgs{Stream: name, Values: sent}).Result)
	entries := the("XRANGE", client.XRange(ctx, name, id, id).Result)
	equal("entries", len(entries), 1)
	sameFields("XRANGE", entries[0].Values, sent)
	streams := the("XREAD", client.XRead(ctx, &redis.XReadArgs{Streams: []string{name, "0"}}).Result)
	sameFields("XREAD", streams[0].Messages[0].Values, sent)
}

// A connection that the server closes: go-redis looks at an idle connection before it uses it, takes another, and repeats a
// command whose connection ended under it; a subscriber connects and subscribes again by itself.
func reconnect(ctx context.Context) {
	client := open(oneConnection, func(options *redis.Options) { options.ClientName = key("reconnect") })
	defer client.Close()
	other := control()
	defer other.Close()
	for range 3 {
		id := the("CLIENT ID", client.ClientID(ctx).Result)
		equal("CLIENT KILL", the("CLIENT KILL", other.ClientKillByFilter(ctx, "ID", fmt.Sprint(id)).Result), 1)
		ok("the next command", client.Set(ctx, key("reconnect"), "1", 0).Err())
		if the("CLIENT ID", client.ClientID(ctx).Result) == id {
			throw("the connection was not closed")
		}
	}

	// In mid-command: it is sent again.
	id := the("CLIENT ID", client.ClientID(ctx).Result)
	popped := make(chan []string, 1)
	go func() { popped <- client.BLPop(ctx, 10*time.Second, key("reconnect:list")).Val() }()
	whenBlocked(ctx, other, id)
	ok("CLIENT KILL", other.ClientKillByFilter(ctx, "ID", fmt.Sprint(id)).Err())
	ok("RPUSH", other.RPush(ctx, key("reconnect:list"), "x").Err())
	equal("the killed BLPOP", <-popped, []string{key("reconnect:list"), "x"})
	ok("the command after it", client.Ping(ctx).Err())

	channel := key("reconnect:channel")
	subscriber := client.Subscribe(ctx, channel)
	defer subscriber.Close()
	messages := subscriber.Channel()
	subscribers := func() bool {
		return the("PUBSUB NUMSUB", other.PubSubNumSub(ctx, channel).Result)[channel] == 1
	}
	until(ctx, "SUBSCRIBE", subscribers)
	equal("CLIENT KILL", the("CLIENT KILL", other.ClientKillByFilter(ctx, "ID", subscriberID(ctx, other)).Result), 1)
	until(ctx, "SUBSCRIBE again", subscribers)
	ok("PUBLISH", other.Publish(ctx, channel, "again").Err())
	select {
	case message := <-messages:
		equal("message", message.Payload, "again")
	case <-ctx.Done():
		throw("no message after the subscription was renewed")
	}
}

// subscriberID finds the connection of reconnect's subscriber, which the library does not give away.
func subscriberID(ctx context.Context, other *redis.Client) string {
	list := the("CLIENT LIST", other.Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").Text)
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name="+key("reconnect")+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			return id
		}
	}
	throw("no subscriber in CLIENT LIST")
	return ""
}
