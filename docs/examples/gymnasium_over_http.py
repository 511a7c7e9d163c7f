"""Any Gymnasium environment, played and taught over plain HTTP: python docs/examples/gymnasium_over_http.py CartPole-v1 [STEPS [SPEC]]

SPEC is what else the agent is told, in JSON: '{"buffer": {"transitions": 8192}, "hyperparameters": {"n_steps": 512}}'.

Needs `tars-agent serve`, and pip install -r docs/examples/requirements.txt, or gymnasium and requests alone."""

import argparse
import itertools
import json
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
    try:
        while (answer := http.request(method, SERVICE + path, json=body)).status_code in (429, 503):
            time.sleep(0.05)
    except requests.RequestException as error:
        sys.exit(f"{SERVICE} does not answer; is `tars-agent serve` running there (SERVICE names another place)? {error}")
    if answer.status_code >= 400:
        sys.exit(f"{method} {path}: {answer.json()['detail']}")
    return answer.json() if answer.content else None


def play(env, agent, steps, send, spec={}, longest=64):
    """Plays so many steps, and sends what came of them in fragments: consecutive steps under one version of the policy.

    Fragments end at multiples of n_steps, too: an update takes whole fragments, and what does not fit into it waits, and grows old."""
    seen, info = env.reset(seed=0)
    masked = "action_mask" in info
    spaces = {"observation_space": describe(env.observation_space, bounded=False), "action_space": describe(env.action_space)}
    told = ask("POST", "/v1/agents", {"name": agent, "masked": masked, **spaces, **spec})["spec"]
    n_steps = told["hyperparameters"]["n_steps"]
    values = lambda x: numpy.asarray(x).tolist()
    env_id, fragment, version = f"{agent}-{time.time_ns()}", [], None
    whole = lambda step: {"env_id": env_id, "seq": step - len(fragment), "policy_version": version, "transitions": fragment, "next_observation": values(seen)}
    for step in range(steps):
        mask = {"mask": values(info["action_mask"])} if masked else {}
        question = {"observations": [values(seen)]} | ({"masks": [mask["mask"]]} if masked else {})
        answer = ask("POST", f"/v1/agents/{agent}/act", question)
        if fragment and (answer["policy_version"] != version or len(fragment) == longest or step % n_steps == 0):
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
    status = ask("GET", f"/v1/agents/{agent}")["status"]
    print(f"played {steps} steps: version {status['policy_version']}, mean return {status['mean_return']}, {status['ledger']}")


def asked():
    """The environment, what it is called as an agent, steps and spec, as the command line has them."""
    def number(text):
        return max(1, int(text))

    def JSON(text):
        return dict(json.loads(text))

    parser = argparse.ArgumentParser(description="Plays an environment of Gymnasium, and teaches an agent of tars-agent by what comes of it.")
    parser.add_argument("environment", help="CartPole-v1 say, or MODULE:NAME")
    parser.add_argument("steps", nargs="?", type=number, default=20000, help="to play, 20000 if not given")
    parser.add_argument("spec", nargs="?", type=JSON, default={}, help="what else the agent is told, an object of JSON")
    args = parser.parse_args()
    try:
        env = gymnasium.make(args.environment)
    except (gymnasium.error.Error, ImportError) as error:
        parser.error(f"{args.environment}: {error}")
    return env, args.environment.split(":")[-1].replace("/", "-"), args.steps, args.spec


if __name__ == "__main__":
    environment, agent, steps, spec = asked()
    epoch, sent = time.time_ns(), itertools.count()
    play(environment, agent, steps, lambda fragment: ask(
        "POST", f"/v1/agents/{agent}/experience", {"producer": "example", "epoch": epoch, "seq": next(sent), "fragments": [fragment]}), spec)
