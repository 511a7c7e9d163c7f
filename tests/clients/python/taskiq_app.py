"""taskiq with its broker on streams: XADD, XREADGROUP, XACK, XAUTOCLAIM."""

import asyncio
import contextlib

import redis.asyncio
from protocol import REDIS_URL, REPLY_LIMIT, expect, key
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

STREAM, GROUP, TASKS = key("tasks"), "workers", 20

broker = RedisStreamBroker(
    REDIS_URL, queue_name=STREAM, consumer_group_name=GROUP, consumer_id="0", xread_block=100, idle_timeout=50
).with_result_backend(RedisAsyncResultBackend(REDIS_URL, prefix_str=key("result")))


@broker.task(task_name="double")
async def double(number):
    return 2 * number


sent = {}


async def send():
    await broker.startup()
    for number in range(TASKS):
        sent[number] = await double.kiq(number)


async def consume():
    async with worker():
        await results(sent)


async def redelivery():
    """A worker reads a task and dies; another one claims it. It does so after it has read something else."""
    lost = await double.kiq(100)
    async with redis.asyncio.Redis.from_url(REDIS_URL, protocol=2) as dying:
        [[_, [[_, fields]]]] = await dying.xreadgroup(GROUP, "dying", {STREAM: ">"})
        expect("the task that was lost", b"double" in fields[b"data"], True)
    await asyncio.sleep(0.06)  # longer than idle_timeout
    other = await double.kiq(101)
    async with worker():
        await results({100: lost, 101: other})
    async with redis.asyncio.Redis.from_url(REDIS_URL) as client:
        expect("pending", (await client.xpending(STREAM, GROUP))["pending"], 0)


async def results(tasks):
    for number, task in tasks.items():
        result = await task.wait_result(check_interval=0.02, timeout=REPLY_LIMIT)
        expect("result", (result.is_err, result.return_value), (False, 2 * number))


@contextlib.asynccontextmanager
async def worker():
    task = asyncio.create_task(run_receiver_task(broker))
    yield
    await asyncio.sleep(0.2)  # the acknowledgement follows the result
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


FEATURES = {"send": send, "consume": consume, "redelivery": redelivery}
