package tars.clients;

import static tars.clients.Check.*;

import io.lettuce.core.Consumer;
import io.lettuce.core.Limit;
import io.lettuce.core.Range;
import io.lettuce.core.StreamMessage;
import io.lettuce.core.XAutoClaimArgs;
import io.lettuce.core.XClaimArgs;
import io.lettuce.core.XGroupCreateArgs;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.XReadArgs.StreamOffset;
import io.lettuce.core.api.sync.RedisCommands;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Lettuce: groups, claims and large values. */
final class LettuceStreams {
    private LettuceStreams() {}

    static String groups() throws Exception {
        String stream = key("groups");
        XGroupCreateArgs make = XGroupCreateArgs.Builder.mkstream();
        try (LettuceFeatures.Open open = LettuceFeatures.open()) {
            RedisCommands<String, String> commands = open.commands();
            commands.xgroupCreate(StreamOffset.latest(stream), "g", make);
            refused("XGROUP CREATE", () -> commands.xgroupCreate(StreamOffset.latest(stream), "g", make), "BUSYGROUP");
            Map<String, Map<String, String>> sent = new HashMap<>();
            for (int n = 0; n < 100; n++) {
                sent.put(commands.xadd(stream, message(n)), message(n));
            }
            equal("ids", sent.size(), 100);
            for (int turn = 0; turn < 10; turn++) {
                Consumer<String> consumer = Consumer.from("g", "c" + turn % 2);
                XReadArgs ten = XReadArgs.Builder.count(10);
                var entries = commands.xreadgroup(consumer, ten, StreamOffset.lastConsumed(stream));
                equal("entries", entries.size(), 10);
                for (StreamMessage<String, String> entry : entries) {
                    sameFields("message", entry.getBody(), sent.remove(entry.getId()));
                    equal("XACK", commands.xack(stream, "g", entry.getId()), 1L);
                    equal("XACK again", commands.xack(stream, "g", entry.getId()), 0L);
                }
            }
            equal("messages that did not come", sent.size(), 0);
            equal("XPENDING", commands.xpending(stream, "g").getCount(), 0L);
            Consumer<String> consumer = Consumer.from("g", "c0");
            equal("XREADGROUP", commands.xreadgroup(consumer, XReadArgs.Builder.block(10), StreamOffset.lastConsumed(stream)), List.of());
            Consumer<String> stranger = Consumer.from("none", "c0");
            refused("XREADGROUP", () -> commands.xreadgroup(stranger, StreamOffset.lastConsumed(stream)), "NOGROUP");
        }
        return null;
    }

    /** These entries in this order, with what was sent: entry n has the field n. */
    private static void same(String what, List<StreamMessage<String, String>> got, List<String> all, List<String> wanted) {
        equal(what, got.stream().map(StreamMessage::getId).toList(), wanted);
        for (StreamMessage<String, String> entry : got) {
            sameFields(what, entry.getBody(), Map.of("n", "" + all.indexOf(entry.getId())));
        }
    }

    /** What XINFO says, a list of names and values. */
    private static Map<String, Object> pairs(Object said) {
        Map<String, Object> pairs = new HashMap<>();
        List<?> flat = (List<?>) said;
        for (int n = 0; n + 1 < flat.size(); n += 2) {
            pairs.put((String) flat.get(n), flat.get(n + 1));
        }
        return pairs;
    }

