"""Plays several copies of an environment, and sends what came of it over Redis Streams, until the agent does well.

    play.py ENVIRONMENT SERVICE REDIS GOAL SECONDS OUT

As docs/examples/gymnasium_over_streams.py, with two things more. The copies are acted on in one request. And it reads the stream on which new
versions are announced, to pass the trace of the announcement on to the first action by that version: that is all a service does for one trace from end to end.
"""

import collections
import itertools
import json
import os
import sys
import time
from pathlib import Path

ENVIRONMENT, SERVICE, REDIS, GOAL, SECONDS, OUT = sys.argv[1:]
os.environ["SERVICE"] = SERVICE
sys.path.insert(0, str(Path(__file__).parents[2] / "docs/examples"))

import gymnasium
import numpy
import redis
from gymnasium_over_http import ask, describe, http

AGENT, COPIES, FRAGMENT = ENVIRONMENT.split(":")[-1].replace("/", "-"), 8, 32
STREAMS = {"experience": "experience", "hot_reload": "hot-reload"}
# As RL Baselines3 Zoo tunes it for CartPole.
HYPERPARAMETERS = {"n_timesteps": 100_000, "n_envs": COPIES, "n_steps": FRAGMENT, "batch_size": 256, "n_epochs": 20, "gamma": 0.98,
                   "gae_lambda": 0.8, "learning_rate": "lin_0.001", "clip_range": "lin_0.2"}


class Copy:
    """An environment, and the fragment of it that is being made."""

    def __init__(self, number):
        self.env, self.env_id, self.seq, self.transitions = gymnasium.make(ENVIRONMENT), f"player-{number}", 0, []
        self.seen, _ = self.env.reset(seed=number)

    def step(self, action, env_action, log_prob):
        space = self.env.action_space
        discrete = isinstance(space, gymnasium.spaces.Discrete)
        action_of_env = space.dtype.type(env_action) if discrete else numpy.array(env_action, space.dtype).reshape(space.shape)
        after, reward, terminated, truncated, _ = self.env.step(action_of_env)
        self.transitions.append({"observation": self.seen.tolist(), "action": action, "log_prob": log_prob, "reward": float(reward),
                                 "terminated": bool(terminated), "truncated": bool(truncated)}
                                | ({"final_observation": after.tolist()} if truncated else {}))
        self.seen = self.env.reset()[0] if terminated or truncated else after

    def fragment(self, version):
        made = {"env_id": self.env_id, "seq": self.seq, "policy_version": version, "transitions": self.transitions, "next_observation": self.seen.tolist()}
        self.seq, self.transitions = self.seq + len(self.transitions), []
        return json.dumps(made)


def send(server, copies, version):
    if copies[0].transitions:
        with server.pipeline(transaction=False) as batch:
            for copy in copies:
                batch.xadd(STREAMS["experience"], {"fragment": copy.fragment(version)}, maxlen=10_000, approximate=True)
            batch.execute()


def announced(server, wait):
    """The trace of the newest version that was announced since the last call."""
    context = None
    for _, entries in server.xreadgroup("players", "player", {STREAMS["hot_reload"]: ">"}, count=10, block=500 if wait else None) or []:
        for entry, fields in entries:
            server.xack(STREAMS["hot_reload"], "players", entry)
            context = fields.get("traceparent", context)
    return context


def main():
    server = redis.Redis.from_url(REDIS, decode_responses=True)
    copies = [Copy(number) for number in range(COPIES)]
    env = copies[0].env
    ask("POST", "/v1/agents", {
        "name": AGENT, "observation_space": describe(env.observation_space, bounded=False), "action_space": describe(env.action_space),
        "hyperparameters": HYPERPARAMETERS, "streams": STREAMS})
    server.xgroup_create(STREAMS["hot_reload"], "players", "0", mkstream=True)
    began, said, version, mean, ahead = time.monotonic(), 0.0, None, None, 0
    traces = collections.deque(maxlen=16)
    for step in itertools.count():
        seconds = time.monotonic() - began
        # While the agent learns from what was played under the version before, as much is played under this one. More would come too late.
        context = announced(server, wait=ahead >= FRAGMENT)
        http.headers["traceparent"] = context
        answer = ask("POST", f"/v1/agents/{AGENT}/act", {"observations": [copy.seen.tolist() for copy in copies]})
        traces.extend([context.split("-")[1]] if context else [])
        ahead += 1
        if version != answer["policy_version"]:
            send(server, copies, version)  # a fragment is of one version
            version, ahead = answer["policy_version"], 0
            mean = ask("GET", f"/v1/agents/{AGENT}")["status"]["mean_return"]
        reached = mean is not None and mean >= float(GOAL)
        if seconds - said >= 2 or reached:
            said = seconds
            print(f"  {seconds:5.1f} s   {step * COPIES:7,} steps   version {version:4}   mean return {mean or 0:7.1f}", flush=True)
        if (reached and traces) or seconds > float(SECONDS):
            break
        for copy, *acted in zip(copies, answer["actions"], answer["env_actions"], answer["log_probs"]):
            copy.step(*acted)
        if len(copies[0].transitions) == FRAGMENT:
            send(server, copies, version)
    Path(OUT).write_text(json.dumps({"agent": AGENT, "traces": list(traces), "steps": step * COPIES, "seconds": seconds, "mean": mean}))
    if not reached:
        sys.exit(f"The mean return is {mean}, and was to be {GOAL} within {SECONDS} seconds.")
    print(f"\nA mean return of {mean:.0f} over the latest 100 episodes, after {step * COPIES:,} steps and {seconds:.0f} seconds.\n")


main()
