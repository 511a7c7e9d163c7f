//! All agents of a process: what is on the disk is started, what is asked for is made, within one budget.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::mpsc;

use super::agent::{Agent, CannotStart};
use super::learning::Event;
use super::spec::{AgentSpec, BadSpec, is_name};
use crate::memory::MemoryBudget;

/// Agents of a process.
pub const MOST_AGENTS: usize = 64;
/// Before the name of what is being removed.
const REMOVED: &str = ".removed-";

/// Why there is no such agent, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// There is none of this name.
    #[error("there is no agent named {0:?}")]
    Unknown(String),
    /// There is one already, and it is another.
    #[error(
        "there is an agent named {name:?} already, and it is another: {field} differs; choose another name, or delete it first"
    )]
    Exists {
        /// Its name.
        name: String,
        /// What differs first.
        field: String,
    },
    /// There is one, and it could not be started.
    #[error("the agent could not be started: {0}")]
    Failed(String),
    /// There are too many.
    #[error("there are {MOST_AGENTS} agents already, as many as a process has")]
    TooMany,
    /// It cannot be.
    #[error(transparent)]
    CannotStart(#[from] CannotStart),
    /// It cannot be removed.
    #[error("{}: {error}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Where an agent's events go, if anyone listens; or why it cannot be listened to, so that it is not to be.
pub type Listener =
    Box<dyn Fn(&AgentSpec) -> Result<Option<mpsc::UnboundedSender<Event>>, BadSpec> + Send + Sync>;

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agents")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// See the module.
pub struct Agents {
    directory: PathBuf,
    /// Of all of them.
    budget: MemoryBudget,
    concurrency: usize,
    running: RwLock<BTreeMap<String, Arc<Agent>>>,
    /// Those that could not be started, and why.
    failed: Mutex<BTreeMap<String, String>>,
    /// One is made or removed at a time.
    changing: Mutex<()>,
    listener: Listener,
}

impl Agents {
    /// The agents in this directory, which is made if it is not there. None is started yet.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn new(
        directory: &Path,
        budget: MemoryBudget,
        concurrency: usize,
        listener: Listener,
    ) -> Result<Self, AgentsError> {
        fs::create_dir_all(directory).map_err(|error| AgentsError::Disk {
            path: directory.to_owned(),
            error,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            budget,
            concurrency,
            running: RwLock::default(),
            failed: Mutex::default(),
            changing: Mutex::default(),
            listener,
        })
    }

    /// Starts every agent that is on the disk. One that cannot be started is logged and named by [`Agents::failed`]; the others run.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn start(&self) -> Result<(), AgentsError> {
        let _changing = lock(&self.changing);
        let disk = |error| AgentsError::Disk {
            path: self.directory.clone(),
            error,
        };
        for entry in fs::read_dir(&self.directory).map_err(disk)? {
            let path = entry.map_err(disk)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if name.starts_with(REMOVED) {
                let _ = fs::remove_dir_all(&path);
                continue;
            }
            if !is_name(name) {
                continue;
            }
            let started = Agent::spec_in(&path).and_then(|spec| match spec {
                Some(spec) => {
                    let (budget, events) = (self.budget.account(), (self.listener)(&spec)?);
                    let agent = Agent::start(spec, &path, budget, self.concurrency, events.clone());
                    agent.map(|agent| Some(introduce(agent, events)))
                }
                None => Ok(None),
            });
            match started {
                Ok(Some(agent)) => {
                    self.write().insert(name.to_owned(), agent);
                }
                // A kill came before it was whole: nobody was told of it.
                Ok(None) => {
                    let _ = fs::remove_dir_all(&path);
                }
                Err(error) => {
                    tracing::error!(agent = name, %error, "an agent cannot be started");
                    lock(&self.failed).insert(name.to_owned(), error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Makes an agent, or gives the one that there is if it is the same. Says whether it is new.
    ///
    /// # Errors
    /// If it cannot be, or there is another of this name.
    pub fn create(&self, spec: AgentSpec) -> Result<(Arc<Agent>, bool), AgentsError> {
        spec.validate().map_err(CannotStart::from)?;
        let _changing = lock(&self.changing);
        match self.get(&spec.name) {
            Ok(agent) if *agent.spec() == spec => return Ok((agent, false)),
            Ok(agent) => {
                let field = agent.spec().first_difference(&spec);
                let name = spec.name;
                return Err(AgentsError::Exists { name, field });
            }
            Err(AgentsError::Unknown(_)) => {}
            Err(failed) => return Err(failed),
        }
        if self.read().len() >= MOST_AGENTS {
            return Err(AgentsError::TooMany);
        }
        let (name, path) = (spec.name.clone(), self.directory.join(&spec.name));
        let events = (self.listener)(&spec).map_err(CannotStart::from)?;
        let budget = self.budget.account();
        let agent = Agent::create(spec, &path, budget, self.concurrency, events.clone())?;
        let agent = introduce(agent, events);
        self.write().insert(name, agent.clone());
        Ok((agent, true))
    }

    /// The agent of this name.
    ///
    /// # Errors
    /// If there is none, or it could not be started.
    pub fn get(&self, name: &str) -> Result<Arc<Agent>, AgentsError> {
        let agent = self.read().get(name).cloned();
        agent.ok_or_else(|| match lock(&self.failed).get(name) {
            Some(why) => AgentsError::Failed(why.clone()),
            None => AgentsError::Unknown(name.to_owned()),
        })
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Agent>> {
        self.read().values().cloned().collect()
    }

    /// Those that could not be started, and why.
    #[must_use]
    pub fn failed(&self) -> BTreeMap<String, String> {
        lock(&self.failed).clone()
    }

    /// Removes an agent and all that it has on the disk.
    ///
    /// # Errors
    /// If there is none, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), AgentsError> {
        let _changing = lock(&self.changing);
        if !self.read().contains_key(name) && !lock(&self.failed).contains_key(name) {
            return Err(AgentsError::Unknown(name.to_owned()));
        }
        let path = self.directory.join(name);
        let removed = self.directory.join(format!("{REMOVED}{name}"));
        let disk = |error| AgentsError::Disk {
            path: path.clone(),
            error,
        };
        // If the disk refuses, the agent is as before. After this a kill leaves what the next start removes.
        let _ = fs::remove_dir_all(&removed);
        fs::rename(&path, &removed).map_err(disk)?;
        fs::File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(disk)?;
        lock(&self.failed).remove(name);
        let agent = self.write().remove(name);
        if let Some(agent) = agent {
            agent.stop();
        }
        fs::remove_dir_all(&removed).map_err(disk)
    }

    /// Ends all of them.
    pub fn stop(&self) {
        for agent in self.all() {
            agent.stop();
        }
    }

    /// Bytes that all of them may reserve, and have.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        (self.budget.limit(), self.budget.reserved_by_all())
    }

    /// What all of them reserve from.
    #[must_use]
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Agent>>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Agent>>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whoever listens that the agent is there.
fn introduce(agent: Agent, events: Option<mpsc::UnboundedSender<Event>>) -> Arc<Agent> {
    let agent = Arc::new(agent);
    if let Some(events) = events {
        // Nobody listens when the process ends.
        let _ = events.send(Event::Started(Arc::downgrade(&agent)));
    }
    agent
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
