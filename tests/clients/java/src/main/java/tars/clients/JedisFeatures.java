package tars.clients;

import static tars.clients.Check.*;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.PipeliningBase;
import redis.clients.jedis.Protocol.Command;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.csc.CacheConfig;
import redis.clients.jedis.exceptions.JedisConnectionException;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.params.XReadParams;
import redis.clients.jedis.resps.StreamEntry;
import redis.clients.jedis.util.KeyValue;
import tars.clients.Main.Feature;

/** Jedis: its client with a pool of connections, and the single connection where it matters which one it is. */
final class JedisFeatures {
    private JedisFeatures() {}

    static final List<Feature> ALL = List.of(
            new Feature("connect", JedisFeatures::connect),
            new Feature("resp3", JedisFeatures::resp3),
            new Feature("pipeline", JedisFeatures::pipeline),
            new Feature("transaction", JedisFeatures::transaction),
            new Feature("scripts", JedisFeatures::scripts),
            new Feature("pubsub", () -> pubsub(false)),
            new Feature("blocking", JedisFeatures::blocking),
            new Feature("groups", JedisStreams::groups),
            new Feature("claims", JedisStreams::claims),
            new Feature("large", JedisStreams::large),
            new Feature("reconnect", JedisFeatures::reconnect));

    private static HostAndPort server() {
        return new HostAndPort(url().getHost(), url().getPort());
    }

    private static DefaultJedisClientConfig.Builder config() {
        return DefaultJedisClientConfig.builder().resp2().timeoutMillis(10_000);
    }

    static RedisClient open() {
        return RedisClient.create(url());
    }

    /** For what depends on which connection a command takes. */
    private static RedisClient oneConnection(DefaultJedisClientConfig.Builder config, CacheConfig cache) {
        ConnectionPoolConfig pool = new ConnectionPoolConfig();
        pool.setMaxTotal(1);
        RedisClient.Builder builder = RedisClient.builder();
        builder.hostAndPort(server()).clientConfig(config.build()).poolConfig(pool);
        return (cache == null ? builder : builder.cacheConfig(cache)).build();
    }

    private static String connect() {
        try (Jedis one = new Jedis(server(), config().database(1).clientName(key("name")).build());
                RedisClient zero = open()) {
            equal("PING", one.ping(), "PONG");
            String info = one.clientInfo();
            equal("name", said(info, "name"), key("name"));
            equal("database", said(info, "db"), "1");
            // CLIENT SETINFO is in its handshake; a server before 7.2 refuses it, and the library goes on.
            String library = said(info, "lib-name");
            equal("lib-name", library == null || library.startsWith("jedis"), true);
            one.set(key("connect"), "one");
            equal("GET in database 0", zero.get(key("connect")), null);
        }
        return null;
    }

    private static String resp3() throws Exception {
        try (RedisClient client = oneConnection(config().resp3(), null)) {
            Map<String, String> hash = Map.of("a", "1", "b", "", "c", "\r\n*2\r\n");
            client.hset(key("resp3:hash"), hash);
            equal("HGETALL", client.hgetAll(key("resp3:hash")), hash);
            List<?> raw = (List<?>) client.sendCommand(Command.HGETALL, key("resp3:hash"));
            equal("HGETALL is a map", raw.get(0) instanceof KeyValue, true);
            client.zadd(key("resp3:set"), 1.5, "m");
            equal("ZSCORE", client.sendCommand(Command.ZSCORE, key("resp3:set"), "m"), 1.5);
        }
        pubsub(true);

        // The library's own cache, for servers that it takes for Redis 7.4 or later.
        try (Jedis other = control();
                RedisClient cached = oneConnection(config().resp3(), CacheConfig.builder().maxSize(100).build())) {
            for (int n = 0; n < 3; n++) {
                String value = "" + n;
                other.set(key("cached"), value);
                until("an invalidation", () -> cached.get(key("cached")).equals(value));
                equal("GET", cached.get(key("cached")), value);
            }
            equal("invalidations", cached.getCache().getStats().getInvalidationCount(), 2L);
            equal("hits", cached.getCache().getStats().getHitCount() >= 3, true);
        } catch (JedisException refusal) {
            if (!String.valueOf(refusal.getMessage()).contains("7.4")) {
                throw refusal;
            }
        }
        return null;
    }

