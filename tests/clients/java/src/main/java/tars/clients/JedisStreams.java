package tars.clients;

import static tars.clients.Check.*;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.params.XAutoClaimParams;
import redis.clients.jedis.params.XClaimParams;
import redis.clients.jedis.params.XPendingParams;
import redis.clients.jedis.params.XReadGroupParams;
import redis.clients.jedis.params.XReadParams;
import redis.clients.jedis.resps.StreamConsumersInfo;
import redis.clients.jedis.resps.StreamEntry;
import redis.clients.jedis.resps.StreamPendingSummary;

/** Jedis: groups, claims and large values. */
final class JedisStreams {
    private JedisStreams() {}

    private static final StreamEntryID NEW = StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY;

    static String groups() throws Exception {
        String stream = key("groups");
        try (RedisClient client = JedisFeatures.open()) {
            client.xgroupCreate(stream, "g", StreamEntryID.XGROUP_LAST_ENTRY, true);
            refused("XGROUP CREATE", () -> client.xgroupCreate(stream, "g", StreamEntryID.XGROUP_LAST_ENTRY, true), "BUSYGROUP");
            Map<StreamEntryID, Map<String, String>> sent = new HashMap<>();
            for (int n = 0; n < 100; n++) {
                sent.put(client.xadd(stream, StreamEntryID.NEW_ENTRY, message(n)), message(n));
            }
            equal("ids", sent.size(), 100);
            for (int turn = 0; turn < 10; turn++) {
                String consumer = "c" + turn % 2;
                var ten = new XReadGroupParams().count(10);
                List<StreamEntry> entries = client.xreadGroupAsMap("g", consumer, ten, Map.of(stream, NEW)).get(stream);
                equal("entries", entries.size(), 10);
                for (StreamEntry entry : entries) {
                    sameFields("message", entry.getFields(), sent.remove(entry.getID()));
                    equal("XACK", client.xack(stream, "g", entry.getID()), 1L);
                    equal("XACK again", client.xack(stream, "g", entry.getID()), 0L);
                }
            }
            equal("messages that did not come", sent.size(), 0);
            equal("XPENDING", client.xpending(stream, "g").getTotal(), 0L);
            equal("XREADGROUP", client.xreadGroup("g", "c0", new XReadGroupParams().block(10), Map.of(stream, NEW)), null);
            refused("XREADGROUP", () -> client.xreadGroup("none", "c0", new XReadGroupParams(), Map.of(stream, NEW)), "NOGROUP");
        }
        return null;
    }

    private static List<StreamEntryID> ids(List<StreamEntry> entries) {
        return entries.stream().map(StreamEntry::getID).toList();
    }

    /** These entries in this order, with what was sent: entry n has the field n. */
    private static void same(String what, List<StreamEntry> got, List<StreamEntryID> all, List<StreamEntryID> wanted) {
        equal(what, ids(got), wanted);
        for (StreamEntry entry : got) {
            sameFields(what, entry.getFields(), Map.of("n", "" + all.indexOf(entry.getID())));
        }
    }

    static String claims() throws Exception {
        String stream = key("claims");
        try (RedisClient client = JedisFeatures.open()) {
            client.xgroupCreate(stream, "g", new StreamEntryID(0, 0), true);
            List<StreamEntryID> ids = new ArrayList<>();
            for (int n = 0; n < 8; n++) {
                ids.add(client.xadd(stream, StreamEntryID.NEW_ENTRY, Map.of("n", "" + n)));
            }
            for (StreamEntryID from : List.of(NEW, new StreamEntryID(0, 0))) {
                var read = client.xreadGroupAsMap("g", "one", new XReadGroupParams(), Map.of(stream, from));
                same("XREADGROUP", read.get(stream), ids, ids);
            }

            StreamPendingSummary pending = client.xpending(stream, "g");
            equal("XPENDING", List.of(pending.getTotal(), pending.getMinId(), pending.getMaxId()), List.of(8L, ids.get(0), ids.get(7)));
            equal("XPENDING", pending.getConsumerMessageCount(), Map.of("one", 8L));
            var each = client.xpending(stream, "g", new XPendingParams("-", "+", 10));
            equal("XPENDING of each", each.stream().map(one -> one.getID() + one.getConsumerName() + one.getDeliveredTimes()).toList(),
                    ids.stream().map(id -> id + "one2").toList());

            StreamEntryID[] three = ids.subList(0, 3).toArray(StreamEntryID[]::new);
            same("XCLAIM", client.xclaim(stream, "g", "two", 0, new XClaimParams(), three), ids, ids.subList(0, 3));
            equal("XCLAIM JUSTID", client.xclaimJustId(stream, "g", "two", 0, new XClaimParams(), three), List.of(three));
            same("XCLAIM of what is not idle", client.xclaim(stream, "g", "two", 3_600_000, new XClaimParams(), three), ids, List.of());

            // One of them is gone: the entries are the others.
            client.xdel(stream, ids.get(3));
            var claimed = client.xautoclaim(stream, "g", "three", 0, ids.get(3), new XAutoClaimParams().count(3));
            same("XAUTOCLAIM", claimed.getValue(), ids, ids.subList(4, 6));
            equal("the next", claimed.getKey(), ids.get(6));
            var justIds = client.xautoclaimJustId(stream, "g", "three", 0, ids.get(6), new XAutoClaimParams());
            equal("XAUTOCLAIM JUSTID", justIds.getValue(), ids.subList(6, 8));
            equal("the end", justIds.getKey(), new StreamEntryID(0, 0));

            var info = client.xinfoStream(stream);
            equal("length", info.getLength(), 7L);
            same("XINFO STREAM", List.of(info.getFirstEntry(), info.getLastEntry()), ids, List.of(ids.get(0), ids.get(7)));
            var full = client.xinfoStreamFull(stream);
            equal("entries", full.getEntries().size(), 7);
            equal("groups", full.getGroups().get(0).getName(), "g");
            var group = client.xinfoGroups(stream).get(0);
            equal("XINFO GROUPS", List.of(group.getName(), group.getConsumers(), group.getPending(), group.getLastDeliveredId()),
                    List.of("g", 3L, 7L, ids.get(7)));
            equal("XINFO CONSUMERS", client.xinfoConsumers(stream, "g").stream()
                            .collect(Collectors.toMap(StreamConsumersInfo::getName, StreamConsumersInfo::getPending)),
                    Map.of("one", 0L, "two", 3L, "three", 4L));
            equal("XACK", client.xack(stream, "g", ids.toArray(StreamEntryID[]::new)), 7L);
        }
        return null;
    }

    static String large() {
        String name = key("large");
        String value = "0123456789abcde\n".repeat(20 << 16);
        try (RedisClient client = JedisFeatures.open()) {
            equal("SET", client.set(name, value), "OK");
            equal("GET", client.get(name).equals(value), true);
            client.del(name);
            Map<String, String> sent = Map.of("small", "1", "large", value.substring(0, 2 << 20));
            StreamEntryID id = client.xadd(name, StreamEntryID.NEW_ENTRY, sent);
            StreamEntry entry = client.xreadAsMap(new XReadParams(), Map.of(name, new StreamEntryID(0, 0))).get(name).get(0);
            equal("id", entry.getID(), id);
            sameFields("XREAD", entry.getFields(), sent);
        }
        return null;
    }
}
