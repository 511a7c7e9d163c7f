//! The thread of an agent that learns.
//!
//! An update takes fragments out of the book and changes the policy; its checkpoint is written and flushed to the disk; then the version is
//! published, what it settled is acknowledged, and what the journal held of it goes. Never in another order: a version that acts is on the disk.
//!
//! What cannot be written is tried again. Until it is, the version before goes on acting, and nothing more is learnt.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, global};
use serde::Serialize;
use tokio::sync::mpsc;

use super::agent::Agent;
use super::book::{Book, Durable, Shared};
use super::curve::Curve;
use super::history::{History, Point};
use super::policy::Acting;
use super::spec::{AgentSpec, Spaces};
use crate::checkpoint::{Snapshot, Store};
use crate::fragments::{Fate, Fragments, Rewards, Room};
use crate::memory::{MemoryBudget, OverBudget};
use crate::normalise::RunningMoments;
use crate::ppo::{Learner, Outcome, Statistics};
use crate::rng::Rng;
use crate::rollout::Rollout;
use crate::schedule::remaining;
use crate::train::{MOST_UNDONE, Progress};

/// Streams of the seed.
const PARAMETERS: u64 = 0;
const ORDER: u64 = 2;
/// How long to wait before a checkpoint that could not be written is tried again: the first time, and at most.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(15);

/// What learns: everything that an update reads and changes, but for the book.
#[derive(Debug)]
pub struct Session {
    pub(crate) learner: Learner,
    /// What this version sees the world through.
    pub(crate) normaliser: Option<RunningMoments>,
    /// What rewards are brought to scale by.
    pub(crate) rewards: Option<Rewards>,
    pub(crate) order: Rng,
    pub(crate) seed: u64,
    rollout: Rollout,
}

impl Session {
    /// A session from the beginning.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(
        spec: &AgentSpec,
        spaces: &Spaces,
        budget: &MemoryBudget,
    ) -> Result<Self, OverBudget> {
        let hyper = spec.hyperparameters.clone();
        let normalised = hyper.normalize_observation;
        let learner = Learner::new(
            spaces.inputs(),
            spaces.distribution(),
            spec.masked,
            hyper,
            budget,
            &mut Rng::new(spec.seed, PARAMETERS),
        )?;
        Ok(Self {
            rollout: Rollout::new(budget, learner.shape())?,
            normaliser: normalised.then(|| RunningMoments::new(spaces.inputs())),
            rewards: None,
            order: Rng::new(spec.seed, ORDER),
            seed: spec.seed,
            learner,
        })
    }

    /// What else it needs to learn from these fragments.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn learn_from(
        &mut self,
        fragments: &Fragments,
        budget: &MemoryBudget,
    ) -> Result<Room, OverBudget> {
        let hyper = self.learner.hyper();
        let rewards = hyper
            .normalize_reward
            .then(|| Rewards::new(budget, fragments, hyper.gamma));
        self.rewards = rewards.transpose()?;
        Room::new(budget, fragments, self.learner.net())
    }

    /// What learns.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What it sees the world through.
    #[must_use]
    pub fn normaliser(&self) -> Option<&RunningMoments> {
        self.normaliser.as_ref()
    }
}

/// What others want to know of.
#[derive(Clone, Debug)]
pub enum Event {
    /// The agent is there.
    Started(Weak<Agent>),
    /// A version acts.
    Published {
        /// Which.
        version: u64,
        /// The span of its update.
        trace: SpanContext,
    },
}

/// What the thread works with.
#[derive(Debug)]
pub struct Learning {
    /// The agent's name.
    pub name: String,
    /// The book.
    pub shared: Arc<Shared>,
    /// Where versions are published.
    pub acting: Arc<Acting>,
    /// Where checkpoints are kept.
    pub store: Store,
    /// The number of the next checkpoint.
    pub number: u64,
    /// Records of the journal below this are not needed any more.
    pub floor: Arc<AtomicU64>,
    /// What the latest updates said.
    pub history: Arc<Mutex<History>>,
    /// The same, on the disk.
    pub curve: Curve,
    /// Who wants to know of new versions.
    pub events: Option<mpsc::UnboundedSender<Event>>,
    /// What an update did last.
    pub state: Arc<Mutex<State>>,
}