    private static String pipeline() throws Exception {
        String stream = key("pipeline");
        try (RedisClient client = open()) {
            for (boolean atomic : new boolean[] {false, true}) {
                client.del(stream);
                Pipeline pipeline = atomic ? null : client.pipelined();
                AbstractTransaction multi = atomic ? client.multi() : null;
                PipeliningBase commands = atomic ? multi : pipeline;
                List<Response<StreamEntryID>> added = new ArrayList<>();
                for (int n = 0; n < 250; n++) {
                    commands.set(stream + n, "" + n, new SetParams().ex(60));
                    added.add(commands.xadd(stream, StreamEntryID.NEW_ENTRY, Map.of("n", "" + n)));
                    commands.get(stream + n);
                    commands.xlen(stream);
                }
                List<Object> replies = atomic ? multi.exec() : pipeline.syncAndReturnAll();
                (atomic ? multi : pipeline).close();
                equal("replies", replies.size(), 1000);
                List<StreamEntry> entries = client.xrange(stream, "-", "+");
                equal("entries", entries.size(), 250);
                for (int n = 0; n < 250; n++) {
                    equal("SET", replies.get(4 * n), "OK");
                    equal("XADD", added.get(n).get(), entries.get(n).getID());
                    equal("GET, XLEN", replies.subList(4 * n + 2, 4 * n + 4), List.of("" + n, n + 1L));
                    sameFields("XRANGE", entries.get(n).getFields(), Map.of("n", "" + n));
                }
            }
            // An error in the middle is the answer of that command only.
            try (Pipeline pipeline = client.pipelined()) {
                var before = pipeline.get(stream + 1);
                var wrong = pipeline.incr(stream);
                var after = pipeline.get(stream + 1);
                pipeline.sync();
                equal("before and after", before.get() + after.get(), "11");
                refused("INCR", wrong::get, "WRONGTYPE");
            }
        }
        return null;
    }

    private static String transaction() throws Exception {
        String name = key("transaction");
        String stream = key("transaction:stream");
        try (RedisClient client = open(); Jedis other = control()) {
            try (AbstractTransaction multi = client.multi()) {
                var count = multi.incr(name);
                var id = multi.xadd(stream, StreamEntryID.NEW_ENTRY, Map.of("a", "1"));
                multi.exec();
                equal("INCR", count.get(), 1L);
                StreamEntry entry = client.xrange(stream, id.get(), id.get()).get(0);
                sameFields("XADD in MULTI", entry.getFields(), Map.of("a", "1"));
            }
            // What is watched changes: nothing is done.
            for (boolean meddle : new boolean[] {true, false}) {
                try (AbstractTransaction multi = client.transaction(false)) {
                    multi.watch(name);
                    if (meddle) {
                        other.set(name, "10");
                    }
                    multi.multi();
                    multi.incr(name);
                    multi.xadd(stream, StreamEntryID.NEW_ENTRY, Map.of("b", "2"));
                    equal("EXEC is nil", multi.exec() == null, meddle);
                }
                equal("XLEN", client.xlen(stream), meddle ? 1L : 2L);
            }
            equal("GET", client.get(name), "11");

            // A command that cannot be queued, and one that fails when it is run.
            try (AbstractTransaction multi = client.multi()) {
                multi.incr(name);
                multi.sendCommand(Command.GET, new String[0]);
                refused("EXEC", multi::exec, "EXECABORT");
            }
            try (AbstractTransaction multi = client.multi()) {
                var wrong = multi.lpush(name, "no list");
                var count = multi.incr(name);
                multi.exec();
                refused("LPUSH", wrong::get, "WRONGTYPE");
                equal("INCR after an error", count.get(), 12L);
            }
        }
        return null;
    }

    private static String scripts() throws Exception {
        String name = key("scripts");
        try (RedisClient client = open()) {
            String hash = client.scriptLoad("return 1");
            equal("EVALSHA", client.evalsha(hash), 1L);
            refused("EVALSHA", () -> client.evalsha("0".repeat(40)), "NOSCRIPT");
            String source = script(name);
            equal("EVAL", client.eval(source, List.of(name), List.of("x")), List.of("x", 1L));
            equal("EVALSHA", client.evalsha(client.scriptLoad(source), List.of(name), List.of("y")), List.of("y", 2L));
            refused("EVAL", () -> client.eval("return redis.error_reply('MINE it is')"), "MINE it is");

            String function = identifier("scripts");
            equal("FUNCTION LOAD", client.functionLoadReplace(functions(function)), function);
            equal("FCALL", client.fcall(function, List.of(name), List.of()), 2L);
            equal("FCALL_RO", client.fcallReadonly(function, List.of(name), List.of()), 2L);
            client.functionDelete(function);
        }
        return null;
    }

