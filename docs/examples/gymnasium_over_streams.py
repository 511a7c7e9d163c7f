"""Any Gymnasium environment, taught over Redis Streams: python docs/examples/gymnasium_over_streams.py CartPole-v1 [STEPS]

Needs Redis, tars-proxy before it, `tars-agent serve --redis redis://127.0.0.1:6380`, and pip install gymnasium redis requests."""

import json
import os
import sys

import gymnasium
import redis

from gymnasium_over_http import play

environment, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
agent = environment.split(":")[-1].replace("/", "-") + "-streams"
streams = {"experience": f"experience:{agent}", "hot_reload": "hot-reload"}
server = redis.Redis.from_url(os.environ.get("REDIS", "redis://127.0.0.1:6380"))
# An entry is a fragment: redis-py, any client, any language. The trace is tars-proxy's to add.
play(gymnasium.make(environment), agent, steps, lambda fragment: server.xadd(streams["experience"], {"fragment": json.dumps(fragment)}), {"streams": streams})
