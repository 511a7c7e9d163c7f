package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func groups(ctx context.Context) {
	client := open()
	defer client.Close()
	stream := key("groups")
	ok("XGROUP CREATE", client.XGroupCreateMkStream(ctx, stream, "g", "$").Err())
	refused("XGROUP CREATE", client.XGroupCreate(ctx, stream, "g", "$").Err(), "BUSYGROUP")

	sent := map[string]map[string]string{}
	for i := range 100 {
		fields := map[string]string{
			"n":      fmt.Sprint(i),
			"empty":  "",
			"binary": "\x00\r\n\xff$-1\r\n",
			"text":   strings.Repeat("Grüße ", i),
		}
		sent[the("XADD", client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: fields}).Result)] = fields
	}
	equal("ids", len(sent), 100)

	seen := map[string]bool{}
	for turn := range 10 {
		streams := the("XREADGROUP", client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: "g", Consumer: fmt.Sprint("c", turn%2), Streams: []string{stream, ">"}, Count: 10, Block: -1,
		}).Result)
		equal("streams", len(streams), 1)
		equal("messages", len(streams[0].Messages), 10)
		for _, message := range streams[0].Messages {
			sameFields(message.ID, message.Values, sent[message.ID])
			seen[message.ID] = true
			equal("XACK", the("XACK", client.XAck(ctx, stream, "g", message.ID).Result), 1)
			equal("XACK again", the("XACK", client.XAck(ctx, stream, "g", message.ID).Result), 0)
		}
	}
	equal("messages", len(seen), 100)
	equal("XPENDING", the("XPENDING", client.XPending(ctx, stream, "g").Result).Count, 0)
	none := client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: "g", Consumer: "c0", Streams: []string{stream, ">"}, Block: 10 * time.Millisecond,
	})
	equal("XREADGROUP", none.Err(), error(redis.Nil))
	refused("XREADGROUP", client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: "none", Consumer: "c0", Streams: []string{stream, ">"},
	}).Err(), "NOGROUP")
}

func claims(ctx context.Context) {
	client := open()
	defer client.Close()
	stream := key("claims")
	ok("XGROUP CREATE", client.XGroupCreateMkStream(ctx, stream, "g", "0").Err())
	var ids []string
	sent := map[string]map[string]string{}
	for i := range 10 {
		fields := map[string]string{"n": fmt.Sprint(i)}
		id := the("XADD", client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: fields}).Result)
		ids, sent[id] = append(ids, id), fields
	}
	same := func(what string, messages []redis.XMessage, want []string) {
		var got []string
		for _, message := range messages {
			got = append(got, message.ID)
			sameFields(what, message.Values, sent[message.ID])
		}
		equal(what, got, want)
	}
	for _, from := range []string{">", "0"} {
		read := client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "one", Streams: []string{stream, from}})
		same("XREADGROUP", the("XREADGROUP", read.Result)[0].Messages, ids)
	}

	pending := the("XPENDING", client.XPending(ctx, stream, "g").Result)
	equal("XPENDING", *pending, redis.XPending{Count: 10, Lower: ids[0], Higher: ids[9], Consumers: map[string]int64{"one": 10}})
	extended := client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: stream, Group: "g", Start: ids[2], End: ids[2], Count: 5})
	one := the("XPENDING", extended.Result)
	equal("XPENDING", len(one), 1)
	equal("XPENDING", []any{one[0].ID, one[0].Consumer, one[0].RetryCount}, []any{ids[2], "one", int64(2)})

	claim := &redis.XClaimArgs{Stream: stream, Group: "g", Consumer: "two", Messages: ids[:3]}
	same("XCLAIM", the("XCLAIM", client.XClaim(ctx, claim).Result), ids[:3])
	equal("XCLAIM JUSTID", the("XCLAIM", client.XClaimJustID(ctx, claim).Result), ids[:3])
	claim.MinIdle = time.Hour
	same("XCLAIM of nothing", the("XCLAIM", client.XClaim(ctx, claim).Result), nil)

	// One of them is gone: the answer names it, and the entries are the others.
	ok("XDEL", client.XDel(ctx, stream, ids[4]).Err())
	auto := &redis.XAutoClaimArgs{Stream: stream, Group: "g", Consumer: "three", Start: ids[3], Count: 4}
	messages, next, deleted, err := client.XAutoClaimWithDeleted(ctx, auto).Result()
	ok("XAUTOCLAIM", err)
	same("XAUTOCLAIM", messages, []string{ids[3], ids[5], ids[6]})
	equal("deleted", deleted, []string{ids[4]})
	equal("the next", next, ids[7])
	auto.Start = next
	justIDs, next, err := client.XAutoClaimJustID(ctx, auto).Result()
	ok("XAUTOCLAIM", err)
	equal("XAUTOCLAIM JUSTID", justIDs, ids[7:])
	equal("the end", next, "0-0")

	info := the("XINFO STREAM", client.XInfoStream(ctx, stream).Result)
	equal("length", info.Length, 9)
	sameFields("the first", info.FirstEntry.Values, sent[ids[0]])
	sameFields("the last", info.LastEntry.Values, sent[ids[9]])
	full := the("XINFO STREAM FULL", client.XInfoStreamFull(ctx, stream, 0).Result)
	equal("entries", len(full.Entries), 9)
	equal("pending", len(full.Groups[0].Pending), 9)
	group := the("XINFO GROUPS", client.XInfoGroups(ctx, stream).Result)[0]
	equal("XINFO GROUPS", []any{group.Name, group.Consumers, group.Pending, group.LastDeliveredID}, []any{"g", int64(3), int64(9), ids[9]})
	held := map[string]int64{}
	for _, consumer := range the("XINFO CONSUMERS", client.XInfoConsumers(ctx, stream, "g").Result) {
		held[consumer.Name] = consumer.Pending
	}
	equal("XINFO CONSUMERS", held, map[string]int64{"one": 0, "two": 3, "three": 6})

	equal("XACK", the("XACK", client.XAck(ctx, stream, "g", ids...).Result), 9)
	ok("XGROUP DESTROY", client.XGroupDestroy(ctx, stream, "g").Err())
}
