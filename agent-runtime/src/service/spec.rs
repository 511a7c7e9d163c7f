//! What an agent is told to be, once, at its creation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::object;
use super::space::{BadSpace, SpaceSpec};
use crate::distribution::Distribution;
use crate::env::Space;
use crate::fragments::{Limits, MAX_POLICY_LAG, MOST_TRANSITIONS, Overflow};
use crate::hyper::{HyperParameters, OutOfRange};
use crate::observation::inputs;

/// The longest name: that of a label in Kubernetes.
const MOST_NAME: usize = 63;
/// The longest name of a stream or a group.
const MOST_KEY: usize = 512;
/// The largest buffer, in transitions.
const MOST_BUFFER: usize = 10_000_000;

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with name, observation_space and action_space"
)]
pub struct AgentSpec {
    /// What it is called: letters, digits, `-`, `_` and `.`, beginning with a letter or a digit, at most 63.
    pub name: String,
    /// What it sees.
    #[serde(deserialize_with = "object::read")]
    pub observation_space: SpaceSpec,
    /// What it does.
    #[serde(deserialize_with = "object::read")]
    pub action_space: SpaceSpec,
    /// Whether masks say which actions are possible. Only of discrete actions.
    #[serde(default)]
    pub masked: bool,
    /// How it learns.
    #[serde(default, deserialize_with = "object::read")]
    pub hyperparameters: HyperParameters,
    /// How experience waits.
    #[serde(default, deserialize_with = "object::read")]
    pub buffer: BufferSpec,
    /// Where experience comes from besides HTTP, and where new policies are announced; not given: nowhere.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::read_option"
    )]
    pub streams: Option<StreamsSpec>,
    /// What all its chance comes from.
    #[serde(default)]
    pub seed: u64,
}

/// How experience waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object, of what is to be other than usual"
)]
pub struct BufferSpec {
    /// Transitions that wait at most.
    pub transitions: usize,
    /// How many versions older than the policy a fragment may be.
    pub max_policy_lag: u64,
    /// What to do when room becomes scarce.
    pub overflow: Overflow,
    /// Where it lies.
    pub storage: Where,
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// In memory.
    #[default]
    Memory,
    /// In files beside the agent's checkpoints, from where the kernel may take the memory back.
    Mapped,
}

impl Default for BufferSpec {
    fn default() -> Self {
        Self {
            transitions: MOST_TRANSITIONS,
            max_policy_lag: MAX_POLICY_LAG,
            overflow: Overflow::default(),
            storage: Where::default(),
        }
    }
}

/// The Redis Streams of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with experience")]
pub struct StreamsSpec {
    /// Where experience comes from, an entry a fragment.
    pub experience: String,
    /// The consumer group.
    #[serde(default = "default_group")]
    pub group: String,
    /// Where new policies are announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_reload: Option<String>,
}

fn default_group() -> String {
    "tars-agent".to_owned()
}

/// An agent that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// A name that is none.
    #[error(
        "a name has 1 to {MOST_NAME} letters, digits, '-', '_' and '.', and begins with a letter or a digit"
    )]
    Name,
    /// A space that is none.
    #[error("{what}: {error}")]
    Space {
        /// Which.
        what: &'static str,
        /// Why not.
        error: BadSpace,
    },
    /// Masks of real numbers.
    #[error("masked: only discrete actions can be masked, not those of a Box")]
    Masked,
    /// A hyper-parameter that makes no sense.
    #[error("hyperparameters: {0}")]
    HyperParameter(#[from] OutOfRange),
    /// A buffer without room for an update, or without end.
    #[error(
        "buffer.transitions = {found} is out of range: it must be between n_steps * n_envs = {least} and {MOST_BUFFER}"
    )]
    Buffer {
        /// What was asked for.
        found: usize,
        /// What an update takes.
        least: usize,
    },
    /// A stream without a name.
    #[error("streams.{0}: a name has 1 to {MOST_KEY} bytes")]
    Key(&'static str),
    /// Streams, but no Redis.
    #[error(
        "streams: this process knows no Redis: it was started without --redis (TARS_AGENT_REDIS)"
    )]
    NoRedis,
}

impl AgentSpec {
    /// Checks all of it.
    ///
    /// # Errors
    /// The first that is wrong, and what would be right.
    pub fn validate(&self) -> Result<Spaces, BadSpec> {
        if !is_name(&self.name) {
            return Err(BadSpec::Name);
        }
        let space =
            |what, spec: &SpaceSpec| spec.space().map_err(|error| BadSpec::Space { what, error });
        let spaces = Spaces {
            observation: space("observation_space", &self.observation_space)?,
            action: space("action_space", &self.action_space)?,
        };
        if self.masked && matches!(spaces.action, Space::Box { .. }) {
            return Err(BadSpec::Masked);
        }
        self.hyperparameters.validate()?;
        let least = self.hyperparameters.n_steps * self.hyperparameters.n_envs;
        let found = self.buffer.transitions;
        if !(least..=MOST_BUFFER).contains(&found) {
            return Err(BadSpec::Buffer { found, least });
        }
        if let Some(streams) = &self.streams {
            let keys = [
                ("experience", Some(&streams.experience)),
                ("group", Some(&streams.group)),
                ("hot_reload", streams.hot_reload.as_ref()),
            ];
            for (what, key) in keys {
                if key.is_some_and(|key| key.is_empty() || key.len() > MOST_KEY) {
                    return Err(BadSpec::Key(what));
                }
            }
        }
        Ok(spaces)
    }

    /// The first field in which `other` differs, as JSON names it.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> String {
        let path = differs(&json!(self), &json!(other));
        path.unwrap_or_default().trim_start_matches('.').to_owned()
    }

    /// What bounds its buffer.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            transitions: self.buffer.transitions,
            max_policy_lag: self.buffer.max_policy_lag,
            overflow: self.buffer.overflow,
        }
    }
}

fn differs(one: &Value, other: &Value) -> Option<String> {
    let (Some(ones), Some(others)) = (one.as_object(), other.as_object()) else {
        return (one != other).then(String::new);
    };
    let names = ones.keys().chain(others.keys());
    names.into_iter().find_map(|name| {
        let part = |of: &Map<String, Value>| of.get(name).cloned().unwrap_or_default();
        Some(format!(".{name}{}", differs(&part(ones), &part(others))?))
    })
}

/// Whether an agent may be called so: it becomes a directory, a label, and part of a path.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= MOST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The spaces of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Spaces {
    /// What it sees.
    pub observation: Space,
    /// What it does.
    pub action: Space,
}

impl Spaces {
    /// How many numbers its network gets.
    #[must_use]
    pub fn inputs(&self) -> usize {
        inputs(&self.observation)
    }

    /// What its network's head means.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        Distribution::over(&self.action)
    }
}
