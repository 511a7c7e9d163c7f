"""An environment that no code of this repository names: two switches are to be set as two lamps are lit."""

import gymnasium
from gymnasium import spaces

STEPS = 16


class TwoSwitches(gymnasium.Env):
    observation_space = spaces.MultiDiscrete([2, 3])
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = STEPS
        return self._lit(), {}

    def step(self, action):
        reward = sum(a == b for a, b in zip(action, self.lit)) / 2
        self.left -= 1
        return self._lit(), reward, False, self.left == 0, {}

    def _lit(self):
        self.lit = self.np_random.integers(self.action_space.nvec)
        return self.lit


gymnasium.register("TwoSwitches-v0", entry_point=TwoSwitches)
