"""Dramatiq with its broker on Redis: lists and hashes, moved by scripts."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from protocol import REDIS_URL, REPLY_LIMIT, expect, key

TASKS = 20

broker = RedisBroker(url=REDIS_URL, namespace=key("dramatiq"))
broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL, namespace=key("results"))))
dramatiq.set_broker(broker)
worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
sent, attempts = [], []


@dramatiq.actor(store_results=True)
def double(number):
    return 2 * number


@dramatiq.actor(store_results=True, max_retries=1, min_backoff=1, max_backoff=1)
def fails_once(number):
    attempts.append(number)
    if len(attempts) == 1:
        raise ValueError("once")
    return 2 * number


async def send():
    sent.extend(double.send(number) for number in range(TASKS))


async def consume():
    worker.start()
    results = [message.get_result(block=True, timeout=int(REPLY_LIMIT * 1000)) for message in sent]
    expect("results", results, [2 * number for number in range(TASKS)])


async def redelivery():
    message = fails_once.send(7)
    broker.join(fails_once.queue_name, timeout=int(REPLY_LIMIT * 1000))
    expect("the second attempt", message.get_result(block=True, timeout=int(REPLY_LIMIT * 1000)), 14)
    expect("attempts", attempts, [7, 7])
    worker.stop()


FEATURES = {"send": send, "consume": consume, "redelivery": redelivery}
