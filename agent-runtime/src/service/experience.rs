//! Experience as JSON brings it, and as the journal keeps it.
//!
//! A fragment is consecutive transitions of one environment under one version of the policy. Everything is checked here, against the agent's spaces:
//! what comes out can be learnt from.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::numbers::{Numbers, finite};
use super::object::Object;
use super::space::{check, shift};
use super::spec::{AgentSpec, Spaces};
use crate::distribution::Distribution;
use crate::env::Space;
use crate::fragments::{End, Fragment};
use crate::observation::{encode, inputs};

/// The longest name of an environment or a producer, in bytes.
pub const MOST_NAME: usize = 256;
/// The logarithm of a probability is at most 0, but for rounding.
const MOST_LOG_PROB: f32 = 1e-3;
/// Fragments of one request.
pub const MOST_FRAGMENTS: usize = 1_024;

/// A request: fragments of one producer, numbered without a gap.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with producer, epoch, seq and fragments"
)]
pub struct Batch {
    /// Who sends it: a process, say.
    pub producer: String,
    /// Its life: a producer that begins anew takes a higher number, a time say, and counts from zero again.
    pub epoch: u64,
    /// The number of the first fragment among all that this producer has sent in this epoch.
    pub seq: u64,
    /// The fragments.
    pub fragments: Vec<Object<FragmentSpec>>,
}

/// A fragment in JSON.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a fragment: an object with env_id, seq, policy_version and transitions"
)]
pub struct FragmentSpec {
    /// The environment that it was played in.
    env_id: EnvId,
    /// The number of its first transition in that environment: fragments that follow each other are put together again.
    seq: u64,
    /// The version of the policy that acted.
    policy_version: u64,
    transitions: Columns,
    /// What was seen after the last transition; needed if that one did not end its episode.
    #[serde(default)]
    next_observation: Option<Numbers>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected env_id as a string, or as a whole number from 0 on"
)]
enum EnvId {
    Number(u64),
    Name(String),
}

/// A transition in JSON.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a transition: an object with observation, action, log_prob and reward"
)]
struct Transition {
    observation: Numbers,
    action: Numbers,
    #[serde(deserialize_with = "finite")]
    log_prob: f32,
    #[serde(default)]
    mask: Option<Numbers>,
    #[serde(deserialize_with = "finite")]
    reward: f32,
    #[serde(default)]
    terminated: bool,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    final_observation: Option<Numbers>,
}

impl Transition {
    /// How many numbers there are of what each transition has.
    fn widths(&self) -> [(&'static str, usize); 3] {
        let mask = self.mask.as_ref().map_or(0, |mask| mask.0.len());
        [
            ("observation", self.observation.0.len()),
            ("action", self.action.0.len()),
            ("mask", mask),
        ]
    }
}

/// Transitions, a column of each of their parts.
#[derive(Debug, Default)]
struct Columns {
    observations: Vec<f32>,
    actions: Vec<f32>,
    masks: Vec<f32>,
    log_probs: Vec<f32>,
    rewards: Vec<f32>,
    ends: Vec<End>,
    /// The final observations of those that were truncated.
    finals: Vec<f32>,
    /// The first that was truncated and brings none.
    unclosed: Option<usize>,
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Rows)
    }
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of transitions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Columns, A::Error> {
        let mut columns = Columns::default();
        let mut first = None;
        while let Some(row) = rows.next_element()? {
            let Object::<Transition>(row) = row;
            let at = columns.rewards.len();
            let end = End::of(row.terminated, row.truncated);
            // Of different lengths, they would be taken for each other's numbers.
            let widths = row.widths();
            for ((what, width), (_, first)) in widths.into_iter().zip(*first.get_or_insert(widths))
            {
                if width != first {
                    return Err(A::Error::custom(format!(
                        "{what}: expected as many numbers in each transition, found {first} in the first and {width} in transitions[{at}]"
                    )));
                }
            }
            if let Some(seen) = &row.final_observation
                && seen.0.len() != row.observation.0.len()
            {
                return Err(A::Error::custom(format!(
                    "final_observation of transitions[{at}]: expected as many numbers as observation has, {}, found {}",
                    row.observation.0.len(),
                    seen.0.len()
                )));
            }
            columns.observations.extend(row.observation.0);
            columns.actions.extend(row.action.0);
            columns.masks.extend(row.mask.unwrap_or_default().0);
            columns.log_probs.push(row.log_prob);
            columns.rewards.push(row.reward);
            columns.ends.push(end);
            if end == End::Truncated {
                match row.final_observation {
                    Some(seen) => columns.finals.extend(seen.0),
                    None => columns.unclosed = columns.unclosed.or(Some(at)),
                }
            }
        }
        Ok(columns)
    }
}

