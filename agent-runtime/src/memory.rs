//! Memory that is accounted for before it is taken.
//!
//! Every large allocation is a [`Buffer`] of a [`MemoryBudget`]: made at start-up, touched at once so that its pages are there,
//! and given back to the budget when it is dropped. What does not fit is refused with a sentence, before anything is allocated.
//!
//! A buffer may lie in a file instead ([`MemoryBudget::mapped`]), which is beside the budget: it is the disk that bounds it.
//!
//! [`cgroup`] says what the kernel lets the process have, of which the budget is a part ([`MemoryBudget::from_environment`]).

pub mod cgroup;
mod mapped;

use std::fmt;
use std::hint::black_box;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytemuck::Pod;

use cgroup::Cgroup;
use mapped::Mapped;

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
    /// What of it lies in files.
    FragmentsMapped,
    /// The transitions of an update.
    Rollout,
    /// The rows of a minibatch.
    Minibatch,
    /// Means and variances of observations and rewards.
    Normalisers,
    /// What the latest updates said of themselves.
    History,
    /// What a checkpoint is written from: [set aside](MemoryBudget::set_aside), for it is there for moments only.
    Checkpoint,
    /// Bodies of requests and what is made of them: set aside, too.
    Bodies,
}

impl Component {
    /// Those that are there all the time, in the order in which they are listed.
    pub const ALL: [Self; 11] = [
        Self::Parameters,
        Self::Gradient,
        Self::Optimizer,
        Self::Undo,
        Self::Activations,
        Self::Fragments,
        Self::FragmentsMapped,
        Self::Rollout,
        Self::Minibatch,
        Self::Normalisers,
        Self::History,
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
            Self::FragmentsMapped => "fragments_mapped",
            Self::Rollout => "rollout",
            Self::Minibatch => "minibatch",
            Self::Normalisers => "normalisers",
            Self::History => "history",
            Self::Checkpoint => "checkpoint",
            Self::Bodies => "bodies",
        }
    }

    /// What would make it smaller.
    fn less(self) -> &'static str {
        match self {
            Self::Parameters | Self::Gradient | Self::Optimizer | Self::Undo | Self::Checkpoint => {
                "smaller layers"
            }
            Self::Activations => "smaller layers, fewer threads",
            Self::Fragments | Self::FragmentsMapped => "a smaller buffer.transitions",
            Self::Rollout => "fewer n_steps * n_envs",
            Self::Minibatch => "a smaller batch_size, fewer n_steps * n_envs",
            Self::Normalisers | Self::History => "fewer agents",
            Self::Bodies => "a smaller --max-body",
        }
    }

    /// It lies in files. What of it is resident is part of a process's `RssFile` (of `RssShmem` on tmpfs), not of `RssAnon`.
    #[must_use]
    pub fn is_mapped(self) -> bool {
        self == Self::FragmentsMapped
    }
}

/// There is no room for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory budget of {limit} bytes has {free} left, and {} wants {wanted}: give it more (--memory), or ask for less ({})",
    component.name(),
    component.less()
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

/// A buffer cannot lie in a file there.
#[derive(Debug, thiserror::Error)]
#[error("cannot map a file of {bytes} bytes in {}: {error}", directory.display())]
pub struct CannotMap {
    /// Where.
    pub directory: PathBuf,
    /// How large.
    pub bytes: usize,
    /// Why not.
    #[source]
    pub error: io::Error,
}

/// There is no room for a buffer where it should lie.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// In memory.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// On the disk.
    #[error(transparent)]
    Disk(#[from] CannotMap),
}

/// Where the rows of a buffer lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage<'a> {
    /// In memory.
    #[default]
    Memory,
    /// In files without a name in this directory.
    Mapped(&'a Path),
}

/// So many bytes, and no more. Clones share it, and their account; [other accounts](MemoryBudget::account) share the bytes only.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    all: Arc<Bytes>,
    account: Arc<Account>,
}

/// What all accounts share.
#[derive(Debug)]
struct Bytes {
    limit: usize,
    reserved: AtomicUsize,
    /// Of what is reserved.
    set_aside: AtomicUsize,
}

