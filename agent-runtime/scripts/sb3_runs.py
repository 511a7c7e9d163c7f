"""The reference that the learner is held against: Stable-Baselines3 with the hyper-parameters of agent-runtime/zoo.

    agent-runtime/scripts/python agent-runtime/scripts/sb3_runs.py [cartpole acrobot pendulum mountaincar]

writes agent-runtime/reference/sb3-NAME.json. Each seed is written as soon as it has finished, and a seed that is there is not run again, so the
script may be stopped at any time. One thread; nothing here depends on how fast the machine is. With `--try`, nothing is written:

    agent-runtime/scripts/python agent-runtime/scripts/sb3_runs.py pendulum --seeds 100-102 --try gamma=0.9 --try log_std_init=0.0

prints what the changed hyper-parameters give.

What is measured, after every update, `steps` being the environment steps that the policy has been trained on:

- training return: the mean over the last 100 training episodes (exploring, as the learner sees them);
- evaluation return: the mean over 100 fresh episodes in which the policy takes its mode;
- for CartPole the first `steps` at which each of them is 475 or more. By evaluation it is a matter of luck: it is looked at after every update, and
  ends at the first good one, so that of equal learners with 20 seeds each, one median is beyond 1.05 times the other nearly every second time. By
  training returns that is so once in 13 times. The area, the mean of the evaluation curve over the whole run, is such a measure too, and the steadiest:
  once in 50 times. (Drawn again and again from the 20 seeds committed.)

The summary is of the seeds that were fixed beforehand; `--seeds 20-99` adds others, which it does not count.
"""

import argparse
import json
import os
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from statistics import median

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

HERE = Path(__file__).resolve().parents[1]
EPISODES = 100
RANDOM_EPISODES = 1000
CURVE_POINTS = 50


class Task:
    def __init__(self, name, seeds, threshold=None):
        self.name, self.seeds, self.threshold = name, seeds, threshold
        [(self.env, self.zoo)] = tomllib.loads((HERE / "zoo" / f"{name}.toml").read_text()).items()
        self.path = HERE / "reference" / f"sb3-{name}.json"


TASKS = {
    "cartpole": lambda: Task("cartpole", range(20), threshold=475.0),
    "acrobot": lambda: Task("acrobot", range(10)),
    "pendulum": lambda: Task("pendulum", range(10)),
    "mountaincar": lambda: Task("mountaincar", range(10)),
}


