"""The shop: takes orders, and adds each to the stream `orders`. It knows Redis, and nothing of tracing.

    shop.py FIRST [LAST]      without LAST: an order every other second, until it is stopped
"""

import itertools
import os
import random
import sys
import time

import redis

ITEMS = ["kettle", "lamp", "radio", "chair", "clock"]

first = int(sys.argv[1])
last = int(sys.argv[2]) if len(sys.argv) > 2 else None
db = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

for number in range(first, last + 1) if last else itertools.count(first):
    order = {"order": number, "item": random.choice(ITEMS), "cents": random.randrange(900, 9000)}
    db.xadd("orders", order, maxlen=10_000)
    print("order", number, flush=True)
    time.sleep(0.1 if last else 2)
