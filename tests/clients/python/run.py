"""`run.py LIBRARY`: runs every feature with the library; see protocol.py."""

import asyncio
import importlib
import os
import sys

from protocol import run

PROGRAMS = {
    "redis-py": "redis_py",
    "redis-py asyncio": "redis_py_asyncio",
    "taskiq": "taskiq_app",
    "FastStream": "faststream_app",
    "Celery": "celery_app",
    "Dramatiq": "dramatiq_app",
}


async def main():
    await run(importlib.import_module(PROGRAMS[sys.argv[1]]).FEATURES)
    # Workers and connections of libraries are left as they are: not all of them end when they are told to.
    sys.stderr.flush()
    os._exit(0)


asyncio.run(main())
