package tars.clients;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Runs unmodified Java libraries against the server that REDIS_URL names, which may be a proxy before one.
 *
 * <p>{@code LIBRARY} runs every feature with Jedis, Lettuce or Spring Data Redis and prints one line of JSON a feature;
 * {@code versions} prints the libraries and their versions, as JSON. CONTROL_URL names the server itself, for what another
 * client does to it. Every key, stream and channel begins with PREFIX. The exit status is 0 when it ran to the end, whatever
 * the features came to.
 */
public final class Main {
    /** A feature takes a second or two where it waits on purpose; the rest is for a machine with much to do. */
    private static final int FEATURE_SECONDS = 20;

    /** A feature of a library: what it returns is a note, or null. */
    record Feature(String name, Step step) {}

    interface Step {
        String run() throws Exception;
    }

    private static final Map<String, List<Feature>> LIBRARIES = Map.of(
            "Jedis", JedisFeatures.ALL, "Lettuce", LettuceFeatures.ALL, "Spring Data Redis", SpringDataRedis.ALL);

    private static final Map<String, Class<?>> CLASSES = Map.of(
            "Jedis", redis.clients.jedis.RedisClient.class,
            "Lettuce", io.lettuce.core.RedisClient.class,
            "Spring Data Redis", org.springframework.data.redis.core.RedisTemplate.class);

    public static void main(String[] args) {
        if (args.length == 1 && args[0].equals("versions")) {
            System.out.println(versions());
            return;
        }
        List<Feature> features = args.length == 1 ? LIBRARIES.get(args[0]) : null;
        if (features == null) {
            fail("usage: " + LIBRARIES.keySet() + " | versions");
        }
        for (String name : List.of("REDIS_URL", "CONTROL_URL", "PREFIX")) {
            if (System.getenv(name) == null) {
                fail(name + " is not set");
            }
        }
        ExecutorService threads = Executors.newCachedThreadPool();
        for (Feature feature : features) {
            System.out.println(line(feature, threads));
        }
        // What a library left running must not keep the program.
        System.exit(0);
    }

    private static void fail(String why) {
        System.err.println(why);
        System.exit(2);
    }

    /** The version is in the name of the jar. */
    private static String versions() {
        Map<String, String> versions = new TreeMap<>();
        CLASSES.forEach((library, of) -> {
            String jar = of.getProtectionDomain().getCodeSource().getLocation().getPath();
            Matcher version = Pattern.compile("-(\\d[^/]*?)(\\.RELEASE)?\\.jar$").matcher(jar);
            versions.put(quoted(library), quoted(version.find() ? version.group(1) : "unknown"));
        });
        return versions.toString().replace("\"=\"", "\":\"");
    }

    private static String line(Feature feature, ExecutorService threads) {
        String start = "{\"feature\":" + quoted(feature.name()) + ",\"ok\":";
        try {
            String note = threads.submit(feature.step()::run).get(FEATURE_SECONDS, TimeUnit.SECONDS);
            return start + "true" + (note == null ? "" : ",\"note\":" + quoted(note)) + "}";
        } catch (TimeoutException late) {
            return start + "false,\"why\":\"no end after " + FEATURE_SECONDS + " s\"}";
        } catch (InterruptedException | ExecutionException thrown) {
            thrown.printStackTrace();
            Throwable cause = thrown.getCause() == null ? thrown : thrown.getCause();
            return start + "false,\"why\":" + quoted(String.valueOf(cause)) + "}";
        }
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