#[derive(Debug, Default)]
struct Account {
    reserved: AtomicUsize,
    by_component: [AtomicUsize; Component::ALL.len()],
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            all: Arc::new(Bytes {
                limit,
                reserved: AtomicUsize::new(0),
                set_aside: AtomicUsize::new(0),
            }),
            account: Arc::default(),
        }
    }

    /// A budget of `configured` bytes; of what a [cgroup's limit leaves](within) if nothing is configured; else of [`DEFAULT_BUDGET`].
    #[must_use]
    pub fn from_environment(configured: Option<usize>) -> Self {
        let limit = || Cgroup::find().and_then(|cgroup| cgroup.limit());
        Self::new(configured.unwrap_or_else(|| limit().map_or(DEFAULT_BUDGET, within)))
    }

    /// The same budget, with an account of its own of what is reserved from it.
    #[must_use]
    pub fn account(&self) -> Self {
        Self {
            all: self.all.clone(),
            account: Arc::default(),
        }
    }

    /// How many bytes it has in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.all.limit
    }

    /// How many bytes of memory are reserved by all accounts. What is mapped is not.
    #[must_use]
    pub fn reserved_by_all(&self) -> usize {
        self.all.reserved.load(Relaxed)
    }

    /// How many of them are in memory all the time: what is set aside is not.
    #[must_use]
    pub fn held_by_all(&self) -> usize {
        self.reserved_by_all()
            .saturating_sub(self.all.set_aside.load(Relaxed))
    }

    /// How many bytes this account has reserved.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.account.reserved.load(Relaxed)
    }

    /// How many bytes each component has reserved by this account.
    pub fn by_component(&self) -> impl Iterator<Item = (Component, usize)> {
        let bytes = |component| self.account.by_component[component as usize].load(Relaxed);
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
        let data = Data::Memory(data);
        Ok(Buffer { data, reservation })
    }

    /// `len` times `value` in a file in `directory`, whose blocks are already there. It takes nothing of the budget, and is listed under `component`.
    ///
    /// # Errors
    /// If such a file cannot be made or mapped, or the disk is too full for it.
    pub fn mapped<T: Pod>(
        &self,
        component: Component,
        directory: &Path,
        len: usize,
        value: T,
    ) -> Result<Buffer<T>, CannotMap> {
        let bytes = len.saturating_mul(size_of::<T>());
        let mapped = Mapped::new(directory, len, value).map_err(|error| CannotMap {
            directory: directory.to_owned(),
            bytes,
            error,
        })?;
        Ok(Buffer {
            data: Data::Mapped(mapped),
            reservation: self.list(component, bytes, Kind::Mapped),
        })
    }

    /// Sees to it that others leave so much for what is allocated again and again, and given back.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn set_aside(&self, component: Component, bytes: usize) -> Result<Reservation, OverBudget> {
        self.take(component, bytes)?;
        self.all.set_aside.fetch_add(bytes, Relaxed);
        Ok(Reservation {
            budget: self.clone(),
            component,
            bytes,
            kind: Kind::SetAside,
        })
    }

    fn reserve(&self, component: Component, bytes: usize) -> Result<Reservation, OverBudget> {
        self.take(component, bytes)?;
        Ok(self.list(component, bytes, Kind::Held))
    }

    fn take(&self, component: Component, bytes: usize) -> Result<(), OverBudget> {
        let Bytes {
            limit, reserved, ..
        } = &*self.all;
        reserved
            .try_update(Relaxed, Relaxed, |reserved| {
                reserved.checked_add(bytes).filter(|sum| sum <= limit)
            })
            .map_err(|reserved| OverBudget {
                component,
                wanted: bytes,
                free: limit - reserved,
                limit: *limit,
            })?;
        self.account.reserved.fetch_add(bytes, Relaxed);
        Ok(())
    }

    fn list(&self, component: Component, bytes: usize, kind: Kind) -> Reservation {
        self.account.by_component[component as usize].fetch_add(bytes, Relaxed);
        Reservation {
            budget: self.clone(),
            component,
            bytes,
            kind,
        }
    }
}

/// What a cgroup's limit leaves to a budget: all but [`KEPT_BACK`] or one part in [`KEPT_BACK_PART`], whichever is more, but half of it at least.
#[must_use]
pub fn within(limit: u64) -> usize {
    let kept_back = KEPT_BACK.max(limit / KEPT_BACK_PART).min(limit / 2);
    usize::try_from(limit - kept_back).unwrap_or(usize::MAX)
}

