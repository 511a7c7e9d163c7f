"""A policy of tars-agent in PyTorch: python docs/examples/policy_in_pytorch.py runs/CartPole-v1/checkpoint-…"""

import json
import sys

import gymnasium
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

if len(sys.argv) != 2:
    sys.exit(__doc__)
tensors, manifest = load_file(f"{sys.argv[1]}/policy.safetensors"), json.load(open(f"{sys.argv[1]}/manifest.json"))
activation = {"tanh": torch.tanh, "relu": torch.relu}[manifest["hyperparameters"]["activation"]]


def head(observation):
    """Logits, or means, of the policy: no framework but PyTorch."""
    x = torch.as_tensor(observation, dtype=torch.float32)
    if "observation.mean" in tensors:
        x = ((x - tensors["observation.mean"]) / (tensors["observation.variance"] + 1e-8).sqrt()).clamp(-10, 10).float()
    for net in ("shared_net", "policy_net"):
        for layer in sorted(name for name in tensors if name.startswith(f"mlp_extractor.{net}.") and name.endswith(".weight")):
            x = activation(linear(x, tensors[layer], tensors[layer.replace("weight", "bias")]))
    return linear(x, tensors["action_net.weight"], tensors["action_net.bias"])


env = gymnasium.make(manifest["environment"])
discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
returns = []
for episode in range(20):
    observation, _ = env.reset(seed=episode)
    returns.append(0.0)
    done = False
    while not done:
        out = head(observation)
        action = int(out.argmax()) if discrete else out.clamp(torch.tensor(env.action_space.low), torch.tensor(env.action_space.high)).numpy()
        observation, reward, terminated, truncated, _ = env.step(action)
        returns[-1] += float(reward)
        done = terminated or truncated
print(f"{manifest['environment']}: mean return {sum(returns) / len(returns):.1f} over {len(returns)} episodes")
