//! Generalised advantage estimation: Schulman and others, "High-Dimensional Continuous Control Using Generalized Advantage
//! Estimation", 2016, equation 16; over a rollout of limited length as in "Proximal Policy Optimization Algorithms", 2017,
//! equations 11 and 12.

/// A rollout of `environments` side by side, step after step: number `step * environments + environment` of each slice.
#[derive(Clone, Copy, Debug)]
pub struct Trajectory<'a> {
    /// What each step earned. Where an episode was cut off, the discounted value of what would have come is already in it.
    pub rewards: &'a [f32],
    /// What the value network said before each step.
    pub values: &'a [f32],
    /// An episode begins with this step.
    pub starts: &'a [bool],
    /// What the value network says after the last step, an environment each.
    pub last_values: &'a [f32],
    /// The last step ended an episode, an environment each.
    pub last_ends: &'a [bool],
}

/// Advantages and returns, from the last step to the first:
/// δₜ = rₜ + γ·V(sₜ₊₁) − V(sₜ), Âₜ = δₜ + γλ·Âₜ₊₁, both without what lies beyond an episode's end; the return is Âₜ + V(sₜ).
pub fn advantages(
    trajectory: Trajectory<'_>,
    gamma: f32,
    lambda: f32,
    advantages: &mut [f32],
    returns: &mut [f32],
) {
    let Trajectory {
        rewards,
        values,
        starts,
        last_values,
        last_ends,
    } = trajectory;
    let environments = last_values.len();
    for environment in 0..environments {
        let mut next_value = last_values[environment];
        let mut next_begins = last_ends[environment];
        let mut advantage = 0.0;
        let steps = (environment..rewards.len()).step_by(environments);
        for at in steps.rev() {
            let goes_on = if next_begins { 0.0 } else { 1.0 };
            let delta = rewards[at] + gamma * next_value * goes_on - values[at];
            advantage = delta + gamma * lambda * goes_on * advantage;
            advantages[at] = advantage;
            returns[at] = advantage + values[at];
            next_value = values[at];
            next_begins = starts[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// γ = ½, λ = ½; an episode ends after the second of three steps of the first environment, none in the second.
    #[test]
    fn by_hand() {
        let trajectory = Trajectory {
            rewards: &[1.0, 1.0, 2.0, 0.0, 4.0, 2.0],
            values: &[2.0, 0.0, 4.0, 4.0, 8.0, 8.0],
            starts: &[true, false, false, false, true, false],
            last_values: &[6.0, 10.0],
            last_ends: &[false, true],
        };
        let (mut a, mut r) = ([0.0; 6], [0.0; 6]);
        advantages(trajectory, 0.5, 0.5, &mut a, &mut r);
        // First: δ = 1+2-2 = 1, 2+0-4 = -2, 4+3-8 = -1. Second: 1+2-0 = 3, 0+4-4 = 0, 2+0-8 = -6.
        assert_eq!(
            a,
            [
                1.0 - 0.5,
                3.0 + 0.25 * (0.25 * -6.0),
                -2.0,
                0.25 * -6.0,
                -1.0,
                -6.0
            ]
        );
        assert_eq!(r, [2.5, 2.625, 2.0, 2.5, 7.0, 2.0]);
    }
}
