"""What every program here does: run the features of one library, and print a line of JSON for each.

    REDIS_URL     where the library connects: a server, or a proxy before it
    CONTROL_URL   the server itself
    PREFIX        every key, stream and channel begins with it
"""

import asyncio
import json
import os
import sys
import time
import traceback

REDIS_URL = os.environ["REDIS_URL"]
CONTROL_URL = os.environ["CONTROL_URL"]
PREFIX = os.environ["PREFIX"]

# Only a failure waits it out. Libraries are given half of it for a reply, so that they say what they waited for.
LIMIT = 30
REPLY_LIMIT = LIMIT / 2

# What a proxy may add to a message.
ADDED = {"traceparent", "tracestate"}

# What becomes of the command whose reply was awaited when its connection was killed: the notes of `reconnect`.
SENT_AGAIN = "sent again over a new connection"
FAILS = "fails; later commands go over a new connection"


class Lacks(Exception):
    """The library has no such feature."""


def key(name):
    return f"{PREFIX}:{name}"


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {short(got)} instead of {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def expect_fields(got, sent):
    """Every field as it was sent, and nothing else but what a proxy adds."""
    expect("fields", {name: value for name, value in got.items() if name in sent}, sent)
    expect("further fields", set(got) - set(sent) - ADDED, set())


async def done(result):
    """The result of a call, whether the library is synchronous or not."""
    return await result if hasattr(result, "__await__") else result


async def run(features):
    """Runs `{name: function}` one after the other. A function may return a note."""
    for name, feature in features.items():
        began = time.monotonic()
        try:
            # Not wait_for, which waits for what ignores its cancellation.
            task = asyncio.ensure_future(feature())
            if not (await asyncio.wait({task}, timeout=LIMIT))[0]:
                raise TimeoutError("no end in time")
            note = task.result()
            line = {"feature": name, "ok": True, **({"note": note} if note else {})}
        except Lacks as lacks:
            line = {"feature": name, "ok": None, "why": str(lacks)}
        except Exception as error:
            traceback.print_exc()
            line = {"feature": name, "ok": False, "why": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(line), flush=True)
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
