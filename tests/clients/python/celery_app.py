"""Celery with Redis as broker (lists) and as the store of results (pub/sub). Its worker runs in a thread."""

import contextlib

from celery import Celery
from celery.contrib.testing.worker import start_worker
from protocol import REDIS_URL, REPLY_LIMIT, expect, key

TASKS = 20

app = Celery("compatibility", broker=REDIS_URL, backend=REDIS_URL)
app.conf.broker_transport_options = {"global_keyprefix": key("celery:")}
app.conf.result_backend_transport_options = {"global_keyprefix": key("celery:")}

stack = contextlib.ExitStack()
sent = []


@app.task
def double(number):
    return 2 * number


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def fails_once(self, number):
    if self.request.retries == 0:
        raise self.retry()
    return 2 * number


async def send():
    sent.extend(double.delay(number) for number in range(TASKS))


async def consume():
    stack.enter_context(start_worker(app, perform_ping_check=False))
    results = [task.get(timeout=REPLY_LIMIT) for task in sent]
    expect("results", results, [2 * number for number in range(TASKS)])


async def redelivery():
    with stack:
        expect("the second attempt", fails_once.delay(7).get(timeout=REPLY_LIMIT), 14)


FEATURES = {"send": send, "consume": consume, "redelivery": redelivery}
