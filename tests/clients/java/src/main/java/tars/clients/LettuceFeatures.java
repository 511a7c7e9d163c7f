package tars.clients;

import static tars.clients.Check.*;

import io.lettuce.core.ClientOptions;
import io.lettuce.core.LettuceFutures;
import io.lettuce.core.Range;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.StreamMessage;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.TransactionResult;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.XReadArgs.StreamOffset;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.async.RedisAsyncCommands;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.CacheFrontend;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.Jedis;
import tars.clients.Main.Feature;

/** Lettuce, whose one connection is shared by all threads, and speaks RESP3 unless told otherwise. */
final class LettuceFeatures {
    private LettuceFeatures() {}

    static final List<Feature> ALL = List.of(
            new Feature("connect", LettuceFeatures::connect),
            new Feature("resp3", LettuceFeatures::resp3),
            new Feature("pipeline", LettuceFeatures::pipeline),
            new Feature("transaction", LettuceFeatures::transaction),
            new Feature("scripts", LettuceFeatures::scripts),
            new Feature("pubsub", () -> pubsub(ProtocolVersion.RESP2)),
            new Feature("blocking", LettuceFeatures::blocking),
            new Feature("groups", LettuceStreams::groups),
            new Feature("claims", LettuceStreams::claims),
            new Feature("large", LettuceStreams::large),
            new Feature("reconnect", LettuceFeatures::reconnect));

    /** A client and its first connection. */
    record Open(RedisClient client, StatefulRedisConnection<String, String> connection) implements AutoCloseable {
        RedisCommands<String, String> commands() {
            return connection.sync();
        }

        @Override
        public void close() {
            connection.close();
            client.shutdown(Duration.ZERO, Duration.ofSeconds(1));
        }
    }

    static Open open() {
        return open(RedisURI.create(url()), ProtocolVersion.newestSupported());
    }

    private static Open open(RedisURI url, ProtocolVersion version) {
        url.setTimeout(Duration.ofSeconds(15));
        RedisClient client = RedisClient.create(url);
        client.setOptions(ClientOptions.builder().protocolVersion(version).build());
        return new Open(client, client.connect());
    }

    private static String connect() {
        RedisURI url = RedisURI.create(url());
        url.setDatabase(1);
        url.setClientName(key("name"));
        try (Open open = open(url, ProtocolVersion.newestSupported()); Open zero = open()) {
            equal("PING", open.commands().ping(), "PONG");
            String info = open.commands().clientInfo();
            equal("name", said(info, "name"), key("name"));
            equal("database", said(info, "db"), "1");
            equal("protocol", said(info, "resp"), "3");
            // CLIENT SETINFO is in its handshake; a server before 7.2 refuses it, and the library goes on.
            String library = said(info, "lib-name");
            equal("lib-name", library == null || library.startsWith("Lettuce"), true);
            open.commands().set(key("connect"), "one");
            equal("GET in database 0", zero.commands().get(key("connect")), null);
        }
        return null;
    }

    private static String resp3() throws Exception {
        try (Open open = open(); Jedis other = control()) {
            Map<String, String> hash = Map.of("a", "1", "b", "", "c", "\r\n*2\r\n");
            open.commands().hset(key("resp3:hash"), hash);
            equal("HGETALL", open.commands().hgetall(key("resp3:hash")), hash);
            open.commands().zadd(key("resp3:set"), 1.5, "m");
            equal("ZSCORE", open.commands().zscore(key("resp3:set"), "m"), 1.5);

            // The library's own cache: the server's pushes empty it.
            Map<String, String> held = new ConcurrentHashMap<>();
            CacheFrontend<String, String> cache =
                    ClientSideCaching.enable(CacheAccessor.forMap(held), open.connection(), TrackingArgs.Builder.enabled());
            for (int n = 0; n < 3; n++) {
                other.set(key("cached"), "" + n);
                until("an invalidation", held::isEmpty);
                equal("GET", cache.get(key("cached")), "" + n);
                equal("in the cache", held, Map.of(key("cached"), "" + n));
            }
        }
        return pubsub(ProtocolVersion.RESP3);
    }

