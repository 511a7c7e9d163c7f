"""redis-py's synchronous client, with its cache on the client's side."""

import time

import redis
from protocol import LIMIT, expect, key
from redis.cache import CacheConfig
from redis_features import Features, control


class Synchronous(Features):
    async def invalidation(self):
        client = self.connect(protocol=3, cache_config=CacheConfig())
        try:
            client.set(key("cached"), "1")
        except redis.ConnectionError as refused:
            if "supported by Redis 7.4 or later" in str(refused):  # the library's own condition
                return
            raise
        expect("GET", [client.get(key("cached")) for _ in range(2)], ["1", "1"])
        expect("entries in the cache", client.get_cache().size, 1)
        control().set(key("cached"), "2")
        deadline = time.monotonic() + LIMIT / 2
        while client.get(key("cached")) != "2":  # the push is on its way
            expect("an invalidation in time", time.monotonic() < deadline, True)


FEATURES = Synchronous(redis.Redis.from_url).all()
