//! Places for connections. Once all are taken, the one that has rested for longest makes room for whoever comes: between two requests, or within the
//! headers of one that does not come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Nobody has to leave who has rested for less.
const REST: Duration = Duration::from_secs(2);
/// How often it is looked for somebody who has, while others wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// All of them.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Of whoever comes next.
    number: u64,
    all: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    /// Since when nothing is asked; none: something is.
    rests: Option<Instant>,
    leave: Arc<Notify>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// While it is there, its place does not rest.
#[derive(Debug)]
pub struct Busy(Arc<Place>);

impl Places {
    /// So many.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            taken: Mutex::default(),
        })
    }

    /// Waits for somebody to come, and then for a place.
    pub async fn take(self: &Arc<Self>) -> Arc<Place> {
        loop {
            // Never closed.
            if let Ok(Ok(permit)) = timeout(LOOK_EVERY, self.free.clone().acquire_owned()).await {
                return Arc::new(self.occupy(permit));
            }
            self.make_room();
        }
    }

    fn occupy(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let leave = Arc::new(Notify::new());
        let mut taken = self.taken();
        let number = taken.number;
        taken.number += 1;
        let rests = Some(Instant::now());
        let guest = Guest {
            rests,
            leave: leave.clone(),
        };
        taken.all.insert(number, guest);
        Place {
            places: self.clone(),
            number,
            leave,
            _permit: permit,
        }
    }

    /// Asks whoever has rested for longest to leave.
    fn make_room(&self) {
        let taken = self.taken();
        let resting = taken.all.values().filter_map(|guest| {
            let since = guest.rests?;
            (since.elapsed() >= REST).then_some((since, guest))
        });
        if let Some((_, guest)) = resting.min_by_key(|(since, _)| *since) {
            guest.leave.notify_one();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Something is asked, until this is dropped.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.set(None);
        Busy(self.clone())
    }

    /// Returns once another needs this place, and nothing is asked.
    pub async fn left(&self) {
        loop {
            self.leave.notified().await;
            let taken = self.places.taken();
            let guest = taken.all.get(&self.number);
            if guest.is_none_or(|guest| guest.rests.is_some()) {
                return;
            }
        }
    }

    fn set(&self, rests: Option<Instant>) {
        if let Some(guest) = self.places.taken().all.get_mut(&self.number) {
            guest.rests = rests;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().all.remove(&self.number);
    }
}