    private static String pipeline() throws Exception {
        String stream = key("pipeline");
        try (Open open = open()) {
            RedisAsyncCommands<String, String> async = open.connection().async();
            open.connection().setAutoFlushCommands(false);
            List<RedisFuture<?>> replies = new ArrayList<>();
            for (int n = 0; n < 250; n++) {
                replies.add(async.set(stream + n, "" + n));
                replies.add(async.xadd(stream, Map.of("n", "" + n)));
                replies.add(async.get(stream + n));
                replies.add(async.xlen(stream));
            }
            RedisFuture<Long> wrong = async.incr(stream);
            RedisFuture<String> after = async.ping();
            open.connection().flushCommands();
            equal("in time", LettuceFutures.awaitAll(Duration.ofSeconds(10), replies.toArray(RedisFuture[]::new)), true);
            open.connection().setAutoFlushCommands(true);
            List<StreamMessage<String, String>> entries = open.commands().xrange(stream, Range.unbounded());
            equal("entries", entries.size(), 250);
            for (int n = 0; n < 250; n++) {
                equal("SET", replies.get(4 * n).get(), "OK");
                equal("XADD", replies.get(4 * n + 1).get(), entries.get(n).getId());
                equal("GET", replies.get(4 * n + 2).get(), "" + n);
                equal("XLEN", replies.get(4 * n + 3).get(), n + 1L);
                sameFields("XRANGE", entries.get(n).getBody(), Map.of("n", "" + n));
            }
            // An error is the answer of that command only.
            refused("INCR", wrong::get, "WRONGTYPE");
            equal("PING", after.get(), "PONG");
        }
        return null;
    }

    private static String transaction() throws Exception {
        String name = key("transaction");
        String stream = key("transaction:stream");
        try (Open open = open(); Jedis other = control()) {
            RedisCommands<String, String> commands = open.commands();
            commands.multi();
            commands.incr(name);
            commands.xadd(stream, Map.of("a", "1"));
            TransactionResult done = commands.exec();
            equal("INCR", done.get(0), 1L);
            StreamMessage<String, String> entry = commands.xrange(stream, Range.unbounded()).get(0);
            equal("XADD", done.get(1), entry.getId());
            sameFields("XADD in MULTI", entry.getBody(), Map.of("a", "1"));

            // What is watched changes: nothing is done.
            for (boolean meddle : new boolean[] {true, false}) {
                commands.watch(name);
                if (meddle) {
                    other.set(name, "10");
                }
                commands.multi();
                commands.incr(name);
                commands.xadd(stream, Map.of("b", "2"));
                equal("EXEC is nil", commands.exec().wasDiscarded(), meddle);
                equal("XLEN", commands.xlen(stream), meddle ? 1L : 2L);
            }
            equal("GET", commands.get(name), "11");

            // A command that cannot be queued, and one that fails when it is run.
            commands.multi();
            commands.incr(name);
            var unqueued = open.connection().async().dispatch(CommandType.GET, new StatusOutput<>(StringCodec.UTF8));
            refused("EXEC", commands::exec, "EXECABORT");
            refused("GET", unqueued::get, "ERR wrong number of arguments");
            commands.multi();
            commands.lpush(name, "no list");
            commands.incr(name);
            done = commands.exec();
            equal("LPUSH", String.valueOf(done.<Object>get(0)).contains("WRONGTYPE"), true);
            equal("INCR after an error", done.get(1), 12L);
        }
        return null;
    }

    private static String scripts() throws Exception {
        String name = key("scripts");
        String[] keys = {name};
        try (Open open = open()) {
            RedisCommands<String, String> commands = open.commands();
            String source = script(name);
            String hash = commands.digest(source);
            refused("EVALSHA", () -> commands.evalsha(hash, ScriptOutputType.MULTI, keys, "x"), "NOSCRIPT");
            equal("EVAL", commands.eval(source, ScriptOutputType.MULTI, keys, "x"), List.of("x", 1L));
            equal("EVALSHA", commands.evalsha(hash, ScriptOutputType.MULTI, keys, "y"), List.of("y", 2L));
            refused("EVAL", () -> commands.eval("return redis.error_reply('MINE it is')", ScriptOutputType.VALUE), "MINE it is");

            String function = identifier("scripts");
            equal("FUNCTION LOAD", commands.functionLoad(functions(function), true), function);
            equal("FCALL", commands.fcall(function, ScriptOutputType.INTEGER, name), 2L);
            equal("FCALL_RO", commands.fcallReadOnly(function, ScriptOutputType.INTEGER, name), 2L);
        }
        return null;
    }

    private static BlockingQueue<List<Object>> listen(StatefulRedisPubSubConnection<String, String> connection) {
        BlockingQueue<List<Object>> events = new LinkedBlockingQueue<>();
        connection.addListener(new RedisPubSubAdapter<>() {
            @Override
            public void message(String channel, String message) {
                events.add(List.of("message", channel, message));
            }

            @Override
            public void message(String pattern, String channel, String message) {
                events.add(List.of("pmessage", pattern, channel, message));
            }

            @Override
            public void smessage(String channel, String message) {
                events.add(List.of("smessage", channel, message));
            }
        });
        return events;
    }

