"""FastStream on streams: XADD, XREADGROUP, XACK, XAUTOCLAIM, and XREAD without a group."""

import asyncio

import redis
from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from protocol import CONTROL_URL, REDIS_URL, REPLY_LIMIT, expect, key

ORDERS, NEWS, RETRIED, MESSAGES = key("orders"), key("news"), key("retried"), 20

broker = RedisBroker(REDIS_URL, logger=None)
orders, news, attempts = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()


@broker.subscriber(stream=StreamSub(ORDERS, group="g", consumer="c", polling_interval=100))
async def on_order(body: dict):
    await orders.put(body)


@broker.subscriber(stream=StreamSub(NEWS, last_id="0", polling_interval=100))
async def on_news(body: str):
    await news.put(body)


@broker.subscriber(
    stream=StreamSub(RETRIED, group="g", consumer="fails", polling_interval=100),
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def fails(body: str):
    await attempts.put(("fails", body))
    raise ValueError("this handler fails always")


@broker.subscriber(stream=StreamSub(RETRIED, group="g", consumer="claims", min_idle_time=300, polling_interval=20))
async def claims(body: str):
    await attempts.put(("claims", body))


async def send():
    await broker.start()  # makes the groups
    for number in range(MESSAGES):
        await broker.publish({"order": number, "text": f"täst {number}"}, stream=ORDERS, headers={"number": str(number)})
        await broker.publish(f"news {number}", stream=NEWS)


async def consume():
    for number in range(MESSAGES):
        expect("order", await next_of(orders), {"order": number, "text": f"täst {number}"})
        expect("news", await next_of(news), f"news {number}")


async def redelivery():
    await broker.publish("again", stream=RETRIED)
    expect("the first attempt", await next_of(attempts), ("fails", "again"))
    expect("the second attempt", await next_of(attempts), ("claims", "again"))
    with redis.Redis.from_url(CONTROL_URL) as control:
        for stream in (ORDERS, RETRIED):
            while control.xpending(stream, "g")["pending"] > 0:  # acknowledged after the handler
                await asyncio.sleep(0.01)


async def next_of(queue):
    return await asyncio.wait_for(queue.get(), REPLY_LIMIT)


FEATURES = {"send": send, "consume": consume, "redelivery": redelivery}
