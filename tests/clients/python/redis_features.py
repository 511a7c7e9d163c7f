"""The features of redis-py, once for both of its clients: `done` awaits what the asynchronous one returns."""

import asyncio
import re
import threading
import time

import redis
from protocol import CONTROL_URL, FAILS, REDIS_URL, REPLY_LIMIT, SENT_AGAIN, done, expect, expect_fields, key

SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def control():
    """A connection past the proxy, always synchronous."""
    return redis.Redis.from_url(CONTROL_URL, decode_responses=True, socket_timeout=REPLY_LIMIT)


def soon(call, *args):
    """Calls it from another thread in a moment: whether the reader waits already or not, it gets what is sent."""
    timer = threading.Timer(0.05, call, args)
    timer.start()
    return timer


def kill_when_blocked(client, list):
    """Kills the connection while it waits for an element, and only then sends one."""
    server = control()
    while "b" not in server.client_list(client_id=[client])[0]["flags"]:
        time.sleep(0.01)
    expect("CLIENT KILL", server.client_kill_filter(_id=client), 1)
    server.rpush(list, "x")


def entries(reply, stream):
    """The entries of one stream in a reply of XREAD or XREADGROUP: a list of pairs in RESP2, a map in RESP3."""
    found = dict(reply)[stream]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