/// Bytes taken from a budget, or mapped beside it, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    component: Component,
    bytes: usize,
    kind: Kind,
}

/// Where what is reserved is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In memory.
    Held,
    /// In memory now and then.
    SetAside,
    /// In a file, and not of the budget.
    Mapped,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let MemoryBudget { all, account } = &self.budget;
        if self.kind == Kind::SetAside {
            all.set_aside.fetch_sub(self.bytes, Relaxed);
        } else {
            account.by_component[self.component as usize].fetch_sub(self.bytes, Relaxed);
        }
        if self.kind != Kind::Mapped {
            account.reserved.fetch_sub(self.bytes, Relaxed);
            all.reserved.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// A slice whose memory is reserved, or which lies in a file.
pub struct Buffer<T> {
    data: Data<T>,
    #[allow(dead_code, reason = "kept for its drop")]
    reservation: Reservation,
}

enum Data<T> {
    Memory(Box<[T]>),
    Mapped(Mapped<T>),
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.data {
            Data::Memory(data) => data,
            Data::Mapped(data) => data.as_slice(),
        }
    }
}

impl<T> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.data {
            Data::Memory(data) => data,
            Data::Mapped(data) => data.as_mut_slice(),
        }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.len())
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
            "the memory budget of 1000 bytes has 200 left, and gradient wants 204: give it more (--memory), or ask for less (smaller layers)"
        );
        assert_eq!(budget.reserved(), 800);
        drop(kept);
        assert_eq!(budget.reserved(), 0);
        assert!(budget.by_component().all(|(_, bytes)| bytes == 0));
    }

    #[test]
    fn accounts_share_the_bytes_and_nothing_else() {
        let budget = MemoryBudget::new(1_000);
        let (one, other) = (budget.account(), budget.account());
        let kept = one.buffer(Component::Rollout, 600, 0u8).expect("fits");
        let refused = other.buffer(Component::Gradient, 500, 0u8);
        assert_eq!(
            refused.expect_err("does not fit").to_string(),
            "the memory budget of 1000 bytes has 400 left, and gradient wants 500: give it more (--memory), or ask for less (smaller layers)"
        );
        let also = other.buffer(Component::Gradient, 400, 0u8).expect("fits");
        assert_eq!((one.reserved(), other.reserved()), (600, 400));
        assert_eq!(budget.reserved_by_all(), 1_000);
        drop((kept, also));
        assert_eq!((one.reserved(), other.reserved()), (0, 0));
        assert_eq!((budget.reserved(), budget.reserved_by_all()), (0, 0));
    }

    #[test]
    fn what_is_set_aside_is_taken_and_not_held() {
        let budget = MemoryBudget::new(1_000);
        let aside = budget.set_aside(Component::Checkpoint, 900).expect("fits");
        assert_eq!((budget.reserved_by_all(), budget.held_by_all()), (900, 0));
        assert!(budget.by_component().all(|(_, bytes)| bytes == 0));
        let refused = budget.buffer(Component::Rollout, 101, 0u8);
        assert!(refused.is_err());
        drop(aside);
        assert_eq!((budget.reserved(), budget.reserved_by_all()), (0, 0));
    }

    #[test]
    fn what_is_mapped_is_listed_beside_the_budget() {
        let directory = tempfile::tempdir().expect("a directory");
        let budget = MemoryBudget::new(100);
        let component = Component::FragmentsMapped;
        let mapped = budget.mapped(component, directory.path(), 200, 1u64);
        let listed = || budget.by_component().find(|one| one.0 == component);
        assert_eq!((budget.reserved(), listed()), (0, Some((component, 1_600))));
        assert_eq!(*mapped.expect("room"), [1; 200]);
        assert_eq!((budget.reserved(), listed()), (0, Some((component, 0))));
        let nowhere = directory.path().join("nowhere");
        let refused = budget.mapped(component, &nowhere, 2, 0u64);
        let said = refused.expect_err("no such directory").to_string();
        let expected = format!("cannot map a file of 16 bytes in {}: ", nowhere.display());
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(listed(), Some((component, 0)));
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
