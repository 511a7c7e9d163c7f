"""What PyTorch and Stable-Baselines3 answer on small cases: agent-runtime/tests/fixtures/*.safetensors, laid out as the README there says.

    agent-runtime/scripts/python agent-runtime/scripts/fixtures.py

The losses, gradients and weights come out of SB3's own `PPO.train`, the advantages out of its `RolloutBuffer`, the normalised numbers out of its
`VecNormalize`. Only what SB3 has no more or never had is added: a trunk shared by policy and value, and masked actions (as sb3-contrib has them:
a forbidden logit is -1e8).
"""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from safetensors.numpy import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import CategoricalDistribution, MultiCategoricalDistribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
FORBIDDEN = -1e8

DEFAULTS = {
    "n_epochs": 1, "learning_rate": 3e-4, "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.2, "clip_range_vf": None, "normalize_advantage": True,
    "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5, "target_kl": None, "policy": [16, 12], "value": [12, 20], "shared": [], "activation": "tanh",
}
SHARED = {"shared": [16, 12], "policy": [], "value": []}
DISCRETE, MULTI_DISCRETE, BOX = {"discrete": 3}, {"multi_discrete": [3, 2, 4]}, {"box": 2}

# name: kind, rows, action space, masked, what differs from DEFAULTS
CASES = {
    "minibatch-discrete": ("minibatch", 64, DISCRETE, False, {"policy": [64, 64], "value": [64, 64]}),
    "minibatch-discrete-relu": ("minibatch", 50, DISCRETE, False, {"activation": "relu", "clip_range_vf": 0.2, "max_grad_norm": 10.0}),
    "minibatch-discrete-plain": ("minibatch", 64, DISCRETE, False, {"normalize_advantage": False, "vf_coef": 0.0, "clip_range": 0.1}),
    "minibatch-multi-discrete": ("minibatch", 64, MULTI_DISCRETE, False, {"ent_coef": 0.01}),
    "minibatch-multi-discrete-shared": ("minibatch", 37, MULTI_DISCRETE, False, {**SHARED, "activation": "relu", "vf_coef": 0.25}),
    "minibatch-masked": ("minibatch", 64, DISCRETE, True, {"ent_coef": 0.01, "normalize_advantage": False}),
    "minibatch-masked-multi-discrete": ("minibatch", 64, MULTI_DISCRETE, True, {"ent_coef": 0.05, "clip_range_vf": 0.2}),
    "minibatch-box": ("minibatch", 64, BOX, False, {"ent_coef": 0.01}),
    "minibatch-box-relu-shared": ("minibatch", 64, BOX, False, {**SHARED, "activation": "relu", "clip_range_vf": 0.2}),
    "minibatch-box-shared": ("minibatch", 64, BOX, False, {**SHARED, "vf_coef": 1.0}),
    "update-discrete": ("update", 200, DISCRETE, False, {"batch_size": 64, "n_epochs": 10}),
    "update-discrete-kl": ("update", 160, DISCRETE, False, {"batch_size": 32, "n_epochs": 8, "learning_rate": 0.003, "target_kl": 0.01}),
    "update-multi-discrete": ("update", 160, MULTI_DISCRETE, False, {**SHARED, "activation": "relu", "batch_size": 48, "n_epochs": 4, "ent_coef": 0.01}),
    "update-box": ("update", 200, BOX, False, {"batch_size": 64, "n_epochs": 10, "clip_range_vf": 0.2, "ent_coef": 0.001}),
    "policy-discrete": ("policy", 20, DISCRETE, False, {}),
    "policy-multi-discrete": ("policy", 20, MULTI_DISCRETE, False, {"activation": "relu"}),
    "policy-masked": ("policy", 20, DISCRETE, True, {}),
    "policy-masked-multi-discrete": ("policy", 20, MULTI_DISCRETE, True, SHARED),
    "policy-box": ("policy", 20, BOX, False, {}),
}
INPUTS = 5


class Spaces(gym.Env):
    """An environment that is never stepped: PPO asks it for its spaces."""

    def __init__(self, observations, actions):
        self.observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):
        raise NotImplementedError


