//! Checkpoints: training as files, from which it continues bit for bit.
//!
//! A checkpoint is a directory of three files. `policy.safetensors` holds what acts: the network's parameters under the names that
//! Stable-Baselines3 gives them, and mean and variance of observations where these are normalised. `training.safetensors` holds what
//! else training depends on: optimiser, generators, environments, scale of rewards. `manifest.json` says what it is and what the
//! other two, and itself, must add up to. [`Store`] keeps them.

mod seal;
mod session;
mod store;
mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io, slice};

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::hyper::HyperParameters;
use crate::net::Net;
use crate::normalise::RunningMoments;
use crate::ppo::{Learner, Policy, architecture};
use crate::service::book::Durable;
use crate::simd::Simd;
use crate::tensors::{BadTensors, Read};
use crate::train::{CannotTrain, Progress, Trainer};

pub use store::{BEST, KEPT, Store};

/// The version of this layout. Others are refused.
pub const FORMAT: u32 = 1;

/// Networks up to so many numbers are held against a file whatever its length, as its tensors' names and shapes say more of what is wrong.
const UNASKED: usize = 1 << 20;

const MANIFEST: &str = "manifest.json";
/// What acts, in a checkpoint.
pub const POLICY: &str = "policy.safetensors";
const TRAINING: &str = "training.safetensors";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Which version of this program wrote it.
    pub version: String,
    /// The name of the environment, or of the service's agent.
    pub environment: String,
    /// How many numbers the network gets.
    pub inputs: usize,
    /// What its head means.
    pub actions: ActionKind,
    /// What all of training's chance comes from.
    pub seed: u64,
    /// Environment steps.
    pub steps: u64,
    /// Updates.
    pub updates: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Updates that were undone.
    pub undone: u64,
    /// How many of them were the latest.
    pub undone_in_a_row: u64,
    /// Steps of the optimiser.
    pub adam_steps: u64,
    /// Mean return of the latest episodes.
    pub mean_return: Option<f64>,
    /// Over how many episodes.
    pub window: usize,
    /// The vector instructions it was computed with: with others, the same seed gives other last bits.
    pub instructions: String,
    /// What training was told.
    pub hyperparameters: HyperParameters,
    /// What the service must know to go on; not given: a trainer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Durable>,
    /// The other files.
    pub files: BTreeMap<String, File>,
}

impl Manifest {
    /// Reads the manifest of a checkpoint's directory.
    ///
    /// # Errors
    /// If there is none, or it is of another layout.
    pub fn read(path: &Path) -> Result<Self, Reason> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let manifest = read(path, MANIFEST)?;
        let Version { format } = serde_json::from_slice(&manifest)?;
        if format != FORMAT {
            return Err(Reason::Format(format));
        }
        if !seal::is_intact(&manifest) {
            return Err(Reason::Checksum(MANIFEST));
        }
        Ok(serde_json::from_slice(&manifest)?)
    }
}

fn read(path: &Path, file: &'static str) -> Result<Vec<u8>, Reason> {
    fs::read(path.join(file)).map_err(|error| Reason::File { file, error })
}

/// A checkpoint that is to be written.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number: higher than that of any before.
    number: u64,
    manifest: Manifest,
    policy: Vec<u8>,
    training: Vec<u8>,
}

/// What a policy's head means, in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Choices among so many.
    Categorical(Vec<usize>),
    /// So many numbers.
    Gaussian(usize),
}

/// What a file must add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its length.
    pub bytes: usize,
    /// CRC-32 (ISO-HDLC), in hexadecimal digits.
    pub crc32: String,
}

impl File {
    fn of(data: &[u8]) -> Self {
        Self {
            bytes: data.len(),
            crc32: format!("{:08x}", crc32fast::hash(data)),
        }
    }
}

