"""Episodes as Gymnasium plays them: agent-runtime/tests/fixtures/trajectory-*.safetensors, laid out as the README there says.

    agent-runtime/scripts/python agent-runtime/scripts/trajectories.py

Of every environment a few episodes under random actions, and a few under a rule that gets where random actions do not: to the limit of time, to the
goal, beyond the bounds of an action.
"""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"


def balance(o, rng):
    return int(o[2] + 0.5 * o[3] + 0.05 * o[0] + 0.1 * o[1] > 0)


def pump(o, rng):
    """Pushes the second link the way it swings."""
    return 2 if o[5] > 0 else 0


def rock(o, rng):
    """The way the car rolls, often with more force than it has."""
    return np.array([np.sign(o[1]) * rng.uniform(0.5, 1.5)], np.float32)


def swing(o, rng):
    """Beyond the torque that there is, half of the time."""
    return np.array([np.sign(o[2]) * rng.uniform(0.0, 4.0)], np.float32)


RULES = {"CartPole-v1": balance, "Acrobot-v1": pump, "MountainCarContinuous-v0": rock, "Pendulum-v1": swing}


def main():
    for name, rule in RULES.items():
        env = gym.make(name)
        rng = np.random.default_rng(5)
        env.action_space.seed(5)
        start, actions, observations, rewards, terminated, truncated, states = [], [], [], [], [], [], []
        ends = []
        for episode in range(6):
            observation, _ = env.reset(seed=episode)
            states.append(np.array(env.unwrapped.state, np.float64))
            observations.append(observation)
            done = False
            while not done:
                action = env.action_space.sample() if episode < 3 else rule(observation, rng)
                observation, reward, end, cut, _ = env.step(action)
                actions.append(np.atleast_1d(np.asarray(action, np.float32)))
                observations.append(observation)
                rewards.append(float(reward))
                terminated.append(end)
                truncated.append(cut)
                done = end or cut
            ends.append(("terminated" if end else "") + ("truncated" if cut else "") + f" after {len(rewards) - sum(start)}")
            start.append(len(rewards) - sum(start))
        tensors = {
            "lengths": np.array(start, np.int64),
            "initial_states": np.stack(states),
            "actions": np.stack(actions),
            "observations": np.stack(observations).astype(np.float32),
            "rewards": np.array(rewards, np.float64),
            "terminated": np.array(terminated, np.uint8),
            "truncated": np.array(truncated, np.uint8),
        }
        path = FIXTURES / f"trajectory-{name}.safetensors"
        save_file(tensors, path, {"case": json.dumps({"kind": "trajectory", "environment": name})})
        print(f"{path.stat().st_size:>8} {name} {ends}")


if __name__ == "__main__":
    main()
