"""Payment: charges each order, and tells shipping over the stream `payments`. It knows Redis, and nothing of tracing.

    payment.py CONSUMER       several may run: they share the consumer group

One card in ten is refused the first time. Such an order is not acknowledged, and another consumer claims it.
"""

import os
import random
import sys
import time

import redis

GROUP, CONSUMER = "payment", sys.argv[1]
CLAIM_AFTER_MS = 1000  # an order that was delivered this long ago and is not acknowledged is taken over
BACK_OFF = 2.0  # seconds for which a consumer that failed leaves the work to the others

db = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def next_order():
    """One order that another consumer left behind, else a new one, else None."""
    claimed = db.xautoclaim("orders", GROUP, CONSUMER, CLAIM_AFTER_MS, count=1)[1]
    if claimed:
        return claimed[0]
    for _stream, orders in db.xreadgroup(GROUP, CONSUMER, {"orders": ">"}, count=1, block=100) or []:
        return orders[0]
    return None


def charge(order):
    """Stands for the bank: takes a tenth of a second. False if it refuses."""
    time.sleep(random.uniform(0.06, 0.14))
    attempts = db.incr("attempts:" + order["order"])
    return attempts > 1 or int(order["order"]) % 10 != 7


try:
    db.xgroup_create("orders", GROUP, id="0", mkstream=True)
except redis.ResponseError as error:
    if "BUSYGROUP" not in str(error):
        raise

while True:
    found = next_order()
    if not found:
        continue
    message, order = found
    if charge(order):
        db.xadd("payments", {"order": order["order"], "cents": order["cents"]}, maxlen=10_000)
        db.xack("orders", GROUP, message)
        print("order", order["order"], "paid", flush=True)
    else:
        print("order", order["order"], "refused: left to another consumer", flush=True)
        time.sleep(BACK_OFF)
