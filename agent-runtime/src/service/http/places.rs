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
    all: BTreeMap<u64, Arc<Guest>>,
}

#[derive(Debug)]
struct Guest {
    /// Since when nothing is asked; none: something is. Its own lock, which a request takes and nobody else wants.
    rests: Mutex<Option<Instant>>,
    leave: Notify,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    guest: Arc<Guest>,
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
        let guest = Arc::new(Guest {
            rests: Mutex::new(Some(Instant::now())),
            leave: Notify::new(),
        });
        let mut taken = self.taken();
        let number = taken.number;
        taken.number += 1;
        taken.all.insert(number, guest.clone());
        Place {
            places: self.clone(),
            number,
            guest,
            _permit: permit,
        }
    }

    /// Asks whoever has rested for longest to leave.
    fn make_room(&self) {
        let taken = self.taken();
        let resting = taken.all.values().filter_map(|guest| {
            let since = (*guest.rests())?;
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

impl Guest {
    fn rests(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Something is asked, until this is dropped.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        *self.guest.rests() = None;
        Busy(self.clone())
    }

    /// Returns once another needs this place, and nothing is asked.
    pub async fn left(&self) {
        loop {
            self.guest.leave.notified().await;
            if self.guest.rests().is_some() {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.guest.rests() = Some(Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().all.remove(&self.number);
    }
}
