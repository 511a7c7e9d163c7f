//! Whether a server can be reached, as all threads find out, told to readiness, a gauge and the log as one.

use prometheus::IntGauge;
use tars_sidecar::readiness::Readiness;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

/// One server's.
pub(crate) struct Health {
    up: AtomicBool,
    /// Whether an outage has been logged. Held while a change is told: else two changes at once could leave `up` saying the
    /// one and readiness the other, for as long as nothing changes again.
    logged: Mutex<bool>,
    readiness: Readiness,
    condition: String,
    gauge: IntGauge,
}

impl Health {
    /// Of a server that has not been reached yet. `condition` is its name in `/ready`.
    pub(crate) fn new(condition: String, readiness: Readiness, gauge: IntGauge) -> Self {
        readiness.set(condition.clone(), Err("not reached yet".to_owned()));
        Self {
            up: AtomicBool::new(false),
            logged: Mutex::new(false),
            readiness,
            condition,
            gauge,
        }
    }

    /// Whether it was reached the last time.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// It was reached; whether that ends an outage that was logged.
    pub(crate) fn reached(&self) -> bool {
        if self.is_up() {
            return false;
        }
        let mut logged = self.lock();
        self.tell(true, Ok(()));
        std::mem::take(&mut *logged)
    }

    /// It could not be reached; whether that begins an outage.
    pub(crate) fn lost(&self, reason: String) -> bool {
        let mut logged = self.lock();
        self.tell(false, Err(reason));
        !std::mem::replace(&mut *logged, true)
    }

    fn tell(&self, up: bool, condition: Result<(), String>) {
        self.up.store(up, Ordering::Relaxed);
        self.gauge.set(i64::from(up));
        self.readiness.set(self.condition.clone(), condition);
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
