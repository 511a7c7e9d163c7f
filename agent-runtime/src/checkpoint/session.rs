//! A service's session as tensors, and back.

use super::training::{of_training, policy_of, write_learner};
use super::{BadCheckpoint, Checkpoint, Reason, Snapshot, bad, manifest};
use crate::service::book::Durable;
use crate::service::learning::Session;
use crate::tensors::{BadTensors, Read, Tensors};
use crate::train::Progress;

impl Snapshot {
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
        let durable = self
            .manifest
            .service
            .clone()
            .ok_or_else(|| of_training(BadTensors::Missing("service".to_owned())))?;
        Read::new(&self.training).map_err(of_training)?;
        let Session {
            learner,
            normaliser,
            order,
            ..
        } = session;
        let progress = self.load_learner(learner, normaliser, order)?;
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