def action_space(case):
    [(kind, size)] = case.items()
    if kind == "box":
        return spaces.Box(-1, 1, (size,), np.float32)
    return spaces.Discrete(size) if kind == "discrete" else spaces.MultiDiscrete(size)


def logits(case):
    [(_, size)] = case.items()
    return sum(size) if isinstance(size, list) else size


class WithoutMask(BaseFeaturesExtractor):
    """The mask travels behind the observation; the network does not see it."""

    def __init__(self, observation_space):
        super().__init__(observation_space, INPUTS)

    def forward(self, observations):
        return observations[:, :INPUTS]


def layers(width, hidden, activation):
    modules = []
    for size in hidden:
        modules += [torch.nn.Linear(width, size), activation()]
        width = size
    return torch.nn.Sequential(*modules), width


class Trunk(torch.nn.Module):
    def __init__(self, features, shared, policy, value, activation):
        super().__init__()
        self.shared_net, width = layers(features, shared, activation)
        self.policy_net, self.latent_dim_pi = layers(width, policy, activation)
        self.value_net, self.latent_dim_vf = layers(width, value, activation)

    def forward(self, features):
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features):
        return self.policy_net(self.shared_net(features))

    def forward_critic(self, features):
        return self.value_net(self.shared_net(features))


class Policy(ActorCriticPolicy):
    def __init__(self, *args, shared, policy, value, **kwargs):
        self.hidden = (shared, policy, value)
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self):
        self.mlp_extractor = Trunk(self.features_dim, *self.hidden, self.activation_fn)

    def evaluate_actions(self, obs, actions):
        if obs.shape[1] == INPUTS:
            return super().evaluate_actions(obs, actions)
        latent_policy, latent_value = self.mlp_extractor(self.extract_features(obs))
        scores = self.action_net(latent_policy).masked_fill(obs[:, INPUTS:] == 0, FORBIDDEN)
        distribution = self.action_dist.proba_distribution(scores)
        return self.value_net(latent_value), distribution.log_prob(actions), distribution.entropy()

    def scores(self, obs):
        return self.action_net(self.mlp_extractor.forward_actor(self.extract_features(obs)))


def learner(rows, case, masked, parameters, rng):
    width = INPUTS + (logits(case) if masked else 0)
    ours = {key: parameters.pop(key) for key in ("policy", "value", "shared")}
    policy = {**ours, "activation_fn": ACTIVATIONS[parameters.pop("activation")]}
    if masked:
        policy["features_extractor_class"] = WithoutMask
    model = PPO(Policy, Spaces(width, action_space(case)), n_steps=rows, seed=0, device="cpu", policy_kwargs=policy, **parameters)
    model.set_logger(Logger(folder=None, output_formats=[]))
    # Fresh networks have zero biases and a nearly uniform policy: errors would hide.
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += torch.from_numpy(rng.normal(0.0, 0.2, parameter.shape).astype(np.float32))
    return model


def draw_masks(case, rows, rng):
    """At least one logit of each action is allowed, and at least one row allows nothing else."""
    [(_, sizes)] = case.items()
    parts = []
    for size in sizes if isinstance(sizes, list) else [sizes]:
        part = (rng.random((rows, size)) < 0.6).astype(np.float32)
        part[np.arange(rows), rng.integers(size, size=rows)] = 1.0
        part[0] = 0.0
        part[0, rng.integers(size)] = 1.0
        parts.append(part)
    return np.concatenate(parts, axis=1)


def draw_actions(model, case, observations):
    """From the policy itself, so that masked actions are allowed ones."""
    with torch.no_grad():
        scores = model.policy.scores(observations)
        if observations.shape[1] > INPUTS:
            scores = scores.masked_fill(observations[:, INPUTS:] == 0, FORBIDDEN)
        if "box" in case:
            return model.policy.action_dist.proba_distribution(scores, model.policy.log_std).sample().numpy()
        return model.policy.action_dist.proba_distribution(scores).sample().reshape(len(observations), -1).numpy()


