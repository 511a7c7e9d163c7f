"""The learner beside Stable-Baselines3, round by round: `make bench-agent`.

    agent-runtime/scripts/python agent-runtime/scripts/bench.py target/release/examples/bench [ROUNDS]

Both sides do the same work on one thread, and are measured by processor time, so that what else runs on the machine counts as little as can be; acting on
one observation is measured by the clock. Prints the medians of all rounds (3), each side's, their ratio, and the target.
"""

import json
import resource
import subprocess
import sys
import time
from statistics import median

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule


def steps_per_second(steps, n_envs, **parameters):
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=n_envs, seed=0), seed=0, device="cpu", **parameters)
    began = time.process_time()
    model.learn(steps)
    return model.num_timesteps / (time.process_time() - began)


def update(inputs, outputs, width):
    """Milliseconds of one update with SB3's defaults, and the model."""

    class Nothing(__import__("gymnasium").Env):
        observation_space = spaces.Box(-np.inf, np.inf, (inputs,), np.float32)
        action_space = spaces.Discrete(outputs)

        def reset(self, **_):
            return self.observation_space.sample(), {}

        def step(self, _):
            return self.observation_space.sample(), 0.0, False, False, {}

    model = PPO("MlpPolicy", Nothing(), seed=0, device="cpu", policy_kwargs={"net_arch": [width, width]})
    model.set_logger(configure(None, []))
    buffer, rows = model.rollout_buffer, 2048
    buffer.observations[:] = np.random.normal(size=buffer.observations.shape)
    buffer.actions[:] = np.random.randint(0, 2, buffer.actions.shape)
    buffer.advantages[:] = np.random.normal(size=buffer.advantages.shape)
    buffer.returns[:] = np.random.normal(size=buffer.returns.shape)
    buffer.log_probs[:] = -np.log(outputs)
    buffer.pos, buffer.full = rows, True
    began = time.process_time()
    model.train()
    return (time.process_time() - began) * 1e3, model


def act(model, count=2_000):
    observation, times = np.random.normal(size=4).astype(np.float32), []
    for _ in range(count):
        began = time.perf_counter()
        model.predict(observation)
        times.append((time.perf_counter() - began) * 1e6)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def sb3():
    found = {"steps_defaults": steps_per_second(4_096, 1)}
    zoo = {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8}
    found["steps_zoo"] = steps_per_second(8_192, 8, learning_rate=LinearSchedule(0.001, 0.0, 1.0), clip_range=LinearSchedule(0.2, 0.0, 1.0), **zoo)
    found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["update_small"], model = update(4, 2, 64)
    found["act_p50"], found["act_p99"] = act(model)
    found["update_large"], _ = update(64, 16, 256)
    return found


# What is measured, its unit, whether more of it is better, and the target as a text and a test of (ours, theirs).
ROWS = [
    ("steps_defaults", "CartPole, SB3's defaults: environment steps a second", ">= 60 x", lambda a, b: a >= 60 * b),
    ("steps_zoo", "CartPole, rl-zoo's hyper-parameters: environment steps a second", ">= 15 x", lambda a, b: a >= 15 * b),
    ("update_small", "update of 4-64-64-2, 2,048 x 10 in 64s: ms", "<= 1/30", lambda a, b: a <= b / 30),
    ("update_large", "update of 64-256-256-16: ms", "<= 1/5", lambda a, b: a <= b / 5),
    ("act_p50", "acting on one observation, p50: us", "", None),
    ("act_p99", "acting on one observation, p99: us", "<= 2 us", lambda a, b: a <= 2.0),
    ("resident", "most memory resident: MB", "<= 6 MB", lambda a, b: a <= 6.0),
]


def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--sb3":
        torch.set_num_threads(1)
        print(json.dumps(sb3()))
        return
    sides = {"tars-agent": [sys.argv[1]], "SB3": [sys.executable, __file__, "--sb3"]}
    found = {side: [] for side in sides}
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
        for side, command in sides.items():
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[side].append(json.loads(output.splitlines()[-1]))
    print("| | tars-agent | Stable-Baselines3 | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |")
    missed = False
    for key, what, target, met in ROWS:
        ours, theirs = (median(run[key] for run in found[side]) for side in sides)
        verdict = "" if met is None else "yes" if met(ours, theirs) else "**no**"
        missed |= verdict == "**no**"
        ratio = f"{ours / theirs:.0f} x" if ours > theirs else f"1/{theirs / ours:.0f}"
        print(f"| {what} | {number(ours)} | {number(theirs)} | {ratio} | {target} | {verdict} |")
    sys.exit(missed)


if __name__ == "__main__":
    main()