/// A checkpoint that is none.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint {} cannot be used: {reason}", path.display())]
pub struct BadCheckpoint {
    /// Where it is.
    pub path: PathBuf,
    /// Why not.
    pub reason: Reason,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    File {
        /// Its name.
        file: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The manifest says something else, or nothing.
    #[error("{MANIFEST} is none: {0}")]
    Manifest(#[from] serde_json::Error),
    /// Another layout.
    #[error("its format is {0}, and this program reads {FORMAT}")]
    Format(u32),
    /// A file is not what was written.
    #[error("{0} is not the file that was written: its checksum or length differs")]
    Checksum(&'static str),
    /// A file does not fit the manifest.
    #[error("{file}: {error}")]
    Tensors {
        /// Its name.
        file: &'static str,
        /// Why.
        error: BadTensors,
    },
    /// Numbers that fit together in no training.
    #[error("{TRAINING}: {0} does not fit the environment {1}")]
    State(&'static str, String),
    /// What it says makes no sense here.
    #[error("{0}")]
    Train(#[from] CannotTrain),
}

/// A checkpoint in memory, intact.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    policy: Vec<u8>,
    training: Vec<u8>,
}

impl Checkpoint {
    /// Reads a checkpoint's directory, and checks that it is what was written.
    ///
    /// # Errors
    /// If it is not.
    pub fn read(path: &Path) -> Result<Self, BadCheckpoint> {
        Self::try_read(path).map_err(|reason| bad(path, reason))
    }

    fn try_read(path: &Path) -> Result<Self, Reason> {
        let read = |file| read(path, file);
        let manifest = Manifest::read(path)?;
        let (policy, training) = (read(POLICY)?, read(TRAINING)?);
        for (file, data) in [(POLICY, &policy), (TRAINING, &training)] {
            if manifest.files.get(file) != Some(&File::of(data)) {
                return Err(Reason::Checksum(file));
            }
        }
        manifest
            .hyperparameters
            .validate()
            .map_err(CannotTrain::from)?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            policy,
            training,
        })
    }

    /// Where it was read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What acts.
    ///
    /// # Errors
    /// If the parameters are not those of the network that the manifest names.
    pub fn policy(&self) -> Result<LoadedPolicy, BadCheckpoint> {
        self.try_policy().map_err(|error| {
            bad(
                &self.path,
                Reason::Tensors {
                    file: POLICY,
                    error,
                },
            )
        })
    }

    fn try_policy(&self) -> Result<LoadedPolicy, BadTensors> {
        let (distribution, sizes) = match &self.manifest.actions {
            ActionKind::Categorical(sizes) => {
                (Distribution::Categorical(sizes.clone()), &sizes[..])
            }
            ActionKind::Gaussian(width) => (Distribution::Gaussian(*width), slice::from_ref(width)),
        };
        let hyper = &self.manifest.hyperparameters;
        let read = Read::new(&self.policy)?;
        // What a manifest claims is no reason to allocate: the file has at least one number for each input and output, and no network is padded to more
        // than sixteen times its size.
        let most = self.policy.len().max(UNASKED);
        let claimed = sizes
            .iter()
            .try_fold(self.manifest.inputs, |sum, &size| sum.checked_add(size));
        if claimed.is_none_or(|claimed| claimed > most) {
            return Err(BadTensors::Small);
        }
        let net = Net::new(architecture(self.manifest.inputs, &distribution, hyper));
        if net.parameters() / 4 > most {
            return Err(BadTensors::Small);
        }
        let mut parameters = vec![0.0; net.parameters()];
        read.network("", &net, &mut parameters)?;
        read.only(&net, |name| {
            hyper.normalize_observation && name.starts_with(training::MOMENTS)
        })?;
        let normaliser = hyper
            .normalize_observation
            .then(|| training::moments(&read, training::MOMENTS, self.manifest.inputs));
        Ok(LoadedPolicy {
            net,
            distribution,
            parameters,
            normaliser: normaliser.transpose()?,
        })
    }
}

/// A policy that was read.
#[derive(Debug)]
pub struct LoadedPolicy {
    net: Net,
    distribution: Distribution,
    parameters: Vec<f32>,
    normaliser: Option<RunningMoments>,
}

impl LoadedPolicy {
    /// What acts.
    #[must_use]
    pub fn policy(&self) -> Policy<'_> {
        Policy {
            simd: Simd::detect(),
            net: &self.net,
            distribution: &self.distribution,
            parameters: &self.parameters,
        }
    }

    /// What it sees the world through.
    #[must_use]
    pub fn normaliser(&self) -> Option<&RunningMoments> {
        self.normaliser.as_ref()
    }
}

impl Snapshot {
    /// Of a trainer.
    fn of(trainer: &Trainer) -> Result<Self, BadTensors> {
        let (policy, training) = (training::policy(trainer)?, training::training(trainer)?);
        let mut manifest = manifest(trainer.learner(), trainer.progress(), &policy, &training);
        manifest.environment = trainer.environment().to_owned();
        manifest.seed = trainer.seed();
        Ok(Self {
            number: trainer.progress().steps,
            manifest,
            policy,
            training,
        })
    }

    /// What acts, as safetensors.
    #[must_use]
    pub fn policy(&self) -> &[u8] {
        &self.policy
    }
}

/// What a checkpoint says of itself, but for whose it is.
fn manifest(learner: &Learner, progress: &Progress, policy: &[u8], training: &[u8]) -> Manifest {
    let policy_of = learner.policy();
    Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: String::new(),
        inputs: learner.net().architecture().inputs,
        actions: match policy_of.distribution {
            Distribution::Categorical(sizes) => ActionKind::Categorical(sizes.clone()),
            Distribution::Gaussian(width) => ActionKind::Gaussian(*width),
        },
        seed: 0,
        steps: progress.steps,
        updates: progress.updates,
        episodes: progress.episodes,
        undone: progress.undone,
        undone_in_a_row: progress.undone_in_a_row,
        adam_steps: learner.adam().steps,
        mean_return: progress.mean_return(),
        window: progress.returns.len(),
        instructions: policy_of.simd.name().to_owned(),
        hyperparameters: learner.hyper().clone(),
        service: None,
        files: BTreeMap::from([
            (POLICY.to_owned(), File::of(policy)),
            (TRAINING.to_owned(), File::of(training)),
        ]),
    }
}

fn bad(path: &Path, reason: Reason) -> BadCheckpoint {
    BadCheckpoint {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
