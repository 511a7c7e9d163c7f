"""Shipping: sends off what is paid, as the stream `payments` tells. It knows Redis, and nothing of tracing.

    shipping.py CONSUMER
"""

import os
import random
import sys
import time

import redis

GROUP, CONSUMER = "shipping", sys.argv[1]

db = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
try:
    db.xgroup_create("payments", GROUP, id="0", mkstream=True)
except redis.ResponseError as error:
    if "BUSYGROUP" not in str(error):
        raise

while True:
    for _stream, payments in db.xreadgroup(GROUP, CONSUMER, {"payments": ">"}, count=1, block=1000) or []:
        for message, payment in payments:
            time.sleep(random.uniform(0.08, 0.16))  # packing
            db.xack("payments", GROUP, message)
            print("order", payment["order"], "shipped", flush=True)
