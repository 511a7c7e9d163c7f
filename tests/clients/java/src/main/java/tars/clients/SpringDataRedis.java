package tars.clients;

import static tars.clients.Check.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.data.domain.Range;
import org.springframework.data.redis.connection.RedisStandaloneConfiguration;
import org.springframework.data.redis.connection.lettuce.LettuceConnectionFactory;
import org.springframework.data.redis.connection.stream.Consumer;
import org.springframework.data.redis.connection.stream.MapRecord;
import org.springframework.data.redis.connection.stream.ObjectRecord;
import org.springframework.data.redis.connection.stream.PendingMessage;
import org.springframework.data.redis.connection.stream.ReadOffset;
import org.springframework.data.redis.connection.stream.Record;
import org.springframework.data.redis.connection.stream.RecordId;
import org.springframework.data.redis.connection.stream.StreamOffset;
import org.springframework.data.redis.connection.stream.StreamRecords;
import org.springframework.data.redis.core.StreamOperations;
import org.springframework.data.redis.core.StringRedisTemplate;
import org.springframework.data.redis.stream.StreamMessageListenerContainer;
import org.springframework.data.redis.stream.StreamMessageListenerContainer.StreamMessageListenerContainerOptions;
import redis.clients.jedis.Jedis;
import tars.clients.Main.Feature;

/** Spring Data Redis on Lettuce, as an application without a web server has it: a template, and a container of listeners. */
final class SpringDataRedis {
    private SpringDataRedis() {}

    static final List<Feature> ALL = List.of(
            new Feature("send", SpringDataRedis::send),
            new Feature("consume", SpringDataRedis::consume),
            new Feature("redelivery", SpringDataRedis::redelivery));

    /** What the application's messages are made of; the library maps it to fields, and back. */
    record Order(String number, String text, int price) {}

    private static Order order(int n) {
        return new Order("o" + n, "Grüße\r\n".repeat(n), n);
    }

    private record App(LettuceConnectionFactory connections, StringRedisTemplate template) implements AutoCloseable {
        static App start() {
            var server = new RedisStandaloneConfiguration(url().getHost(), url().getPort());
            LettuceConnectionFactory connections = new LettuceConnectionFactory(server);
            connections.afterPropertiesSet();
            connections.start();
            return new App(connections, new StringRedisTemplate(connections));
        }

        StreamOperations<String, String, String> streams() {
            return template.opsForStream();
        }

        <V extends Record<String, ?>> StreamMessageListenerContainer<String, V> container(
                StreamMessageListenerContainerOptions<String, V> options) {
            return StreamMessageListenerContainer.create(connections, options);
        }

        @Override
        public void close() {
            connections.destroy();
        }
    }

    private static final int MESSAGES = 20;

    private static String send() {
        try (App app = App.start(); Jedis other = control()) {
            for (int n = 0; n < MESSAGES; n++) {
                RecordId id = app.streams().add(StreamRecords.string(message(n)).withStreamKey(key("maps")));
                var entry = other.xrange(key("maps"), id.getValue(), id.getValue()).get(0);
                sameFields("sent", entry.getFields(), message(n));
                app.streams().add(ObjectRecord.create(key("objects"), order(n)));
            }
            equal("XLEN", app.streams().size(key("objects")), (long) MESSAGES);
        }
        return null;
    }

    /** Two groups of listeners: one takes the fields, the other objects that the library makes of them. */
    private static String consume() throws Exception {
        String maps = key("maps");
        String objects = key("objects");
        try (App app = App.start()) {
            BlockingQueue<Map<String, String>> fields = new LinkedBlockingQueue<>();
            app.streams().createGroup(maps, ReadOffset.from("0"), "g");
            var container = app.container(
                    StreamMessageListenerContainerOptions.builder().pollTimeout(Duration.ofMillis(100)).batchSize(3).build());
            for (String consumer : List.of("one", "two")) {
                container.receive(Consumer.from("g", consumer), StreamOffset.create(maps, ReadOffset.lastConsumed()), record -> {
                    fields.add(record.getValue());
                    app.streams().acknowledge("g", record);
                });
            }
            BlockingQueue<Order> orders = new LinkedBlockingQueue<>();
            app.streams().createGroup(objects, ReadOffset.from("0"), "g");
            var ofObjects = app.container(StreamMessageListenerContainerOptions.builder()
                    .pollTimeout(Duration.ofMillis(100)).targetType(Order.class).build());
            ofObjects.receiveAutoAck(Consumer.from("g", "one"), StreamOffset.create(objects, ReadOffset.lastConsumed()),
                    record -> orders.add(record.getValue()));
            container.start();
            ofObjects.start();
            try {
                boolean[] seen = new boolean[MESSAGES];
                for (int n = 0; n < MESSAGES; n++) {
                    Map<String, String> got = taken(fields);
                    int number = Integer.parseInt(got.get("n"));
                    sameFields("message", got, message(number));
                    equal("seen already", seen[number], false);
                    seen[number] = true;
                    equal("order", taken(orders), order(n));
                }
                for (String stream : List.of(maps, objects)) {
                    until("XACK of everything", () -> app.streams().pending(stream, "g").getTotalPendingMessages() == 0);
                }
            } finally {
                container.stop();
                ofObjects.stop();
            }
        }
        return null;
    }

    private static <T> T taken(BlockingQueue<T> queue) throws InterruptedException {
        T value = queue.poll(10, TimeUnit.SECONDS);
        if (value == null) {
            throw new Failure("no message");
        }
        return value;
    }

    /** A listener that fails leaves its messages pending; another consumer claims them. */
    private static String redelivery() throws Exception {
        String stream = key("redelivery");
        try (App app = App.start()) {
            app.streams().createGroup(stream, ReadOffset.from("0"), "g");
            List<RecordId> ids = new ArrayList<>();
            for (int n = 0; n < 3; n++) {
                ids.add(app.streams().add(StreamRecords.string(message(n)).withStreamKey(stream)));
            }
            BlockingQueue<RecordId> failed = new LinkedBlockingQueue<>();
            var container = app.container(StreamMessageListenerContainerOptions.builder()
                    .pollTimeout(Duration.ofMillis(100)).errorHandler(error -> {}).build());
            var request = StreamMessageListenerContainer.StreamReadRequest
                    .builder(StreamOffset.create(stream, ReadOffset.lastConsumed()))
                    .consumer(Consumer.from("g", "fails")).autoAcknowledge(false).cancelOnError(error -> false).build();
            container.register(request, record -> {
                failed.add(record.getId());
                throw new IllegalStateException("as the test wants it");
            });
            container.start();
            for (RecordId id : ids) {
                equal("delivered", taken(failed), id);
            }
            container.stop();

            var pending = app.streams().pending(stream, "g", Range.unbounded(), 10);
            equal("pending", pending.stream().map(PendingMessage::getId).toList(), ids);
            var claimed = app.streams().claim(stream, "g", "takes over", Duration.ZERO, ids.toArray(RecordId[]::new));
            equal("claimed", claimed.stream().map(MapRecord::getId).toList(), ids);
            for (int n = 0; n < 3; n++) {
                sameFields("claimed", claimed.get(n).getValue(), message(n));
                equal("XACK", app.streams().acknowledge("g", claimed.get(n)), 1L);
            }
            equal("pending", app.streams().pending(stream, "g").getTotalPendingMessages(), 0L);
        }
        return null;
    }
}
