package tars.clients;

import java.net.URI;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.params.ClientKillParams;

/** What the features are written with. */
final class Check {
    private Check() {}

    /** What becomes of the command whose reply was awaited when its connection was killed, as the other programs say it. */
    static final String SENT_AGAIN = "sent again over a new connection";

    static final String FAILS = "fails; later commands go over a new connection";

    /** What a feature throws when it does not hold. */
    static final class Failure extends RuntimeException {
        Failure(String why) {
            super(why);
        }

        @Override
        public String toString() {
            return getMessage();
        }
    }

    static void equal(String what, Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new Failure(what + ": " + brief(got) + " instead of " + brief(wanted));
        }
    }

    private static String brief(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 100 ? text : text.substring(0, 100) + "…";
    }

    /** Demands an error of the server that begins so, whatever the library packs it in. */
    static void refused(String what, Callable<?> command, String code) throws Exception {
        try {
            command.call();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause.getMessage() != null && cause.getMessage().startsWith(code)) {
                    return;
                }
            }
            throw error;
        }
        throw new Failure(what + " was not refused");
    }

    /** Every field as it was sent; the proxy may have added a trace's context, and nothing else. */
    static void sameFields(String what, Map<String, String> got, Map<String, String> sent) {
        Map<String, String> rest = new HashMap<>(got);
        if (!sent.containsKey("traceparent")) {
            rest.remove("traceparent");
            rest.remove("tracestate");
        }
        equal(what, rest, sent);
    }

    /** A hundred messages that an unsuspecting decoder may stumble over. */
    static Map<String, String> message(int n) {
        return Map.of("n", "" + n, "empty", "", "frames", "\0\r\n$-1\r\n", "text", "Grüße ".repeat(n));
    }

    static String key(String name) {
        return System.getenv("PREFIX") + ":" + name;
    }

    /** A name for a function, which takes letters, digits and _. */
    static String identifier(String name) {
        return key(name).replaceAll("[^A-Za-z0-9_]", "_");
    }

    /** A function that gives the length of a stream. */
    static String functions(String name) {
        return "#!lua name=" + name + "\nredis.register_function{function_name='" + name
                + "', callback=function(keys, args) return redis.call('XLEN', keys[1]) end, flags={'no-writes'}}";
    }

    /** No other run has this script: its text has the prefix. */
    static String script(String name) {
        return "-- " + name + "\nredis.call('XADD', KEYS[1], '*', 'a', ARGV[1]) return {ARGV[1], redis.call('XLEN', KEYS[1])}";
    }

    /** Of CLIENT INFO. */
    static String said(String info, String name) {
        for (String pair : info.trim().split(" ")) {
            if (pair.startsWith(name + "=")) {
                return pair.substring(name.length() + 1);
            }
        }
        return null;
    }

    static URI url() {
        return URI.create(System.getenv("REDIS_URL"));
    }

    /** Another client, past the proxy. */
    static Jedis control() {
        return new Jedis(URI.create(System.getenv("CONTROL_URL")));
    }

    static void kill(long id) {
        try (Jedis control = control()) {
            equal("CLIENT KILL", control.clientKill(new ClientKillParams().id("" + id)), 1L);
        }
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > end) {
                throw new Failure(what + ": not within 10 s");
            }
            Thread.sleep(5);
        }
    }

    /** Waits until the server holds the connection with this id in a blocking command. */
    static void untilBlocked(long id) throws Exception {
        try (Jedis control = control()) {
            until("a blocked client", () -> control.clientList(id).contains(" flags=b"));
        }
    }

    /** In a thread: kills the connection while it is blocked. If its command is sent again, it finds x in the list. */
    static CompletableFuture<Void> killWhenBlocked(long id, String list) {
        return CompletableFuture.runAsync(() -> {
            try (Jedis control = control()) {
                untilBlocked(id);
                kill(id);
                control.rpush(list, "x");
            } catch (Exception error) {
                throw new CompletionException(error);
            }
        });
    }

    static void untilSubscribers(String channel, long number) throws Exception {
        try (Jedis control = control()) {
            until("subscribers", () -> control.pubsubNumSub(channel).get(channel) == number);
        }
    }

    /** The next of what another thread says, each as a list. */
    static void next(BlockingQueue<List<Object>> events, Object... wanted) throws InterruptedException {
        equal("what came", events.poll(10, TimeUnit.SECONDS), List.of(wanted));
    }
}