/// A fragment that was checked. Observations are as they were sent, not yet the network's inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experience {
    /// The environment's name, hashed.
    pub environment: u64,
    /// The number of its first transition.
    pub seq: u64,
    /// The version of the policy that acted.
    pub version: u64,
    observations: Vec<f32>,
    actions: Vec<f32>,
    masks: Vec<bool>,
    log_probs: Vec<f32>,
    rewards: Vec<f32>,
    ends: Vec<End>,
    closings: Vec<f32>,
}

impl FragmentSpec {
    /// Checks the fragment against what the agent sees and does. `at` says which one it is.
    ///
    /// # Errors
    /// A sentence that says what was expected, and where.
    pub fn check(self, at: &str, spec: &AgentSpec, spaces: &Spaces) -> Result<Experience, String> {
        let Self {
            env_id,
            seq,
            policy_version,
            transitions: mut columns,
            next_observation,
        } = self;
        let rows = columns.rewards.len();
        let wrong = |what: String| format!("{at}.{what}");
        if rows == 0 {
            return Err(wrong("transitions: expected at least one".to_owned()));
        }
        if seq.checked_add(rows as u64).is_none() {
            return Err(wrong(format!(
                "seq: expected at most {} for {rows} transitions",
                u64::MAX - rows as u64
            )));
        }
        let environment = match env_id {
            EnvId::Number(number) => hash(&number.to_le_bytes()),
            EnvId::Name(name) if name.len() <= MOST_NAME => hash(name.as_bytes()),
            EnvId::Name(_) => {
                return Err(wrong(format!("env_id: expected at most {MOST_NAME} bytes")));
            }
        };
        let mut observations = Numbers(std::mem::take(&mut columns.observations));
        shift(&spec.observation_space, &mut observations);
        let (seen, start) = (&spaces.observation, spec.observation_space.start());
        let part = |name: &'static str| move |row: usize| format!("transitions[{row}].{name}");
        check(seen, start, part("observation"), rows, &observations.0).map_err(wrong)?;
        check(&spaces.action, 0, part("action"), rows, &columns.actions).map_err(wrong)?;
        let distribution = spaces.distribution();
        let masks = masks(&distribution, spec.masked, rows, &columns).map_err(wrong)?;
        let high = columns.log_probs.iter().position(|x| *x > MOST_LOG_PROB);
        if let (Some(row), Distribution::Categorical(_)) = (high, &distribution) {
            return Err(wrong(format!(
                "transitions[{row}].log_prob: expected at most 0, as the logarithm of a probability is, found {}",
                columns.log_probs[row]
            )));
        }
        if let Some(row) = columns.unclosed {
            return Err(wrong(format!(
                "transitions[{row}].final_observation: expected one, as the transition was truncated"
            )));
        }
        let mut closings = Numbers(columns.finals);
        shift(&spec.observation_space, &mut closings);
        let ends = columns.ends.iter().enumerate();
        let truncated = ends.filter(|(_, end)| **end == End::Truncated);
        let truncated: Vec<usize> = truncated.map(|(row, _)| row).collect();
        let closing =
            |at: usize| part("final_observation")(truncated.get(at).copied().unwrap_or(0));
        check(seen, start, closing, truncated.len(), &closings.0).map_err(wrong)?;
        if columns.ends.last() == Some(&End::GoesOn) {
            let mut next = next_observation.ok_or_else(|| {
                wrong("next_observation: expected one, as the last transition did not end its episode".to_owned())
            })?;
            shift(&spec.observation_space, &mut next);
            let name = |_| "next_observation".to_owned();
            check(seen, start, name, 1, &next.0).map_err(wrong)?;
            closings.0.extend(next.0);
        }
        Ok(Experience {
            environment,
            seq,
            version: policy_version,
            observations: observations.0,
            actions: columns.actions,
            masks,
            log_probs: columns.log_probs,
            rewards: columns.rewards,
            ends: columns.ends,
            closings: closings.0,
        })
    }
}