def episodes(env_id, count, seed, act):
    """The returns of `count` episodes that run side by side; `act` gets a batch of observations."""
    if env_id == "CartPole-v1":
        return vectorised_episodes(env_id, count, seed, act)
    envs = [gym.make(env_id, disable_env_checker=True) for _ in range(count)]
    seeds = np.random.SeedSequence(seed).generate_state(count)
    observations = np.stack([env.reset(seed=int(s))[0] for env, s in zip(envs, seeds)])
    returns = np.zeros(count)
    running = np.arange(count)
    while running.size:
        still = []
        for i, action in zip(running, act(observations[running])):
            observations[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += reward
            if not (terminated or truncated):
                still.append(i)
        running = np.array(still, dtype=int)
    return returns


def vectorised_episodes(env_id, count, seed, act):
    """The same by Gymnasium's own vectorised environment, many times faster."""
    envs = gym.make_vec(env_id, num_envs=count, vectorization_mode="vector_entry_point")
    observations, _ = envs.reset(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
    returns, running = np.zeros(count), np.ones(count, dtype=bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        returns += rewards * running
        running &= ~(terminated | truncated)
    return returns


def random_policy(env_id):
    space = gym.make(env_id).action_space
    space.seed(0)
    returns = episodes(env_id, RANDOM_EPISODES, [0], lambda o: np.stack([space.sample() for _ in o]))
    return {"episodes": RANDOM_EPISODES, "mean": round(returns.mean(), 3), "std": round(returns.std(), 3)}


def schedule(value):
    """`lin_X`, as RL Baselines3 Zoo writes it, falls linearly from X to 0 over n_timesteps."""
    return LinearSchedule(float(value.removeprefix("lin_")), 0.0, 1.0) if isinstance(value, str) else value


# The keys of agent-runtime/zoo that SB3's PPO does not take by the same name.
OURS = ("n_envs", "n_timesteps", "normalize_observation", "normalize_reward", "policy", "value", "activation", "log_std_init", "ortho_init")


def learner(env, zoo, seed):
    parameters = {key: schedule(value) for key, value in zoo.items() if key not in OURS}
    policy = {key: zoo[key] for key in ("log_std_init", "ortho_init") if key in zoo}
    hidden = zoo.get("policy", [64, 64])
    policy["net_arch"] = {"pi": hidden, "vf": zoo.get("value", hidden)}
    policy["activation_fn"] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[zoo.get("activation", "tanh")]
    envs = make_vec_env(env, n_envs=zoo["n_envs"], seed=seed)
    observation, reward = zoo.get("normalize_observation", False), zoo.get("normalize_reward", False)
    if observation or reward:
        envs = VecNormalize(envs, norm_obs=observation, norm_reward=reward, gamma=zoo["gamma"])
    return PPO("MlpPolicy", envs, seed=seed, device="cpu", policy_kwargs=policy, **parameters)


class Recorder(BaseCallback):
    def __init__(self, task, seed):
        super().__init__()
        self.task, self.seed = task, seed
        self.run = {"seed": seed, "training_curve": [], "evaluation_curve": []}
        if task.threshold is not None:
            self.run |= {"steps_by_training": None, "steps_by_evaluation": None}
        self.every = task.zoo["n_timesteps"] / CURVE_POINTS
        self.due = self.every

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        if self.num_timesteps > 0:
            self.updated(last=False)

    def _on_training_end(self):
        self.updated(last=True)

    def evaluate(self):
        normaliser = self.model.get_vec_normalize_env()

        def act(observations):
            if normaliser is not None:
                observations = normaliser.normalize_obs(observations)
            return self.model.predict(observations, deterministic=True)[0]

        return float(episodes(self.task.env, EPISODES, [self.seed, self.num_timesteps], act).mean())

    def updated(self, last):
        steps, run, threshold = self.num_timesteps, self.run, self.task.threshold
        window = [episode["r"] for episode in self.model.ep_info_buffer]
        mean = float(np.mean(window)) if len(window) == 100 else None
        if threshold is not None and mean is not None and mean >= threshold:
            run["steps_by_training"] = run["steps_by_training"] or steps
        point = last or steps >= self.due
        if point:
            self.due += self.every
            if window:
                run["training_curve"].append([steps, round(float(np.mean(window)), 2)])
        if point or (threshold is not None and run["steps_by_evaluation"] is None):
            evaluated = self.evaluate()
            if point:
                run["evaluation_curve"].append([steps, round(evaluated, 2)])
            if threshold is not None and evaluated >= threshold:
                run["steps_by_evaluation"] = run["steps_by_evaluation"] or steps
            if last:
                run["final_return"] = round(evaluated, 3)


def summary(task, runs):
    counted = [run for run in runs if run["seed"] in task.seeds]
    if not counted:
        return {"seeds": 0}

    def middle(key):
        value = median(float("inf") if run[key] is None else run[key] for run in counted)
        return round(value, 3) if value < float("inf") else None

    areas = [float(np.mean([mean for _, mean in run["evaluation_curve"]])) for run in counted]
    found = {"seeds": len(counted), "median_final_return": middle("final_return"), "median_area": round(median(areas), 3)}
    if task.threshold is not None:
        found |= {f"median_{key}": middle(key) for key in ("steps_by_training", "steps_by_evaluation")}
    return found


def write(task, result):
    runs = sorted(result["runs"], key=lambda run: run["seed"])
    head = {key: value for key, value in result.items() if key not in ("runs", "summary")} | {"summary": summary(task, runs)}
    text = json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n  ' + ",\n  ".join(map(json.dumps, runs)) + "\n ]\n}\n"
    task.path.parent.mkdir(exist_ok=True)
    partial = task.path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, task.path)


def run(task, chosen):
    made_by = {name: version(name) for name in ("stable-baselines3", "torch", "gymnasium", "numpy")}
    result = json.loads(task.path.read_text()) if task.path.exists() else {}
    if result.get("hyperparameters") != task.zoo:
        result = {"environment": task.env, "hyperparameters": task.zoo, "versions": made_by, "threshold": task.threshold,
                  "random_policy": random_policy(task.env), "runs": []}
    there = {run["seed"] for run in result["runs"]}
    for seed in chosen or task.seeds:
        if seed in there:
            continue
        recorder = Recorder(task, seed)
        learner(task.env, task.zoo, seed).learn(task.zoo["n_timesteps"], callback=recorder)
        result["runs"].append(recorder.run)
        write(task, result)
        print(task.name, {key: value for key, value in recorder.run.items() if not key.endswith("curve")}, flush=True)
    write(task, result)


def seeds(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def attempt(task, changes, chosen):
    task.zoo |= changes
    returns = []
    for seed in chosen or task.seeds:
        recorder = Recorder(task, seed)
        recorder.every = recorder.due = float("inf")
        learner(task.env, task.zoo, seed).learn(task.zoo["n_timesteps"], callback=recorder)
        returns.append(recorder.run["final_return"])
    print(task.name, changes, f"median {median(returns):.1f}, worst {min(returns):.1f}", returns, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--try", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="a hyper-parameter to change, as in TOML")
    parser.add_argument("--seeds", type=seeds, metavar="FIRST-LAST", help="other seeds than those fixed beforehand")
    arguments = parser.parse_args()
    names = arguments.tasks or list(TASKS)
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(TASKS)}")
    torch.set_num_threads(1)
    for name in names:
        if arguments.changes:
            attempt(TASKS[name](), tomllib.loads("\n".join(arguments.changes)), arguments.seeds)
        else:
            run(TASKS[name](), arguments.seeds)


if __name__ == "__main__":
    main()