/// How learning goes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// The latest checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Why the next one cannot be written, if so.
    pub checkpoint_error: Option<String>,
    /// Attempts to write one that failed.
    pub checkpoint_failures: u64,
}

enum Task {
    Learn,
    Checkpoint,
    Stop,
}

impl Learning {
    /// Learns until it is told to stop.
    pub fn run(mut self, mut session: Session, mut room: Room) {
        // Acting goes first: its threads are never made to wait by this one for long.
        let _ = rustix::process::nice(10);
        let shared = self.shared.clone();
        loop {
            let (task, mut book) = next(&shared);
            match task {
                Task::Stop => return,
                Task::Checkpoint => {
                    book.checkpoint_wanted = false;
                    let (durable, progress) = (book.durable(), book.progress.clone());
                    drop(book);
                    self.save(&session, &progress, &durable);
                }
                Task::Learn => self.learn(book, &mut session, &mut room),
            }
        }
    }

    fn learn(&mut self, mut book: MutexGuard<'_, Book>, session: &mut Session, room: &mut Room) {
        let begin = Instant::now();
        let rows = book.fragments.load(
            &session.learner,
            session.normaliser.as_ref(),
            session.rewards.as_mut(),
            room,
            &mut session.rollout,
        );
        let (mut traces, mut progress) = (book.take_traces(), book.progress.clone());
        drop(book);
        let tracer = global::tracer("tars-agent");
        // The latest experience is what made this update possible; it is linked to the others.
        let parent = traces.pop();
        let mut span = tracer
            .span_builder(format!("update {}", self.name))
            .with_kind(SpanKind::Internal)
            .with_links(
                traces
                    .into_iter()
                    .map(|trace| Link::new(trace, Vec::new(), 0))
                    .collect(),
            );
        let version = self.acting.current().number();
        span.attributes = Some(vec![
            KeyValue::new("tars.agent.name", self.name.clone()),
            KeyValue::new("tars.policy.version", version as i64),
            KeyValue::new("tars.update.transitions", rows as i64),
        ]);
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent)
        });
        let context = context.with_span(span.start_with_context(&tracer, &context));

        let left = remaining(progress.steps, session.learner.hyper().n_timesteps);
        let Session {
            learner,
            order,
            rollout,
            normaliser,
            ..
        } = session;
        let statistics = learner.update(rollout, left, |rows| order.shuffle(rows));
        let undone = statistics.outcome == Outcome::Undone;
        let learnt = begin.elapsed();

        let mut book = self.shared.lock();
        if !undone && let Some(moments) = normaliser {
            book.fragments.observe(moments);
        }
        book.finish(if undone { Fate::Dropped } else { Fate::Trained });
        note(&mut book.progress, rows as u64, undone);
        if undone && book.progress.undone_in_a_row >= MOST_UNDONE {
            book.paused = Some(format!(
                "{MOST_UNDONE} updates in a row were undone: what they learn from cannot be learnt from"
            ));
        }
        progress.clone_from(&book.progress);
        let mut durable = book.durable();
        drop(book);
        self.shared.tell_room();
        if undone {
            context
                .span()
                .set_status(Status::error("undone: a number was not finite"));
        } else {
            durable.version = version + 1;
        }

        let begin = Instant::now();
        let next = durable.version;
        if !self.save(session, &progress, &durable) {
            return;
        }
        if next > version {
            self.publish(next, session);
        }
        context.span().end();
        self.remember(&statistics, &progress, next, rows, learnt, begin.elapsed());
        if next > version
            && let Some(events) = &self.events
        {
            let trace = context.span().span_context().clone();
            // Whoever listened has ended: so will this.
            let _ = events.send(Event::Published {
                version: next,
                trace,
            });
        }
    }

    fn publish(&self, version: u64, session: &Session) {
        let published = self.acting.publish(
            version,
            session.learner.parameters(),
            session.normaliser.as_ref(),
        );
        match published {
            Ok(()) => self.shared.lock().version = version,
            Err(error) => {
                tracing::warn!(agent = self.name, version, %error, "a version is not published");
            }
        }
    }

    /// Writes a checkpoint, again and again until it is there. Not if the agent ends before that: then nothing has happened that a restart does not
    /// do again.
    fn save(&mut self, session: &Session, progress: &Progress, durable: &Durable) -> bool {
        let floor = durable.journal_floor();
        let mut wait = RETRY;
        let snapshot =
            Snapshot::of_session(&self.name, self.number, session, progress, durable.clone());
        loop {
            let written = snapshot
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|snapshot| self.store.put(snapshot).map_err(|error| error.to_string()));
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match written {
                Ok(path) => {
                    if state.checkpoint_error.take().is_some() {
                        tracing::info!(agent = self.name, "checkpoints can be written again");
                    }
                    state.checkpoint = Some(path);
                    break;
                }
                Err(error) => {
                    if state.checkpoint_error.is_none() {
                        tracing::error!(
                            agent = self.name,
                            error,
                            "no checkpoint can be written: nothing is learnt until one can"
                        );
                    }
                    state.checkpoint_error = Some(error);
                    state.checkpoint_failures += 1;
                }
            }
            drop(state);
            let book = self.shared.lock();
            let (book, _) = self
                .shared
                .ready
                .wait_timeout_while(book, wait, |book| !book.stopping)
                .unwrap_or_else(PoisonError::into_inner);
            if book.stopping {
                return false;
            }
            wait = (wait * 2).min(RETRY_MOST);
        }
        self.number += 1;
        self.floor.store(floor, Relaxed);
        self.shared.lock().became_durable(durable);
        self.shared.durable.notify_waiters();
        true
    }

    fn remember(
        &mut self,
        statistics: &Statistics,
        progress: &Progress,
        version: u64,
        transitions: usize,
        learnt: Duration,
        saved: Duration,
    ) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let point = Point {
            at: now.as_secs_f64(),
            version,
            updates: progress.updates,
            steps: progress.steps,
            episodes: progress.episodes,
            mean_return: progress.mean_return(),
            transitions,
            update_seconds: learnt.as_secs_f64(),
            checkpoint_seconds: saved.as_secs_f64(),
            statistics: *statistics,
        };
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push(point);
        drop(history);
        if let Err(error) = self.curve.push(&point) {
            tracing::debug!(agent = self.name, %error, "an update is missing in the curve on the disk");
        }
    }
}

/// What there is to do, as soon as there is something.
fn next(shared: &Shared) -> (Task, MutexGuard<'_, Book>) {
    let mut book = shared.lock();
    loop {
        if book.stopping {
            return (Task::Stop, book);
        }
        if book.paused.is_none() && book.fragments.is_ready() {
            let settled = book.fragments.ledger().stale;
            let taken = book.take();
            shared.tell_room();
            if taken > 0 {
                return (Task::Learn, book);
            }
            // All of it was stale: that is to be known after a restart, and to be acknowledged.
            book.checkpoint_wanted |= book.fragments.ledger().stale > settled;
        }
        if book.checkpoint_wanted {
            return (Task::Checkpoint, book);
        }
        book = shared.wait(&shared.ready, book);
    }
}

fn note(progress: &mut Progress, rows: u64, undone: bool) {
    progress.steps += rows;
    progress.updates += 1;
    if undone {
        progress.undone += 1;
        progress.undone_in_a_row += 1;
    } else {
        progress.undone_in_a_row = 0;
    }
}