def weights(model, prefix):
    return {f"{prefix}.{name}": value.numpy().copy() for name, value in model.policy.state_dict().items()}


def evaluated(model, observations, actions):
    taken = torch.from_numpy(actions)
    if isinstance(model.action_space, spaces.Discrete):
        taken = taken.flatten()
    with torch.no_grad():
        return [x.flatten().numpy() for x in model.policy.evaluate_actions(observations, taken)]


def train(model, batch, tensors, expected):
    """SB3's own update of `batch`, with what it draws and computes on the way written down."""
    buffer = model.rollout_buffer
    buffer.reset()
    rows = buffer.buffer_size
    buffer.observations[:, 0] = batch["observations"]
    buffer.actions[:, 0] = batch["actions"]
    for name, field in {"old_log_prob": "log_probs", "old_values": "values", "advantages": "advantages", "returns": "returns"}.items():
        getattr(buffer, field)[:, 0] = batch[name]
    buffer.full, buffer.pos = True, rows

    orders, gradients, norms = [], [], []
    permutation, clip = np.random.permutation, torch.nn.utils.clip_grad_norm_

    def recorded_permutation(size):
        orders.append(permutation(size))
        return orders[-1]

    def recorded_clip(parameters, limit):
        gradients.append({name: p.grad.numpy().copy() for name, p in model.policy.named_parameters()})
        norms.append(float(clip(parameters, limit)))

    np.random.permutation, torch.nn.utils.clip_grad_norm_ = recorded_permutation, recorded_clip
    try:
        np.random.seed(0)
        model.train()
    finally:
        np.random.permutation, torch.nn.utils.clip_grad_norm_ = permutation, clip

    logged = model.logger.name_to_value
    for name, key in {"policy_loss": "policy_gradient_loss", "value_loss": "value_loss", "entropy_loss": "entropy_loss", "approx_kl": "approx_kl",
                      "clip_fraction": "clip_fraction"}.items():
        expected[name] = float(logged[f"train/{key}"])
    return orders, gradients, norms


def make(name, kind, rows, case, masked, changes):
    rng = np.random.default_rng([*name.encode()])
    torch.manual_seed(int(rng.integers(2**31)))
    parameters = {"batch_size": rows, **DEFAULTS, **changes}
    model = learner(rows, case, masked, dict(parameters), rng)
    observations = rng.normal(size=(rows, INPUTS)).astype(np.float32)
    tensors = {"observations": observations} | weights(model, "initial")
    if masked:
        tensors["masks"] = draw_masks(case, rows, rng)
        observations = np.concatenate([observations, tensors["masks"]], axis=1)
    seen = torch.from_numpy(observations)
    actions = draw_actions(model, case, seen)
    values, log_prob, entropy = evaluated(model, seen, actions)
    tensors["actions"] = actions.astype(np.float32)
    expected = {}
    if kind == "policy":
        tensors |= {"expected.values": values, "expected.log_prob": log_prob, "expected.entropy": entropy}
        with torch.no_grad():
            tensors["expected.logits"] = model.policy.scores(seen).numpy()
    else:
        far = 0.03 if parameters["target_kl"] else 0.3
        batch = {
            "old_log_prob": log_prob + rng.normal(0, far, rows),
            "old_values": values + rng.normal(0, 0.3, rows),
            "advantages": rng.normal(0.5, 2.0, rows),
            "returns": rng.normal(0.0, 1.0, rows),
        }
        batch = {key: value.astype(np.float32) for key, value in batch.items()}
        tensors |= batch
        orders, gradients, norms = train(model, {**batch, "observations": observations, "actions": tensors["actions"]}, tensors, expected)
        tensors |= weights(model, "expected")
        if kind == "minibatch":
            expected["gradient_norm"] = norms[0]
            tensors |= {f"gradient.{key}": value for key, value in gradients[0].items()}
        else:
            expected["n_updates"] = len(orders)
            while len(orders) < parameters["n_epochs"]:
                orders.append(rng.permutation(rows))
            tensors["order"] = np.stack(orders).astype(np.int64)
    hyperparameters = {"n_steps": rows, **parameters}
    save(name, {"kind": kind, "observation_space": {"box": INPUTS}, "action_space": case, "hyperparameters": hyperparameters, "expected": expected}, tensors)


