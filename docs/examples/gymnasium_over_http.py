"""Any Gymnasium environment, played and taught over plain HTTP: python docs/examples/gymnasium_over_http.py CartPole-v1 [STEPS]

Needs `tars-agent serve`, and pip install gymnasium requests."""

import os
import sys
import time

import gymnasium
import numpy
import requests

SERVICE = os.environ.get("SERVICE", "http://127.0.0.1:7205")
http = requests.Session()


def describe(space, bounded=True):
    """A space as the service wants it told. What it cannot learn in, it refuses with a sentence."""
    bounds = lambda values: [float(x) if numpy.isfinite(x) else None for x in values.flatten()]
    told = {
        "Box": lambda: {"shape": list(space.shape)} | ({"low": bounds(space.low), "high": bounds(space.high)} if bounded else {}),
        "Discrete": lambda: {"n": int(space.n), "start": int(space.start)},
        "MultiDiscrete": lambda: {"nvec": space.nvec.flatten().tolist()},
        "MultiBinary": lambda: {"n": int(numpy.prod(space.shape))},
    }
    return {"type": type(space).__name__} | told.get(type(space).__name__, dict)()


def ask(method, path, body=None):
    """Asks until there is room: 429 and 503 say that there will be."""
    while (answer := http.request(method, SERVICE + path, json=body)).status_code in (429, 503):
        time.sleep(0.05)
    if answer.status_code >= 400:
        sys.exit(f"{method} {path}: {answer.json()['detail']}")
    return answer.json() if answer.content else None


def play(env, agent, steps, send, spec={}, longest=64):
    """Plays so many steps, and sends what came of them in fragments: consecutive steps under one version of the policy."""
    seen, info = env.reset(seed=0)
    masked = "action_mask" in info
    spaces = {"observation_space": describe(env.observation_space, bounded=False), "action_space": describe(env.action_space)}
    ask("POST", "/v1/agents", {"name": agent, "masked": masked, **spaces, **spec})
    values = lambda x: numpy.asarray(x).tolist()
    env_id, fragment, version = f"{agent}-{time.time_ns()}", [], None
    whole = lambda step: {"env_id": env_id, "seq": step - len(fragment), "policy_version": version, "transitions": fragment, "next_observation": values(seen)}
    for step in range(steps):
        mask = {"mask": values(info["action_mask"])} if masked else {}
        question = {"observations": [values(seen)]} | ({"masks": [mask["mask"]]} if masked else {})
        answer = ask("POST", f"/v1/agents/{agent}/act", question)
        if fragment and (answer["policy_version"] != version or len(fragment) == longest):
            send(whole(step))
            fragment = []
        if answer["policy_version"] != version:
            version = answer["policy_version"]
            status = ask("GET", f"/v1/agents/{agent}")["status"]
            print(f"step {step}: version {version}, mean return {status['mean_return']}", flush=True)
        space, action = env.action_space, answer["env_actions"][0]
        action = space.dtype.type(action) if isinstance(space, gymnasium.spaces.Discrete) else numpy.array(action, space.dtype).reshape(space.shape)
        after, reward, terminated, truncated, info = env.step(action)
        fragment.append({"observation": values(seen), "action": answer["actions"][0], "log_prob": answer["log_probs"][0],
                         "reward": float(reward), "terminated": terminated, "truncated": truncated, **mask}
                        | ({"final_observation": values(after)} if truncated else {}))
        seen, info = env.reset() if terminated or truncated else (after, info)
    send(whole(steps))


if __name__ == "__main__":
    environment, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    agent, epoch, sent = environment.split(":")[-1].replace("/", "-"), time.time_ns(), iter(range(steps))
    play(gymnasium.make(environment), agent, steps, lambda fragment: ask(
        "POST", f"/v1/agents/{agent}/experience", {"producer": "example", "epoch": epoch, "seq": next(sent), "fragments": [fragment]}))
