// Command receipts takes payments from a stream, one by one, and puts receipts into another. It knows nothing of traces.
//
// Told to end, it finishes the payment at hand, waits for LINGER seconds, and says goodbye in a stream. CLUSTER: the URL is one of a Redis Cluster's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ending, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	me, _ := os.Hostname()
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	options.MaxRetries = -1
	var client redis.UniversalClient = redis.NewClient(options)
	if os.Getenv("CLUSTER") != "" {
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{options.Addr}})
	}
	ctx := context.Background()

	// Whatever fails is counted, and tried again as far as it is not known to be done.
	surely := func(command func() error) {
		for {
			err := command()
			if err == nil || errors.Is(err, redis.Nil) || strings.HasPrefix(err.Error(), "BUSYGROUP") {
				return
			}
			fmt.Println(err)
			time.Sleep(200 * time.Millisecond)
			client.HIncrBy(ctx, "faults", me, 1)
		}
	}
	surely(func() error { return client.XGroupCreateMkStream(ctx, "payments", "receipts", "0").Err() })
	for ending.Err() == nil {
		var streams []redis.XStream
		surely(func() (err error) {
			streams, err = client.XReadGroup(ctx, &redis.XReadGroupArgs{
				Group: "receipts", Consumer: me, Streams: []string{"payments", ">"}, Count: 1, Block: 500 * time.Millisecond,
			}).Result()
			return err
		})
		for _, stream := range streams {
			for _, payment := range stream.Messages {
				surely(func() error {
					return client.XAdd(ctx, &redis.XAddArgs{Stream: "receipts", Values: []any{"order", payment.Values["order"]}}).Err()
				})
				surely(func() error { return client.XAck(ctx, "payments", "receipts", payment.ID).Err() })
			}
		}
	}
	linger, _ := strconv.ParseFloat(os.Getenv("LINGER"), 64)
	time.Sleep(time.Duration(linger * float64(time.Second)))
	surely(func() error {
		return client.XAdd(ctx, &redis.XAddArgs{Stream: "goodbyes", Values: []any{"pod", me}}).Err()
	})
	client.Close()
}
