package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

func pubsub(ctx context.Context) {
	client := open()
	defer client.Close()
	other := control()
	defer other.Close()
	channel, pattern := key("pubsub"), key("pubsub:*")

	subscriber := client.Subscribe(ctx, channel)
	defer subscriber.Close()
	receive := func() any { return the("receive", func() (any, error) { return subscriber.Receive(ctx) }) }
	subscribed := func(kind, name string, count int) {
		equal(kind, *receive().(*redis.Subscription), redis.Subscription{Kind: kind, Channel: name, Count: count})
	}
	message := func(name, pattern, payload string) {
		got := receive().(*redis.Message)
		equal("message", *got, redis.Message{Channel: name, Pattern: pattern, Payload: payload})
	}
	subscribed("subscribe", channel, 1)
	ok("PSUBSCRIBE", subscriber.PSubscribe(ctx, pattern))
	subscribed("psubscribe", pattern, 2)

	// Through the proxy and past it.
	for _, publisher := range []*redis.Client{client, other} {
		equal("PUBLISH", the("PUBLISH", publisher.Publish(ctx, channel, "a\r\nb").Result), 1)
		message(channel, "", "a\r\nb")
		equal("PUBLISH", the("PUBLISH", publisher.Publish(ctx, key("pubsub:x"), "").Result), 1)
		message(key("pubsub:x"), pattern, "")
	}
	for i := range 100 {
		ok("PUBLISH", other.Publish(ctx, channel, i).Err())
	}
	for i := range 100 {
		message(channel, "", fmt.Sprint(i))
	}

	// The connection is as usable afterwards.
	ok("UNSUBSCRIBE", subscriber.Unsubscribe(ctx, channel))
	subscribed("unsubscribe", channel, 1)
	ok("PUNSUBSCRIBE", subscriber.PUnsubscribe(ctx, pattern))
	subscribed("punsubscribe", pattern, 0)
	equal("PUBLISH to nobody", the("PUBLISH", client.Publish(ctx, channel, "x").Result), 0)
	ok("PING", subscriber.Ping(ctx, "hello"))
	equal("PING", receive().(*redis.Pong).Payload, "hello")
	ok("SUBSCRIBE", subscriber.Subscribe(ctx, channel))
	subscribed("subscribe", channel, 1)

	sharded := client.SSubscribe(ctx, channel)
	defer sharded.Close()
	the("SSUBSCRIBE", func() (any, error) { return sharded.Receive(ctx) })
	equal("SPUBLISH", the("SPUBLISH", client.SPublish(ctx, channel, "s").Result), 1)
	equal("smessage", the("receive", func() (*redis.Message, error) { return sharded.ReceiveMessage(ctx) }).Payload, "s")
}

func blocking(ctx context.Context) {
	client := open(oneConnection)
	defer client.Close()
	other := control()
	defer other.Close()
	list, stream := key("blocking"), key("blocking:stream")
	id := the("CLIENT ID", client.ClientID(ctx).Result)

	// Nothing comes.
	equal("BLPOP", client.BLPop(ctx, time.Second, list).Err(), error(redis.Nil))
	none := client.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, "$"}, Block: 50 * time.Millisecond})
	equal("XREAD", none.Err(), error(redis.Nil))

	// Something is there already.
	ok("RPUSH", client.RPush(ctx, list, "one", "two").Err())
	for _, want := range []string{"one", "two"} {
		equal("BLPOP", the("BLPOP", client.BLPop(ctx, time.Second, key("blocking:empty"), list).Result), []string{list, want})
	}

	// Something comes meanwhile.
	popped := make(chan []string, 1)
	go func() { popped <- client.BLPop(ctx, 10*time.Second, list).Val() }()
	whenBlocked(ctx, other, id)
	ok("RPUSH", other.RPush(ctx, list, "three").Err())
	equal("BLPOP", <-popped, []string{list, "three"})

	read := make(chan []redis.XStream, 1)
	go func() {
		read <- client.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, "$"}, Block: 10 * time.Second}).Val()
	}()
	whenBlocked(ctx, other, id)
	through := open()
	defer through.Close()
	sent := map[string]string{"a": "1"}
	added := the("XADD", through.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: sent}).Result)
	streams := <-read
	equal("streams", len(streams), 1)
	equal("entries", len(streams[0].Messages), 1)
	equal("id", streams[0].Messages[0].ID, added)
	sameFields(added, streams[0].Messages[0].Values, sent)
	equal("the same connection", the("CLIENT ID", client.ClientID(ctx).Result), id)
}
