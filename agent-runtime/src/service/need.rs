//! What an agent takes at least, known before anything is allocated: who asks for too much is told all of it, and what would be less.

use super::spec::{AgentSpec, Spaces, Where};
use crate::memory::MemoryBudget;
use crate::net::Net;
use crate::ppo::architecture;

/// The learner's parameters and those of the version that acts and of the next, their gradient, Adam's two moments, what an update is undone by, and a
/// checkpoint that is being written.
const COPIES: usize = 15;
const NUMBER: usize = size_of::<f32>();

/// An agent that is more than what is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory budget of {limit} bytes has {free} left, and this agent takes {} at least: {network} for a network of {parameters} parameters, {buffer} for buffer.transitions, {rollout} for n_steps * n_envs; give the process more (--memory), or the agent less (smaller layers, a smaller buffer, \"storage\": \"mapped\", fewer steps)",
    network.saturating_add(*buffer).saturating_add(*rollout)
)]
pub struct TooMuch {
    limit: usize,
    free: usize,
    parameters: usize,
    network: usize,
    buffer: usize,
    rollout: usize,
}

/// Whether there is as much as it takes at least. That it fits is known only when it is there.
///
/// # Errors
/// If there is not.
pub fn check(spec: &AgentSpec, spaces: &Spaces, budget: &MemoryBudget) -> Result<(), TooMuch> {
    let (hyper, distribution) = (&spec.hyperparameters, spaces.distribution());
    let inputs = spaces.inputs();
    let parameters = Net::new(architecture(inputs, &distribution, hyper)).parameters();
    let mask = if spec.masked {
        distribution.outputs()
    } else {
        0
    };
    let numbers = |more: usize| (inputs + distribution.action_width() + more) * NUMBER;
    let of = |rows: usize, row: usize| rows.saturating_mul(row);
    let limit = budget.limit();
    let need = TooMuch {
        limit,
        free: limit.saturating_sub(budget.reserved_by_all()),
        parameters,
        network: of(parameters, COPIES * NUMBER),
        // Besides what was seen and done: its probability, its reward; what was seen last, of every fourth.
        buffer: match spec.buffer.storage {
            Where::Memory => of(spec.buffer.transitions, numbers(2) + inputs + mask),
            Where::Mapped => of(spec.buffer.transitions, mask),
        },
        // Probability, value, reward, advantage, return.
        rollout: of(hyper.n_steps * hyper.n_envs, numbers(5) + mask),
    };
    let sum = need.network.saturating_add(need.buffer);
    if sum.saturating_add(need.rollout) > need.free {
        return Err(need);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::service::agent::Agent;

    /// What is said is never more than what is taken, and most of it.
    #[test]
    fn what_is_said_is_nearly_what_is_taken() {
        for (layers, transitions, masked) in [
            (json!([64, 64]), 100_000, false),
            (json!([512, 512]), 4_096, true),
            (json!([8]), 1_000_000, true),
        ] {
            let spec: AgentSpec = serde_json::from_value(json!({
                "name": "a", "masked": masked,
                "observation_space": {"type": "Box", "shape": [8]}, "action_space": {"type": "Discrete", "n": 5},
                "buffer": {"transitions": transitions}, "hyperparameters": {"policy": layers}}))
            .expect("a specification");
            let spaces = spec.validate().expect("it makes sense");
            let none = check(&spec, &spaces, &MemoryBudget::new(0)).expect_err("there is nothing");
            let said = none.network + none.buffer + none.rollout;

            let budget = MemoryBudget::new(1 << 30);
            let directory = tempfile::tempdir().expect("a directory");
            let agent = Agent::create(spec, directory.path(), budget.account(), 1, None);
            let taken = budget.reserved_by_all();
            drop(agent.expect("there is room"));
            assert!(said <= taken && said * 10 > taken * 7, "{said} of {taken}");
        }
    }
}