    /** What a subscriber was told, in order. */
    private static final class Listener extends JedisPubSub {
        final BlockingQueue<List<Object>> events = new LinkedBlockingQueue<>();

        @Override
        public void onSubscribe(String channel, int count) {
            events.add(List.of("subscribe", channel, count));
        }

        @Override
        public void onPSubscribe(String pattern, int count) {
            events.add(List.of("psubscribe", pattern, count));
        }

        @Override
        public void onMessage(String channel, String message) {
            events.add(List.of("message", channel, message));
        }

        @Override
        public void onPMessage(String pattern, String channel, String message) {
            events.add(List.of("pmessage", pattern, channel, message));
        }

        @Override
        public void onPong(String pattern) {
            events.add(List.of("pong", pattern));
        }
    }

    private static String pubsub(boolean resp3) throws Exception {
        String channel = key("pubsub");
        String pattern = key("pubsub:*");
        String matching = key("pubsub:x");
        Listener listener = new Listener();
        var events = listener.events;
        var config = resp3 ? config().resp3() : config();
        try (Jedis subscriber = new Jedis(server(), config.build()); RedisClient through = open(); Jedis past = control()) {
            for (int turn = 0; turn < 2; turn++) {
                var ended = CompletableFuture.runAsync(() -> subscriber.subscribe(listener, channel));
                next(events, "subscribe", channel, 1);
                listener.psubscribe(pattern);
                next(events, "psubscribe", pattern, 2);
                for (int n = 0; n < 20; n++) {
                    equal("PUBLISH", through.publish(channel, "" + n), 1L);
                    next(events, "message", channel, "" + n);
                    equal("PUBLISH", past.publish(matching, "a\r\nb"), 1L);
                    next(events, "pmessage", pattern, matching, "a\r\nb");
                }
                // In RESP3, Jedis 8.0 waits for the answer only after it has sent PING, and may find that it has come already.
                if (!resp3) {
                    listener.ping("hello");
                    next(events, "pong", "hello");
                }
                listener.unsubscribe();
                listener.punsubscribe();
                ended.get(10, TimeUnit.SECONDS);
                // The connection is as usable afterwards.
                equal("PUBLISH to nobody", through.publish(matching, "x"), 0L);
                equal("PING", subscriber.ping(), "PONG");
            }
        }
        return null;
    }

    private static String blocking() throws Exception {
        String list = key("blocking");
        String stream = key("blocking:stream");
        try (Jedis client = new Jedis(url()); RedisClient through = open()) {
            long id = client.clientId();
            // Nothing comes.
            equal("BLPOP", client.blpop(0.1, list), null);
            var newest = Map.of(stream, StreamEntryID.XREAD_NEW_ENTRY);
            equal("XREAD", client.xread(new XReadParams().block(50), newest), null);
            // Something is there already.
            through.rpush(list, "one");
            equal("BLPOP", client.blpop(10.0, list).getValue(), "one");
            // Something comes meanwhile.
            var popped = CompletableFuture.supplyAsync(() -> client.blpop(10.0, list).getValue());
            untilBlocked(id);
            through.rpush(list, "two");
            equal("BLPOP", popped.get(10, TimeUnit.SECONDS), "two");
            var read = CompletableFuture.supplyAsync(() -> client.xreadAsMap(new XReadParams().block(10_000), newest));
            untilBlocked(id);
            StreamEntryID added = through.xadd(stream, StreamEntryID.NEW_ENTRY, Map.of("late", "yes"));
            List<StreamEntry> entries = read.get(10, TimeUnit.SECONDS).get(stream);
            equal("entries", entries.size(), 1);
            equal("id", entries.get(0).getID(), added);
            sameFields("XREAD", entries.get(0).getFields(), Map.of("late", "yes"));
        }
        return null;
    }

    /** The pool drops the connection that broke, and opens another for the next command. */
    private static String reconnect() throws Exception {
        try (RedisClient client = oneConnection(config(), null)) {
            Object id = client.sendCommand(Command.CLIENT, "ID");
            String list = key("reconnect:list");
            var killed = killWhenBlocked((Long) id, list);
            String note;
            try {
                equal("BLPOP", client.blpop(10.0, list).getValue(), "x");
                note = SENT_AGAIN;
            } catch (JedisConnectionException gone) {
                note = FAILS;
            }
            killed.get(10, TimeUnit.SECONDS);
            equal("SET", client.set(key("reconnect"), "1"), "OK");
            equal("another connection", client.sendCommand(Command.CLIENT, "ID").equals(id), false);
            return note;
        }
    }
}