def make_gae(name, steps, environments, gamma, gae_lambda):
    rng = np.random.default_rng([*name.encode()])
    buffer = RolloutBuffer(steps, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", gae_lambda, gamma, environments)
    buffer.reset()
    buffer.rewards[:] = rng.normal(size=(steps, environments))
    buffer.values[:] = rng.normal(size=(steps, environments))
    buffer.episode_starts[:] = rng.random((steps, environments)) < 0.15
    last_values = rng.normal(size=environments).astype(np.float32)
    dones = np.arange(environments) % 2 == 1
    tensors = {"rewards": buffer.rewards.copy(), "values": buffer.values.copy(), "episode_starts": buffer.episode_starts.copy(),
               "last_values": last_values, "dones": dones.astype(np.float32)}
    buffer.compute_returns_and_advantage(torch.from_numpy(last_values), dones)
    tensors |= {"expected.advantages": buffer.advantages, "expected.returns": buffer.returns}
    save(name, {"kind": "gae", "hyperparameters": {"gamma": gamma, "gae_lambda": gae_lambda, "n_steps": steps, "n_envs": environments}}, tensors)


class Replay(VecEnv):
    """Gives out what was written down."""

    def __init__(self, observations, rewards, dones):
        super().__init__(observations.shape[1], spaces.Box(-np.inf, np.inf, observations.shape[2:]), spaces.Discrete(2))
        self.observations, self.rewards, self.dones, self.now = observations, rewards, dones, 0

    def reset(self):
        return self.observations[0]

    def step_async(self, actions):
        self.now += 1

    def step_wait(self):
        infos = [{"terminal_observation": observation} for observation in self.observations[self.now]]
        return self.observations[self.now], self.rewards[self.now - 1], self.dones[self.now - 1], infos

    def close(self):
        pass

    def get_attr(self, name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, name, value, indices=None):
        raise NotImplementedError

    def env_method(self, name, *args, indices=None, **kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper, indices=None):
        return [False] * self.num_envs


def make_normalise(name, steps, environments, gamma):
    rng = np.random.default_rng([*name.encode()])
    scale = np.array([1.0, 50.0, 0.01])
    observations = (rng.normal(size=(steps + 1, environments, 3)) * scale + scale).astype(np.float32)
    observations[steps // 2, 0] *= 200.0  # beyond the clip at 10
    rewards = rng.normal(2.0, 5.0, (steps, environments)).astype(np.float32)
    rewards[steps // 3, 1] = 400.0
    dones = rng.random((steps, environments)) < 0.1
    envs = VecNormalize(Replay(observations, rewards, dones), gamma=gamma)
    seen, paid = [envs.reset()], []
    for _ in range(steps):
        observation, reward, _, _ = envs.step(np.zeros(environments))
        seen.append(observation)
        paid.append(reward)
    tensors = {"observations": observations, "rewards": rewards, "dones": dones.astype(np.float32),
               "expected.observations": np.stack(seen), "expected.rewards": np.stack(paid)}
    save(name, {"kind": "normalise", "hyperparameters": {"gamma": gamma, "n_steps": steps, "n_envs": environments}}, tensors)


def save(name, case, tensors):
    tensors = {key: np.ascontiguousarray(value if value.dtype == np.int64 else value.astype(np.float32)) for key, value in tensors.items()}
    path = FIXTURES / f"{name}.safetensors"
    save_file(tensors, path, {"case": json.dumps(case)})
    print(f"{path.stat().st_size:>8} {name} {case.get('expected', '')}")


def main():
    torch.set_num_threads(1)
    for name, (kind, rows, case, masked, changes) in CASES.items():
        make(name, kind, rows, case, masked, changes)
    make_gae("gae", 24, 3, 0.99, 0.95)
    make_gae("gae-short", 8, 2, 0.9, 0.5)
    make_normalise("normalise", 60, 4, 0.99)


if __name__ == "__main__":
    main()
