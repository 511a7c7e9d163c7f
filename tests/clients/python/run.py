"""`run.py LIBRARY`: runs every feature with the library; see protocol.py."""

import asyncio
import importlib
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

asyncio.run(run(importlib.import_module(PROGRAMS[sys.argv[1]]).FEATURES))
