//! A service's session as tensors, and back.

use super::training::{REWARDS, moments, of_training, policy_of, write_learner, write_moments};
use super::{BadCheckpoint, Checkpoint, Reason, Snapshot, bad, manifest};
use crate::fragments::{MOST_ENVIRONMENTS, Rewards, Running};
use crate::service::book::Durable;
use crate::service::episodes::{MOST_ENVIRONMENTS as MOST_EPISODES, UnderWay};
use crate::service::learning::Session;
use crate::tensors::{BadTensors, Read, Tensors};
use crate::train::Progress;

/// The returns that run on, a tensor of each of their numbers.
const RUNNING: &str = "reward.running.";
/// Episodes under way, likewise.
const EPISODES: &str = "episode.";

fn write_rewards(tensors: &mut Tensors, rewards: &Rewards) {
    let (moments, running) = rewards.save();
    write_moments(tensors, REWARDS, moments);
    let shape = [running.len()];
    let mut numbers = |part: &str, of: fn(&Running) -> u64| {
        tensors.u64(format!("{RUNNING}{part}"), &shape, running.iter().map(of));
    };
    numbers("environment", |one| one.environment);
    numbers("next_seq", |one| one.next_seq);
    numbers("update", |one| one.update);
    tensors.f64(
        format!("{RUNNING}sum"),
        &shape,
        running.iter().map(|one| one.sum),
    );
}

/// `false` if it does not fit together.
fn read_rewards(read: &Read<'_>, rewards: &mut Rewards) -> Result<bool, BadTensors> {
    let numbers = |part: &str| read.u64(&format!("{RUNNING}{part}"));
    let (environments, next_seqs, updates) = (
        numbers("environment")?,
        numbers("next_seq")?,
        numbers("update")?,
    );
    let sums = read.f64(&format!("{RUNNING}sum"))?;
    let length = environments.len();
    if [next_seqs.len(), updates.len(), sums.len()] != [length; 3] || length > MOST_ENVIRONMENTS {
        return Ok(false);
    }
    let running: Vec<Running> = environments
        .into_iter()
        .zip(next_seqs)
        .zip(updates.into_iter().zip(sums))
        .map(|((environment, next_seq), (update, sum))| Running {
            environment,
            next_seq,
            sum,
            update,
        })
        .collect();
    Ok(rewards.restore(moments(read, REWARDS, 1)?, &running))
}

fn write_episodes(tensors: &mut Tensors, episodes: &[UnderWay]) {
    let (shape, name) = ([episodes.len()], |part: &str| format!("{EPISODES}{part}"));
    let environments = episodes.iter().map(|one| one.environment);
    tensors.u64(name("environment"), &shape, environments);
    tensors.u64(name("next"), &shape, episodes.iter().map(|one| one.next));
    tensors.f64(name("sum"), &shape, episodes.iter().map(|one| one.sum));
}

/// None if it does not fit together.
fn read_episodes(read: &Read<'_>) -> Result<Option<Vec<UnderWay>>, BadTensors> {
    let name = |part: &str| format!("{EPISODES}{part}");
    let (environments, nexts) = (read.u64(&name("environment"))?, read.u64(&name("next"))?);
    let sums = read.f64(&name("sum"))?;
    let length = environments.len();
    if [nexts.len(), sums.len()] != [length; 2] || length > MOST_EPISODES {
        return Ok(None);
    }
    let all = environments.into_iter().zip(nexts).zip(sums);
    let all = all.map(|((environment, next), sum)| UnderWay {
        environment,
        next,
        sum,
    });
    Ok(Some(all.collect()))
}

impl Snapshot {
    /// How many bytes it takes at most to make one of this session: parameters and Adam's two moments, what runs on of rewards, and episodes under way,
    /// gathered and then laid out as files.
    #[must_use]
    pub fn most(session: &Session) -> usize {
        let numbers = 3 * session.learner.parameters().len() * size_of::<f32>();
        let running = session.rewards.as_ref().map_or(0, |_| MOST_ENVIRONMENTS);
        2 * (numbers + running * size_of::<Running>() + MOST_EPISODES * size_of::<UnderWay>())
    }

    /// Of a service's agent: checkpoint `number`, at which it had come so far.
    ///
    /// # Errors
    /// If two tensors have the same name.
    pub fn of_session(
        name: &str,
        number: u64,
        session: &Session,
        progress: &Progress,
        durable: Durable,
    ) -> Result<Self, BadTensors> {
        let policy = policy_of(&session.learner, session.normaliser.as_ref())?;
        let mut tensors = Tensors::default();
        write_learner(
            &mut tensors,
            &session.learner,
            &session.order,
            &progress.returns,
        );
        if let Some(rewards) = &session.rewards {
            write_rewards(&mut tensors, rewards);
        }
        write_episodes(&mut tensors, &durable.episodes);
        let training = tensors.to_bytes()?;
        let mut manifest = manifest(&session.learner, progress, &policy, &training);
        manifest.environment = name.to_owned();
        manifest.seed = session.seed;
        manifest.service = Some(durable);
        Ok(Self {
            number,
            manifest,
            policy,
            training,
        })
    }
}

impl Checkpoint {
    /// Loads a session that was made from the same specification, and says how far it had come.
    ///
    /// # Errors
    /// If what was read does not fit it.
    pub fn load_session(
        &self,
        session: &mut Session,
    ) -> Result<(Progress, Durable), BadCheckpoint> {
        self.try_load_session(session)
            .map_err(|reason| bad(&self.path, reason))
    }

    fn try_load_session(&self, session: &mut Session) -> Result<(Progress, Durable), Reason> {
        let mut durable = self
            .manifest
            .service
            .clone()
            .ok_or_else(|| of_training(BadTensors::Missing("service".to_owned())))?;
        let Session {
            learner,
            normaliser,
            rewards,
            order,
            ..
        } = session;
        let progress = self.load_learner(learner, normaliser, order)?;
        let read = Read::new(&self.training).map_err(of_training)?;
        durable.episodes = read_episodes(&read)
            .map_err(of_training)?
            .ok_or_else(|| self.misfit("the episodes under way"))?;
        if let Some(rewards) = rewards
            && !read_rewards(&read, rewards).map_err(of_training)?
        {
            return Err(self.misfit("the scale of rewards"));
        }
        Ok((progress, durable))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.rsplit('-').next()?.parse().ok());
        number.unwrap_or(0)
    }
}
