"""taskiq with its broker on streams: XADD, XREADGROUP, XACK, XAUTOCLAIM."""

import asyncio

import redis
from protocol import CONTROL_URL, REDIS_URL, REPLY_LIMIT, expect, key
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

STREAM, GROUP, TASKS = key("tasks"), "workers", 20

broker = RedisStreamBroker(
    REDIS_URL, queue_name=STREAM, consumer_group_name=GROUP, consumer_id="0", xread_block=100, idle_timeout=500
).with_result_backend(RedisAsyncResultBackend(REDIS_URL, prefix_str=key("result")))


@broker.task(task_name="double")
async def double(number):
    return 2 * number


sent, workers = [], []


async def send():
    await broker.startup()
    for number in range(TASKS):
        sent.append(await double.kiq(number))


async def consume():
    """A worker reads the first task and dies; another one handles the others."""
    with redis.Redis.from_url(REDIS_URL, protocol=2) as dying:
        [[_, [[_, fields]]]] = dying.xreadgroup(GROUP, "dying", {STREAM: ">"}, count=1)
        expect("the task that is lost", sent[0].task_id.encode() in fields[b"data"], True)
    workers.append(asyncio.create_task(run_receiver_task(broker)))
    for number in range(1, TASKS):
        await expect_result(sent[number], 2 * number)


async def redelivery():
    """The lost task is claimed, which a worker does when it has read something."""
    await asyncio.sleep(0.5)  # idle_timeout
    await expect_result(await double.kiq(TASKS), 2 * TASKS)
    await expect_result(sent[0], 0)
    with redis.Redis.from_url(CONTROL_URL) as control:
        while control.xpending(STREAM, GROUP)["pending"] > 0:  # acknowledged after the result is there
            await asyncio.sleep(0.01)


async def expect_result(task, value):
    result = await task.wait_result(check_interval=0.02, timeout=REPLY_LIMIT)
    expect("result", (result.is_err, result.return_value), (False, value))


FEATURES = {"send": send, "consume": consume, "redelivery": redelivery}