class Features:
    def __init__(self, connect):
        """`connect(**settings)` makes a client of the library, by URL."""
        self.make = connect
        self.client = self.connect()

    def connect(self, url=REDIS_URL, **settings):
        return self.make(url, decode_responses=True, socket_timeout=REPLY_LIMIT, **settings)

    async def connects(self):
        client = self.connect(REDIS_URL.removesuffix("/0") + "/1", client_name="a-client")
        expect("PING", await done(client.ping()), True)
        info = await done(client.client_info())
        expect("CLIENT INFO", (info["name"], str(info["db"])), ("a-client", "1"))
        if "lib-name" in info:  # since 7.2
            expect("lib-name", info["lib-name"].split("(")[0], "redis-py")
        await done(client.set(key("db"), "1"))
        expect("the same key of database 0", await done(self.client.get(key("db"))), None)

    async def resp3(self):
        client = self.connect(protocol=3)
        await done(client.hset(key("hash"), mapping={"a": "1", "b": "2"}))
        expect("HGETALL", await done(client.execute_command("HGETALL", key("hash"))), {"a": "1", "b": "2"})
        await self.messages(client.pubsub())
        await self.invalidation()

    async def pipeline(self):
        client, stream = self.client, key("pipeline")
        pipeline = client.pipeline(transaction=False)
        for n in range(250):
            pipeline.set(key(f"pipeline:{n}"), n)
            pipeline.get(key(f"pipeline:{n}"))
            pipeline.xadd(stream, {"n": n})
            pipeline.incr(key("pipeline:count"))
        replies = await done(pipeline.execute())
        expect("replies", len(replies), 1000)
        for n in range(250):
            stored, got, entry, count = replies[4 * n : 4 * n + 4]
            expect("SET, GET, INCR", (stored, got, count), (True, str(n), n + 1))
            [(found, fields)] = await done(client.xrange(stream, entry, entry)) if n % 50 == 0 else [(entry, {"n": str(n)})]
            expect("XRANGE", found, entry)
            expect_fields(fields, {"n": str(n)})

    async def transaction(self):
        client, stream = self.client, key("transaction")
        pipeline = client.pipeline()
        pipeline.set(key("t"), "1").xadd(stream, {"in": "multi"}).get(key("t"))
        stored, entry, got = await done(pipeline.execute())
        expect("EXEC", (stored, got), (True, "1"))
        [(found, fields)] = await done(client.xrange(stream))
        expect("XADD in MULTI", found, entry)
        expect_fields(fields, {"in": "multi"})

        pipeline = client.pipeline()
        await done(pipeline.watch(key("t")))
        control().set(key("t"), "2")
        pipeline.multi()
        pipeline.set(key("t"), "3").xadd(stream, {"in": "aborted"})
        try:
            await done(pipeline.execute())
            raise AssertionError("a transaction succeeded although what it watched had changed")
        except redis.WatchError:
            pass
        expect("after the abort", (await done(client.get(key("t"))), await done(client.xlen(stream))), ("2", 1))

        pipeline = client.pipeline()
        pipeline.lpush(key("t"), "not a list").xadd(stream, {"in": "multi"})
        refused, entry = await done(pipeline.execute(raise_on_error=False))
        expect("LPUSH on a string", isinstance(refused, redis.ResponseError), True)
        expect("XLEN", await done(client.xlen(stream)), 2)

        pipeline = client.pipeline()
        pipeline.xadd(stream, {"in": "discarded"}).execute_command("GET")
        try:
            await done(pipeline.execute())
            raise AssertionError("EXEC succeeded with an error in the queue")
        except redis.ResponseError:
            pass
        expect("XLEN after EXECABORT", await done(client.xlen(stream)), 2)

    async def scripts(self):
        client = self.client
        expect("EVAL", await done(client.eval("return {KEYS[1], ARGV[1], 7}", 1, key("k"), "a")), [key("k"), "a", 7])
        # Unknown to the server: EVALSHA is answered by NOSCRIPT, and the library loads it.
        script = client.register_script(f"{SCRIPT} -- {key('once')}")
        expect("EVALSHA", await done(script(keys=[key("n")], args=[5])), 5)
        expect("EVALSHA again", await done(script(keys=[key("n")], args=[5])), 10)
        library = re.sub(r"\W", "_", key("lib"))
        body = f"redis.register_function('{library}_add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
        await done(client.function_load(f"#!lua name={library}\n{body}", replace=True))
        expect("FCALL", await done(client.fcall(f"{library}_add", 1, key("n"), 1)), 11)

    async def pubsub(self):
        client = self.connect(protocol=2)
        await self.messages(client.pubsub())
        expect("PING", await done(client.ping()), True)

    async def messages(self, pubsub):
        other = self.connect()

        async def next_message():
            while True:
                message = await done(pubsub.get_message(timeout=REPLY_LIMIT))
                if message is not None:
                    return message["type"], message["channel"], message["data"]

        await done(pubsub.subscribe(key("news")))
        expect("SUBSCRIBE", await next_message(), ("subscribe", key("news"), 1))
        await done(pubsub.psubscribe(key("w*")))
        expect("PSUBSCRIBE", await next_message(), ("psubscribe", key("w*"), 2))
        for n in range(20):
            expect("PUBLISH", await done(other.publish(key("news"), f"n{n}")), 1)
            expect("message", await next_message(), ("message", key("news"), f"n{n}"))
            control().publish(key("weather"), f"w{n}")
            expect("pmessage", await next_message(), ("pmessage", key("weather"), f"w{n}"))
        await done(pubsub.unsubscribe())
        expect("UNSUBSCRIBE", (await next_message())[0], "unsubscribe")
        await done(pubsub.punsubscribe())
        expect("PUNSUBSCRIBE", (await next_message())[0], "punsubscribe")
        await done(pubsub.subscribe(key("again")))
        expect("SUBSCRIBE again", await next_message(), ("subscribe", key("again"), 1))
        await done(pubsub.aclose() if hasattr(pubsub, "aclose") else pubsub.close())

    async def blocking(self):
        client, stream = self.client, key("blocking")
        expect("BLPOP, time-out", await done(client.blpop([key("list")], timeout=0.1)), None)
        pushed = soon(control().rpush, key("list"), "x")
        expect("BLPOP", list(await done(client.blpop([key("list")], timeout=REPLY_LIMIT))), [key("list"), "x"])
        expect("XREAD BLOCK, time-out", bool(await done(client.xread({stream: "0"}, block=100))), False)
        added = soon(self.add, stream)
        reply = await done(client.xread({stream: "0"}, block=int(REPLY_LIMIT * 1000)))
        [(_, fields)] = entries(reply, stream)
        expect_fields(fields, {"late": "yes"})
        pushed.join()
        added.join()

    def add(self, stream):
        """XADD from another thread, over the same way as the library's."""
        redis.Redis.from_url(REDIS_URL).xadd(stream, {"late": "yes"})

    async def groups(self):
        client, stream = self.client, key("groups")
        await done(client.xgroup_create(stream, "g", mkstream=True))
        sent = {}
        for n in range(100):
            fields = {"n": str(n), "text": f"täst {n}\r\n$5", "empty": ""}
            sent[await done(client.xadd(stream, fields))] = fields
        consumers, read = [self.connect(), self.connect()], 0
        while read < len(sent):
            for number, consumer in enumerate(consumers):
                reply = await done(consumer.xreadgroup("g", f"c{number}", {stream: ">"}, count=10))
                for entry, fields in entries(reply, stream):
                    expect_fields(fields, sent[entry])
                    expect("XACK", await done(consumer.xack(stream, "g", entry)), 1)
                    read += 1
        expect("pending", (await done(client.xpending(stream, "g")))["pending"], 0)

    async def claims(self):
        client, stream = self.client, key("claims")
        await done(client.xgroup_create(stream, "g", mkstream=True))
        sent = [await done(client.xadd(stream, {"n": n})) for n in range(3)]
        await done(client.xreadgroup("g", "one", {stream: ">"}))
        pending = await done(client.xpending(stream, "g"))
        expect("XPENDING", (pending["pending"], pending["min"], pending["max"]), (3, sent[0], sent[2]))
        details = await done(client.xpending_range(stream, "g", "-", "+", 10))
        expect("XPENDING, range", [(d["message_id"], d["consumer"], d["times_delivered"]) for d in details], [(i, "one", 1) for i in sent])
        [(entry, fields)] = await done(client.xclaim(stream, "g", "two", 0, [sent[0]]))
        expect("XCLAIM", entry, sent[0])
        expect_fields(fields, {"n": "0"})
        expect("XCLAIM JUSTID", await done(client.xclaim(stream, "g", "two", 0, [sent[0]], justid=True)), [sent[0]])
        reply = await done(client.xautoclaim(stream, "g", "two", 0))
        expect("XAUTOCLAIM", [entry for entry, _ in reply[1]], sent)
        for n, (_, fields) in enumerate(reply[1]):
            expect_fields(fields, {"n": str(n)})
        info = await done(client.xinfo_stream(stream))
        expect("XINFO STREAM", (info["length"], info["first-entry"][0]), (3, sent[0]))
        expect_fields(info["last-entry"][1], {"n": "2"})
        [group] = await done(client.xinfo_groups(stream))
        expect("XINFO GROUPS", (group["name"], group["pending"]), ("g", 3))
        consumers = {c["name"]: c["pending"] for c in await done(client.xinfo_consumers(stream, "g"))}
        expect("XINFO CONSUMERS", consumers, {"one": 0, "two": 3})
        expect("XACK", await done(client.xack(stream, "g", *sent)), 3)

    async def large(self):
        client, stream = self.client, key("large")
        value = "0123456789abcdef" * (20 * 1024 * 1024 // 16)
        expect("SET", await done(client.set(key("20mb"), value)), True)
        expect("GET", await done(client.get(key("20mb"))) == value, True)
        await done(client.delete(key("20mb")))
        value = value[: 2 * 1024 * 1024]
        entry = await done(client.xadd(stream, {"large": value}))
        [(found, fields)] = entries(await done(client.xread({stream: "0"})), stream)
        expect("XREAD", (found, list(fields) == ["large"], fields["large"] == value), (entry, True, True))

    async def reconnect(self):
        client = self.connect()
        before = await done(client.client_id())
        killer = threading.Thread(target=kill_when_blocked, args=(before, key("killed")))
        killer.start()
        try:
            expect("BLPOP", list(await done(client.blpop([key("killed")], timeout=REPLY_LIMIT))), [key("killed"), "x"])
            note = SENT_AGAIN
        except redis.ConnectionError:
            note = FAILS
        killer.join()
        # A connection that is closed may be noticed only when it is used.
        for _ in range(10):
            try:
                entry = await done(client.xadd(key("reconnect"), {"after": "kill"}))
                break
            except redis.ConnectionError:
                await asyncio.sleep(0.05)
        expect("a new connection", await done(client.client_id()) != before, True)
        expect("XRANGE", [found for found, _ in await done(client.xrange(key("reconnect")))], [entry])
        return note

    async def invalidation(self):
        """Nothing, where the client has no cache."""

    def all(self):
        return {
            "connect": self.connects,
            "resp3": self.resp3,
            "pipeline": self.pipeline,
            "transaction": self.transaction,
            "scripts": self.scripts,
            "pubsub": self.pubsub,
            "blocking": self.blocking,
            "groups": self.groups,
            "claims": self.claims,
            "large": self.large,
            "reconnect": self.reconnect,
        }