fn masks(
    distribution: &Distribution,
    masked: bool,
    rows: usize,
    columns: &Columns,
) -> Result<Vec<bool>, String> {
    let Distribution::Categorical(sizes) = distribution else {
        return if columns.masks.is_empty() {
            Ok(Vec::new())
        } else {
            Err("transitions[0].mask: expected none".to_owned())
        };
    };
    if !masked {
        return if columns.masks.is_empty() {
            Ok(Vec::new())
        } else {
            Err("transitions[0].mask: expected none, as this agent is not masked".to_owned())
        };
    }
    let name = |row| format!("transitions[{row}].mask");
    let masks = mask_rows(sizes, name, rows, &columns.masks)?;
    // An action that was not possible has no probability to learn from.
    let outputs: usize = sizes.iter().sum();
    let actions = columns.actions.chunks_exact(sizes.len());
    for (row, (mask, action)) in masks.chunks_exact(outputs).zip(actions).enumerate() {
        let mut rest = mask;
        for (size, action) in sizes.iter().zip(action) {
            let (choice, after) = rest.split_at(*size);
            if !choice
                .get(*action as usize)
                .is_some_and(|&possible| possible)
            {
                return Err(format!(
                    "transitions[{row}].action: expected one that its mask allows, found {action}"
                ));
            }
            rest = after;
        }
    }
    Ok(masks)
}

/// Masks out of numbers: a row each, of which one at least of each choice is possible. `name` says what a row is called.
///
/// # Errors
/// A sentence that says what was expected.
pub fn mask_rows(
    sizes: &[usize],
    name: impl Fn(usize) -> String,
    rows: usize,
    numbers: &[f32],
) -> Result<Vec<bool>, String> {
    let outputs: usize = sizes.iter().sum();
    if numbers.len() != rows * outputs {
        return Err(format!(
            "{}: expected {outputs} of true and false for each of {rows}, found {} in all",
            name(0),
            numbers.len()
        ));
    }
    if let Some(at) = numbers.iter().position(|&x| x != 0.0 && x != 1.0) {
        return Err(format!(
            "{}: expected true and false, or 1 and 0, found {}",
            name(at / outputs),
            numbers[at]
        ));
    }
    let masks: Vec<bool> = numbers.iter().map(|&x| x == 1.0).collect();
    for (row, mask) in masks.chunks_exact(outputs).enumerate() {
        let mut rest = mask;
        for size in sizes {
            let (choice, after) = rest.split_at(*size);
            if !choice.contains(&true) {
                return Err(format!(
                    "{}: expected at least one possible action of each choice",
                    name(row)
                ));
            }
            rest = after;
        }
    }
    Ok(masks)
}

/// FNV-1a: the same in every process, as the journal needs it.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Room to make a network's inputs in.
#[derive(Debug, Default)]
pub struct Encoded {
    observations: Vec<f32>,
    closings: Vec<f32>,
}

impl Experience {
    /// How many transitions it has.
    #[must_use]
    pub fn transitions(&self) -> usize {
        self.rewards.len()
    }