    private static String pubsub(ProtocolVersion version) throws Exception {
        String channel = key("pubsub");
        String pattern = key("pubsub:*");
        String matching = key("pubsub:x");
        try (Open open = open(RedisURI.create(url()), version);
                Jedis past = control();
                StatefulRedisPubSubConnection<String, String> subscriber = open.client().connectPubSub()) {
            BlockingQueue<List<Object>> events = listen(subscriber);
            for (int turn = 0; turn < 2; turn++) {
                subscriber.sync().psubscribe(pattern);
                subscriber.sync().subscribe(channel);
                for (int n = 0; n < 20; n++) {
                    equal("PUBLISH", open.commands().publish(channel, "" + n), 1L);
                    next(events, "message", channel, "" + n);
                    equal("PUBLISH", past.publish(matching, "a\r\nb"), 1L);
                    next(events, "pmessage", pattern, matching, "a\r\nb");
                }
                // In RESP2, Lettuce 7.7 refuses SUNSUBSCRIBE by itself.
                if (version == ProtocolVersion.RESP3) {
                    subscriber.sync().ssubscribe(channel);
                    equal("SPUBLISH", open.commands().spublish(channel, "s"), 1L);
                    next(events, "smessage", channel, "s");
                    subscriber.sync().sunsubscribe(channel);
                }
                subscriber.sync().punsubscribe(pattern);
                subscriber.sync().unsubscribe(channel);
                // The connection is as usable afterwards.
                equal("PUBLISH to nobody", open.commands().publish(matching, "x"), 0L);
                equal("PING", subscriber.sync().ping(), "PONG");
            }
        }
        return null;
    }

    private static String blocking() throws Exception {
        String list = key("blocking");
        String stream = key("blocking:stream");
        try (Open open = open(); Open through = open()) {
            RedisCommands<String, String> commands = open.commands();
            long id = commands.clientId();
            // Nothing comes.
            equal("BLPOP", commands.blpop(0.1, list), null);
            equal("XREAD", commands.xread(XReadArgs.Builder.block(50), StreamOffset.latest(stream)), List.of());
            // Something is there already.
            through.commands().rpush(list, "one");
            equal("BLPOP", commands.blpop(10.0, list).getValue(), "one");
            // Something comes meanwhile.
            var popped = CompletableFuture.supplyAsync(() -> commands.blpop(10.0, list).getValue());
            untilBlocked(id);
            through.commands().rpush(list, "two");
            equal("BLPOP", popped.get(10, TimeUnit.SECONDS), "two");
            var read = CompletableFuture.supplyAsync(
                    () -> commands.xread(XReadArgs.Builder.block(10_000), StreamOffset.latest(stream)));
            untilBlocked(id);
            String added = through.commands().xadd(stream, Map.of("late", "yes"));
            List<StreamMessage<String, String>> entries = read.get(10, TimeUnit.SECONDS);
            equal("entries", entries.size(), 1);
            equal("id", entries.get(0).getId(), added);
            sameFields("XREAD", entries.get(0).getBody(), Map.of("late", "yes"));
        }
        return null;
    }

    /** Lettuce connects again by itself, and renews subscriptions. */
    private static String reconnect() throws Exception {
        String channel = key("reconnect");
        String list = key("reconnect:list");
        String note;
        try (Open open = open();
                Jedis other = control();
                StatefulRedisPubSubConnection<String, String> subscriber = open.client().connectPubSub()) {
            long before = open.commands().clientId();
            var killed = killWhenBlocked(before, list);
            try {
                equal("BLPOP", open.commands().blpop(10.0, list).getValue(), "x");
                note = SENT_AGAIN;
            } catch (RedisException gone) {
                note = FAILS;
            }
            killed.get(10, TimeUnit.SECONDS);
            equal("SET", open.commands().set(key("reconnect"), "1"), "OK");
            equal("another connection", open.commands().clientId() == before, false);

            BlockingQueue<List<Object>> events = listen(subscriber);
            long id = subscriber.sync().clientId();
            subscriber.sync().subscribe(channel);
            kill(id);
            untilSubscribers(channel, 0);
            untilSubscribers(channel, 1);
            other.publish(channel, "again");
            next(events, "message", channel, "again");
        }
        return note;
    }
}
