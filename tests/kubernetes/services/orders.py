"""Puts orders into a stream. It knows nothing of traces.

COUNT orders, or without a count until SIGTERM, one every PACE seconds. Told to end, it goes on for LINGER seconds, says
goodbye in a stream, and how many orders it has put in. CLUSTER: that URL is one of a Redis Cluster's.
"""

import os
import signal
import socket
import time

import redis

ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(True))

me = socket.gethostname()
count = int(os.environ.get("COUNT", "0"))
pace = float(os.environ.get("PACE", "0"))
url = os.environ["REDIS_URL"]
# Alone, it tries nothing again: a fault is one.
never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
client = redis.RedisCluster.from_url(url) if os.environ.get("CLUSTER") else redis.Redis.from_url(url, retry=never)

sent = faults = 0
while not ending and (count == 0 or sent < count):
    try:
        client.xadd("orders", {"order": f"{me}/{sent}", "amount": sent % 100})
        sent += 1
    except redis.RedisError as error:
        print(error, flush=True)
        faults += 1
        time.sleep(0.2)
    if pace:
        time.sleep(pace)
if ending:
    time.sleep(float(os.environ.get("LINGER", "0")))
client.hset("sent", me, sent)
if faults:
    client.hincrby("faults", me, faults)
client.xadd("goodbyes", {"pod": me})
print(f"{sent} orders", flush=True)
