//! Memory that is accounted for before it is taken.
//!
//! Every large allocation is a [`Buffer`] of a [`MemoryBudget`]: made at start-up, touched at once so that its pages are there,
//! and given back to the budget when it is dropped. What does not fit is refused with a sentence, before anything is allocated.
//!
//! [`cgroup`] says what the kernel lets the process have, of which the budget is a part ([`MemoryBudget::from_environment`]).

pub mod cgroup;

use std::fmt;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cgroup::Cgroup;

/// The budget where nothing is configured and nothing is limited.
pub const DEFAULT_BUDGET: usize = 256 << 20;
/// Of a cgroup's limit so much at least is no budget's: the program's pages that are in use, stacks, page tables, what the allocator holds beyond what it
/// was asked for, the kernel's part of sockets, and pages of files being written.
pub const KEPT_BACK: u64 = 16 << 20;
/// One part in so many of a limit at least, for much of that grows with what there is to do: a cgroup of 64 MiB leaves a budget of 48, one of 1 GiB 768.
pub const KEPT_BACK_PART: u64 = 4;

/// What memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The network's parameters.
    Parameters,
    /// Their gradient.
    Gradient,
    /// Adam's two moments.
    Optimizer,
    /// What is restored when an update goes wrong.
    Undo,
    /// What a forward pass leaves for the backward pass.
    Activations,
    /// Experience from outside that waits for an update.
    Fragments,
    /// The transitions of an update.
    Rollout,
    /// The rows of a minibatch.
    Minibatch,
    /// Means and variances of observations and rewards.
    Normalisers,
}

impl Component {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 9] = [
        Self::Parameters,
        Self::Gradient,
        Self::Optimizer,
        Self::Undo,
        Self::Activations,
        Self::Fragments,
        Self::Rollout,
        Self::Minibatch,
        Self::Normalisers,
    ];

    /// Its name, as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Gradient => "gradient",
            Self::Optimizer => "optimizer",
            Self::Undo => "undo",
            Self::Activations => "activations",
            Self::Fragments => "fragments",
            Self::Rollout => "rollout",
            Self::Minibatch => "minibatch",
            Self::Normalisers => "normalisers",
        }
    }
}

/// There is no room for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory budget of {limit} bytes has {free} left, and {} wants {wanted}",
    component.name()
)]
pub struct OverBudget {
    /// For what it was wanted.
    pub component: Component,
    /// How much was wanted, in bytes.
    pub wanted: usize,
    /// How much there is.
    pub free: usize,
    /// How much there was at first.
    pub limit: usize,
}

/// So many bytes, and no more. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    reserved: AtomicUsize,
    by_component: [AtomicUsize; Component::ALL.len()],
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            reserved: AtomicUsize::new(0),
            by_component: Default::default(),
        }))
    }

    /// A budget of `configured` bytes; of what a [cgroup's limit leaves](within) if nothing is configured; else of [`DEFAULT_BUDGET`].
    #[must_use]
    pub fn from_environment(configured: Option<usize>) -> Self {
        let limit = || Cgroup::find().and_then(|cgroup| cgroup.limit());
        Self::new(configured.unwrap_or_else(|| limit().map_or(DEFAULT_BUDGET, within)))
    }

    /// How many bytes it has in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// How many bytes are reserved.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.0.reserved.load(Relaxed)
    }

    /// How many bytes each component has reserved.
    pub fn by_component(&self) -> impl Iterator<Item = (Component, usize)> {
        let bytes = |component| self.0.by_component[component as usize].load(Relaxed);
        Component::ALL
            .into_iter()
            .map(move |component| (component, bytes(component)))
    }

    /// `len` times `value`, whose pages are already there.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn buffer<T: Copy>(
        &self,
        component: Component,
        len: usize,
        value: T,
    ) -> Result<Buffer<T>, OverBudget> {
        let bytes = len.saturating_mul(size_of::<T>());
        let reservation = self.reserve(component, bytes)?;
        let mut data = vec![value; len].into_boxed_slice();
        // Zeroed memory may be a promise of the kernel; what is written to is there.
        black_box(&mut data).fill(value);
        Ok(Buffer { data, reservation })
    }

    fn reserve(&self, component: Component, bytes: usize) -> Result<Reservation, OverBudget> {
        let limit = self.0.limit;
        self.0
            .reserved
            .try_update(Relaxed, Relaxed, |reserved| {
                reserved.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .map_err(|reserved| OverBudget {
                component,
                wanted: bytes,
                free: limit - reserved,
                limit,
            })?;
        self.0.by_component[component as usize].fetch_add(bytes, Relaxed);
        Ok(Reservation {
            budget: self.clone(),
            component,
            bytes,
        })
    }
}

/// What a cgroup's limit leaves to a budget: all but [`KEPT_BACK`] or one part in [`KEPT_BACK_PART`], whichever is more, but half of it at least.
#[must_use]
pub fn within(limit: u64) -> usize {
    let kept_back = KEPT_BACK.max(limit / KEPT_BACK_PART).min(limit / 2);
    usize::try_from(limit - kept_back).unwrap_or(usize::MAX)
}

/// Bytes taken from a budget until it is dropped.
#[derive(Debug)]
struct Reservation {
    budget: MemoryBudget,
    component: Component,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Inner {
            reserved,
            by_component,
            ..
        } = &*self.budget.0;
        reserved.fetch_sub(self.bytes, Relaxed);
        by_component[self.component as usize].fetch_sub(self.bytes, Relaxed);
    }
}

/// A slice whose memory is reserved.
pub struct Buffer<T> {
    data: Box<[T]>,
    #[allow(dead_code, reason = "kept for its drop")]
    reservation: Reservation,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_is_free_again() {
        let budget = MemoryBudget::new(1_000);
        let kept = budget
            .buffer(Component::Rollout, 200, 0.0f32)
            .expect("fits");
        let refused = budget
            .buffer(Component::Gradient, 51, 0.0f32)
            .expect_err("does not fit");
        assert_eq!(
            refused.to_string(),
            "the memory budget of 1000 bytes has 200 left, and gradient wants 204"
        );
        assert_eq!(budget.reserved(), 800);
        drop(kept);
        assert_eq!(budget.reserved(), 0);
        assert!(budget.by_component().all(|(_, bytes)| bytes == 0));
    }

    #[test]
    fn of_a_limit_enough_is_kept_back() {
        for (limit, budget) in [(0, 0), (8, 4), (32, 16), (40, 24), (64, 48), (1024, 768)] {
            assert_eq!(within(limit << 20), budget << 20, "{limit} MiB");
        }
        assert!(within(u64::MAX) > 1 << 62);
        let configured = MemoryBudget::from_environment(Some(5));
        assert_eq!(configured.limit(), 5, "whatever the limit is");
    }
}
