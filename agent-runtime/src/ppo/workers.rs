//! Threads that compute parts of a minibatch beside the learner's own.
//!
//! ```text
//! learner  ── gathers a part for each worker ── computes the first part ── adds the workers' gradients, in the order of the parts
//! worker          waits                     ── computes its part ──────── waits
//! ```
//! A worker shares a desk with the learner: the room of a part, and whose turn it is. Who computes holds the desk's lock, so that a worker that
//! panics is noticed as its lock is poisoned. Neither locks nor condition variables allocate anything. A part of a small network is computed sooner than
//! a thread is woken: for about as long as the learner needs between two waves, both sides look before they sleep.

use std::hint::spin_loop;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::{Model, Part};
use crate::hyper::{OutOfRange, check};
use crate::loss::{Settings, Sums};
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::rollout::Shape;

/// An update takes so many threads at most: a minibatch is rarely worth more.
pub const MOST_THREADS: usize = 64;

/// Looks at whose turn it is before sleeping: some tens of microseconds.
const LOOKS: usize = 1_000;

/// Why an update cannot take so many threads.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// None, or too many.
    #[error(transparent)]
    Number(#[from] OutOfRange),
    /// There is no room.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// The system refuses.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// All threads but the learner's own.
#[derive(Debug, Default)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Desk {
    work: Mutex<Work>,
    handed_over: Condvar,
    /// What `work` says, for a look without its lock.
    is_workers: AtomicBool,
}

#[derive(Debug)]
struct Work {
    turn: Turn,
    part: Part,
    gradient: Buffer<f32>,
    sums: Sums,
}

#[derive(Debug)]
enum Turn {
    Learner,
    Worker(Task),
    Over,
}

/// What to compute a part with.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) parameters: Arc<Buffer<f32>>,
    pub(super) settings: Settings,
}

impl Workers {
    /// Starts all but one of so many threads, but no more than there are `parts` in a minibatch, each of so many rows.
    pub(super) fn start(
        threads: usize,
        parts: usize,
        model: &Arc<Model>,
        budget: &MemoryBudget,
        rows: usize,
        shape: Shape,
    ) -> Result<Self, CannotStart> {
        check(
            "threads",
            threads,
            |threads| (1..=MOST_THREADS).contains(threads),
            format!("between 1 and {MOST_THREADS}"),
        )?;
        let workers = (1..threads.min(parts)).map(|at| {
            let work = Work {
                turn: Turn::Learner,
                part: Part::new(model, budget, rows, shape)?,
                gradient: budget.buffer(Component::Gradient, model.net.parameters(), 0.0)?,
                sums: Sums::default(),
            };
            Worker::start(format!("update-{at}"), work, Arc::clone(model))
                .map_err(CannotStart::from)
        });
        workers.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Hands the part of each of these rows to a worker; there are no more of them than workers. `gather` fills the part.
    pub(super) fn begin<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u32]>,
        task: &Task,
        gather: impl Fn(&mut Part, &[u32]),
    ) {
        for (worker, rows) in self.0.iter().zip(rows) {
            let mut work = worker.desk.learners();
            gather(&mut work.part, rows);
            worker.desk.hand_over(work, Turn::Worker(task.clone()));
        }
    }

    /// Waits for the first `count` parts, and gives the loss and the gradient of each, in their order.
    pub(super) fn finish(&self, count: usize, mut each: impl FnMut(Sums, &[f32])) {
        for worker in &self.0[..count] {
            let work = worker.desk.learners();
            each(work.sums, &work.gradient);
        }
    }
}

impl Worker {
    fn start(name: String, work: Work, model: Arc<Model>) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            work: Mutex::new(work),
            handed_over: Condvar::new(),
            is_workers: AtomicBool::new(false),
        });
        let workers = Arc::clone(&desk);
        let thread = Builder::new()
            .name(name)
            .spawn(move || workers.work(&model))?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let work = self.desk.work.lock();
        let work = work.unwrap_or_else(PoisonError::into_inner);
        self.desk.hand_over(work, Turn::Over);
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Desk {
    /// The desk, once it is the learner's turn.
    fn learners(&self) -> MutexGuard<'_, Work> {
        self.turn_of(false, |turn| !matches!(turn, Turn::Worker(_)))
            .expect("a thread that computes a part does not panic")
    }

    fn hand_over(&self, mut work: MutexGuard<'_, Work>, turn: Turn) {
        work.turn = turn;
        self.is_workers.store(true, Ordering::Relaxed);
        drop(work);
        self.handed_over.notify_one();
    }

    /// What a worker does all its life.
    fn work(&self, model: &Model) {
        while let Some(mut work) = self.turn_of(true, |turn| !matches!(turn, Turn::Learner)) {
            // Dropped at the end of each turn, and if this panics.
            let _told = Told(&self.handed_over);
            let Turn::Worker(task) = mem::replace(&mut work.turn, Turn::Learner) else {
                return;
            };
            let Work {
                part,
                gradient,
                sums,
                ..
            } = &mut *work;
            gradient.fill(0.0);
            *sums = part.learn(model, &task.parameters, task.settings, gradient);
            self.is_workers.store(false, Ordering::Relaxed);
        }
    }

    /// Waits for a turn; none if the other side has panicked.
    fn turn_of(&self, workers: bool, is: impl Fn(&Turn) -> bool) -> Option<MutexGuard<'_, Work>> {
        for _ in 0..LOOKS {
            if self.is_workers.load(Ordering::Relaxed) == workers {
                break;
            }
            spin_loop();
        }
        let work = self.work.lock().ok()?;
        self.handed_over
            .wait_while(work, |work| !is(&work.turn))
            .ok()
    }
}

/// Tells the other side when it is dropped; it goes on once it has the lock.
struct Told<'a>(&'a Condvar);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
