"""Any Gymnasium environment, taught over Redis Streams: python docs/examples/gymnasium_over_streams.py CartPole-v1 [STEPS [SPEC]]

Needs Redis, tars-proxy before it, `tars-agent serve --redis redis://127.0.0.1:6380`, and pip install -r docs/examples/requirements.txt, or gymnasium,
redis and requests alone."""

import json
import os
import sys

import redis

from gymnasium_over_http import asked, play

REDIS = os.environ.get("REDIS", "redis://127.0.0.1:6380")
environment, agent, steps, spec = asked()
agent += "-streams"
streams = {"experience": f"experience:{agent}", "hot_reload": "hot-reload"}
try:
    server = redis.Redis.from_url(REDIS)
    server.ping()
    # An entry is a fragment: redis-py, any client, any language. The trace is tars-proxy's to add.
    play(environment, agent, steps, lambda fragment: server.xadd(streams["experience"], {"fragment": json.dumps(fragment)}), {"streams": streams, **spec})
except (redis.RedisError, ValueError) as error:
    sys.exit(f"{REDIS}: {error} (REDIS names another place)")