    static String claims() {
        String stream = key("claims");
        Consumer<String> two = Consumer.from("g", "two");
        Consumer<String> three = Consumer.from("g", "three");
        try (LettuceFeatures.Open open = LettuceFeatures.open()) {
            RedisCommands<String, String> commands = open.commands();
            commands.xgroupCreate(StreamOffset.from(stream, "0"), "g", XGroupCreateArgs.Builder.mkstream());
            List<String> ids = new ArrayList<>();
            for (int n = 0; n < 8; n++) {
                ids.add(commands.xadd(stream, Map.of("n", "" + n)));
            }
            for (String from : List.of(">", "0")) {
                same("XREADGROUP", commands.xreadgroup(Consumer.from("g", "one"), StreamOffset.from(stream, from)), ids, ids);
            }

            var pending = commands.xpending(stream, "g");
            equal("XPENDING", List.of(pending.getCount(), pending.getMessageIds()), List.of(8L, Range.create(ids.get(0), ids.get(7))));
            equal("XPENDING", pending.getConsumerMessageCount(), Map.of("one", 8L));
            var each = commands.xpending(stream, "g", Range.unbounded(), Limit.from(10));
            equal("XPENDING of each", each.stream().map(one -> one.getId() + one.getConsumer() + one.getRedeliveryCount()).toList(),
                    ids.stream().map(id -> id + "one2").toList());

            String[] claimed = ids.subList(0, 3).toArray(String[]::new);
            same("XCLAIM", commands.xclaim(stream, two, 0, claimed), ids, ids.subList(0, 3));
            equal("XCLAIM JUSTID", commands.xclaim(stream, two, XClaimArgs.Builder.justid().minIdleTime(0), claimed).stream()
                    .map(StreamMessage::getId).toList(), List.of(claimed));
            same("XCLAIM of what is not idle", commands.xclaim(stream, two, 3_600_000, claimed), ids, List.of());

            // One of them is gone: the entries are the others.
            commands.xdel(stream, ids.get(3));
            var auto = commands.xautoclaim(stream, XAutoClaimArgs.Builder.xautoclaim(three, 0, ids.get(3)).count(3));
            same("XAUTOCLAIM", auto.getMessages(), ids, ids.subList(4, 6));
            equal("the next", auto.getId(), ids.get(6));
            auto = commands.xautoclaim(stream, XAutoClaimArgs.Builder.justid(three, 0, ids.get(6)));
            equal("XAUTOCLAIM JUSTID", auto.getMessages().stream().map(StreamMessage::getId).toList(), ids.subList(6, 8));
            equal("the end", auto.getId(), "0-0");

            Map<String, Object> info = pairs(commands.xinfoStream(stream));
            equal("length", info.get("length"), 7L);
            for (var end : Map.of("first-entry", 0, "last-entry", 7).entrySet()) {
                List<?> entry = (List<?>) info.get(end.getKey());
                equal("id", entry.get(0), ids.get(end.getValue()));
                equal("field", pairs(entry.get(1)).get("n"), "" + end.getValue());
            }
            Map<String, Object> group = pairs(commands.xinfoGroups(stream).get(0));
            equal("XINFO GROUPS", List.of(group.get("name"), group.get("consumers"), group.get("pending")), List.of("g", 3L, 7L));
            Map<Object, Object> held = new HashMap<>();
            commands.xinfoConsumers(stream, "g").forEach(one -> held.put(pairs(one).get("name"), pairs(one).get("pending")));
            equal("XINFO CONSUMERS", held, Map.of("one", 0L, "two", 3L, "three", 4L));
            equal("XACK", commands.xack(stream, "g", ids.toArray(String[]::new)), 7L);
        }
        return null;
    }

    static String large() {
        String name = key("large");
        String value = "0123456789abcde\n".repeat(20 << 16);
        try (LettuceFeatures.Open open = LettuceFeatures.open()) {
            RedisCommands<String, String> commands = open.commands();
            equal("SET", commands.set(name, value), "OK");
            equal("GET", commands.get(name).equals(value), true);
            commands.del(name);
            Map<String, String> sent = Map.of("small", "1", "large", value.substring(0, 2 << 20));
            String id = commands.xadd(name, sent);
            StreamMessage<String, String> entry = commands.xread(StreamOffset.from(name, "0")).get(0);
            equal("id", entry.getId(), id);
            sameFields("XREAD", entry.getBody(), sent);
        }
        return null;
    }
}
