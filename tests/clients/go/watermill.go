package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
)

var waterMill = []feature{
	{name: "send", run: send},
	{name: "consume", run: consume},
	{name: "redelivery", run: redelivery},
}

var log = watermill.NewStdLogger(false, false)

func publisher() *redisstream.Publisher {
	return the("publisher", func() (*redisstream.Publisher, error) {
		return redisstream.NewPublisher(redisstream.PublisherConfig{Client: open()}, log)
	})
}

// What another consumer left idle for so long is claimed. A reader that is told to stop does so soon.
func subscriber(consumer string, idle time.Duration) *redisstream.Subscriber {
	return the("subscriber", func() (*redisstream.Subscriber, error) {
		return redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: open(), ConsumerGroup: "g", Consumer: consumer,
			ClaimInterval: 50 * time.Millisecond, MaxIdleTime: idle, DisableIndefiniteInitialBlock: true,
		}, log)
	})
}

func order(i int) *message.Message {
	sent := message.NewMessage(fmt.Sprint("uuid-", i), bytes.Repeat([]byte{'\n', 0xff, byte(i)}, i))
	sent.Metadata.Set("number", fmt.Sprint(i))
	return sent
}

func same(got *message.Message, i int) {
	want := order(i)
	equal("uuid", got.UUID, want.UUID)
	equal("metadata", got.Metadata, want.Metadata)
	equal("payload", string(got.Payload), string(want.Payload))
}

const orders = 20

func send(ctx context.Context) {
	sender := publisher()
	defer sender.Close()
	for i := range orders {
		ok("Publish", sender.Publish(key("in"), order(i)))
	}
	other := control()
	defer other.Close()
	entries := the("XRANGE", other.XRange(ctx, key("in"), "-", "+").Result)
	equal("entries", len(entries), orders)
	for i, entry := range entries {
		equal("uuid", entry.Values[redisstream.UUIDHeaderKey], any(order(i).UUID))
	}
}

// A router, as the library's own examples have it: what came in on one topic goes out on another.
func consume(ctx context.Context) {
	from, to := key("in"), key("out")
	router := the("router", func() (*message.Router, error) { return message.NewRouter(message.RouterConfig{}, log) })
	router.AddHandler("forward", from, subscriber("router", time.Minute), to, publisher(), func(got *message.Message) ([]*message.Message, error) {
		return message.Messages{got.Copy()}, nil
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	<-router.Running()

	receiver := subscriber("end", time.Minute)
	defer receiver.Close()
	received := the("Subscribe", func() (<-chan *message.Message, error) { return receiver.Subscribe(ctx, to) })
	for i := range orders {
		got := next(ctx, received)
		same(got, i)
		got.Ack()
	}
	settled(ctx, from)
	settled(ctx, to)
	ok("Close", router.Close())
	ok("Run", <-ended)
}

// Refused, the message comes again from the library's memory; left behind by a consumer that ended, by a claim from Redis.
func redelivery(ctx context.Context) {
	topic := key("redelivery")
	sender, first := publisher(), subscriber("first", time.Minute)
	defer sender.Close()
	ok("Publish", sender.Publish(topic, order(7)))
	received := the("Subscribe", func() (<-chan *message.Message, error) { return first.Subscribe(ctx, topic) })
	got := next(ctx, received)
	got.Nack()
	got = next(ctx, received)
	same(got, 7)
	ok("Close", first.Close())

	second := subscriber("second", time.Millisecond)
	defer second.Close()
	got = next(ctx, the("Subscribe", func() (<-chan *message.Message, error) { return second.Subscribe(ctx, topic) }))
	same(got, 7)
	got.Ack()
	settled(ctx, topic)
}

func next(ctx context.Context, messages <-chan *message.Message) *message.Message {
	select {
	case got, open := <-messages:
		if !open {
			throw("the subscription ended")
		}
		return got
	case <-ctx.Done():
		throw("no message")
		return nil
	}
}

func settled(ctx context.Context, stream string) {
	other := control()
	defer other.Close()
	until(ctx, "XACK of everything", func() bool {
		return the("XPENDING", other.XPending(ctx, stream, "g").Result).Count == 0
	})
}