    /// Rewards and ends, one a transition.
    pub fn outcomes(&self) -> impl Iterator<Item = (f32, End)> {
        self.rewards.iter().copied().zip(self.ends.iter().copied())
    }

    /// What the buffer takes. The network's inputs are made in `room`.
    pub fn fragment<'a>(&'a self, tag: u64, space: &Space, room: &'a mut Encoded) -> Fragment<'a> {
        let (observations, closings) = match space {
            // As they are.
            Space::Box { .. } | Space::MultiBinary(_) => (&*self.observations, &*self.closings),
            Space::Discrete(_) | Space::MultiDiscrete(_) => {
                encode_rows(space, &self.observations, &mut room.observations);
                encode_rows(space, &self.closings, &mut room.closings);
                (&*room.observations, &*room.closings)
            }
        };
        Fragment {
            tag,
            environment: self.environment,
            seq: self.seq,
            version: self.version,
            observations,
            actions: &self.actions,
            masks: &self.masks,
            log_probs: &self.log_probs,
            rewards: &self.rewards,
            ends: &self.ends,
            closings,
        }
    }

    /// Appends the fragment as the journal keeps it.
    pub fn write(&self, to: &mut Vec<u8>) {
        for number in [self.environment, self.seq, self.version] {
            to.extend(number.to_le_bytes());
        }
        let lengths = [
            self.observations.len(),
            self.actions.len(),
            self.masks.len(),
            self.rewards.len(),
            self.closings.len(),
        ];
        for length in lengths {
            to.extend((length as u32).to_le_bytes());
        }
        for numbers in [
            &self.observations,
            &self.actions,
            &self.log_probs,
            &self.rewards,
            &self.closings,
        ] {
            to.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        }
        to.extend(self.masks.iter().map(|&possible| u8::from(possible)));
        to.extend(self.ends.iter().map(|end| *end as u8));
    }

    /// Reads what [`Experience::write`] wrote, all of `from`; none if it is something else.
    #[must_use]
    pub fn read(mut from: &[u8]) -> Option<Self> {
        let from = &mut from;
        let (environment, seq, version) = (u64_of(from)?, u64_of(from)?, u64_of(from)?);
        let mut length = || {
            let (bytes, rest) = from.split_first_chunk()?;
            *from = rest;
            Some(u32::from_le_bytes(*bytes) as usize)
        };
        let (observations, actions, masks, rows, closings) =
            (length()?, length()?, length()?, length()?, length()?);
        let mut numbers = |count: usize| {
            let (bytes, rest) = from.split_at_checked(count.checked_mul(4)?)?;
            *from = rest;
            let (chunks, _) = bytes.as_chunks();
            Some(
                chunks
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
            )
        };
        let (observations, actions, log_probs, rewards, closings) = (
            numbers(observations)?,
            numbers(actions)?,
            numbers(rows)?,
            numbers(rows)?,
            numbers(closings)?,
        );
        let (masks, ends) = from.split_at_checked(masks)?;
        let end = |byte: &u8| match byte {
            0 => Some(End::GoesOn),
            1 => Some(End::Terminated),
            2 => Some(End::Truncated),
            _ => None,
        };
        let ends: Vec<End> = ends.iter().map(end).collect::<Option<_>>()?;
        (ends.len() == rows).then(|| Self {
            environment,
            seq,
            version,
            observations,
            actions,
            masks: masks.iter().map(|&byte| byte == 1).collect(),
            log_probs,
            rewards,
            ends,
            closings,
        })
    }
}

fn encode_rows(space: &Space, values: &[f32], to: &mut Vec<f32>) {
    let (width, inputs) = (space.width(), inputs(space));
    to.clear();
    to.resize(values.len() / width * inputs, 0.0);
    for (value, row) in values.chunks_exact(width).zip(to.chunks_exact_mut(inputs)) {
        encode(space, value, row);
    }
}

/// Takes a number off the front.
pub(super) fn u64_of(from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
