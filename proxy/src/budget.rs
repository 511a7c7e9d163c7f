//! Memory that all connections of the process share, taken in blocks.
//!
//! A client decides how much it makes the proxy hold: it may send half a message and no more, or commands without end whose
//! replies it does not read. A bound for each connection is not enough, then: ten thousand times what one may need is more
//! than there is.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// What is taken and given back at a time.
const BLOCK: usize = 64 * 1024;

/// What is left for all.
#[derive(Debug)]
pub struct Budget {
    size: usize,
    left: AtomicUsize,
    /// How often there was no room.
    refused: AtomicUsize,
    /// What each may use without asking.
    free: usize,
    /// What one connection may take at most: the others are to have some, too.
    share: usize,
}

impl Budget {
    /// Of as many bytes, of which one connection takes half at most, besides those that are free for each.
    #[must_use]
    pub fn new(bytes: usize, free: usize) -> Self {
        Self {
            size: bytes,
            left: AtomicUsize::new(bytes),
            refused: AtomicUsize::new(0),
            free,
            share: bytes / 2,
        }
    }

    /// What nobody has taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// What connections have taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.size.saturating_sub(self.left())
    }

    /// How often a connection found no room.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let took = |left: usize| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, took)
            .is_ok()
    }

    fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One connection's part.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    used: usize,
    taken: usize,
}

impl Account {
    /// Nothing used.
    #[must_use]
    pub fn of(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            used: 0,
            taken: 0,
        }
    }

    /// Whether as many bytes more may be used. They are set aside until the next [`sub`](Self::sub).
    #[inline]
    pub fn fits(&mut self, bytes: usize) -> bool {
        let wanted = self.used.saturating_add(bytes);
        wanted <= self.budget.free + self.taken || self.take(wanted)
    }

    /// Whether as many bytes in all may be used. They are set aside until the next [`set`](Self::set).
    #[inline]
    pub fn covers(&mut self, bytes: usize) -> bool {
        self.fits(bytes.saturating_sub(self.used))
    }

    /// As many bytes are used.
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// As many bytes are used no more.
    #[inline]
    pub fn sub(&mut self, bytes: usize) {
        self.set(self.used.saturating_sub(bytes));
    }

    /// As many bytes are used from now on, fewer than before or as many as were found to fit.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        self.used = bytes;
        if self.taken > 0 {
            self.give_back();
        }
    }

    /// Whether no more is used than was found to fit.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.used <= self.budget.free + self.taken
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    #[cold]
    fn take(&mut self, wanted: usize) -> bool {
        let Some(taken) = (wanted - self.budget.free).checked_next_multiple_of(BLOCK) else {
            return false;
        };
        let took = taken <= self.budget.share && self.budget.take(taken - self.taken);
        if took {
            self.taken = taken;
        } else {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
        }
        took
    }

    /// Keeps one block more than is needed, so that taking and giving do not take turns.
    #[cold]
    fn give_back(&mut self) {
        let keep = match self.used.checked_sub(self.budget.free) {
            None => 0,
            Some(over) => over.next_multiple_of(BLOCK) + BLOCK,
        };
        if let Some(spare) = self.taken.checked_sub(keep) {
            self.budget.give(spare);
            self.taken = keep;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.give(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: usize = 1000;

    fn two(blocks: usize) -> (Arc<Budget>, Account, Account) {
        let budget = Arc::new(Budget::new(blocks * BLOCK, FREE));
        let (one, other) = (Account::of(budget.clone()), Account::of(budget.clone()));
        (budget, one, other)
    }

    #[test]
    fn a_little_is_free() {
        let (budget, mut one, _) = two(0);
        assert!(one.fits(FREE));
        one.add(FREE);
        assert!(!one.fits(1));
        assert_eq!(budget.left(), 0);
    }

    #[test]
    fn one_takes_half_at_most_and_all_together_no_more_than_there_is() {
        let (budget, mut one, mut other) = two(5);
        assert!(!one.fits(FREE + 3 * BLOCK));
        assert!(one.fits(FREE + 2 * BLOCK));
        one.add(FREE + 2 * BLOCK);
        assert!(other.fits(FREE + 2 * BLOCK));
        assert_eq!(budget.left(), BLOCK);
        let mut third = Account::of(budget.clone());
        assert!(!third.fits(FREE + 2 * BLOCK));
        assert!(third.fits(FREE + 1));
        assert_eq!((budget.left(), budget.taken()), (0, 5 * BLOCK));
        assert_eq!(budget.refused(), 2);
        drop((one, other, third));
        assert_eq!((budget.left(), budget.taken()), (5 * BLOCK, 0));
    }

    #[test]
    fn what_is_not_used_any_more_is_given_back() {
        let (budget, mut one, _) = two(20);
        assert!(one.fits(FREE + 10 * BLOCK));
        one.add(FREE + 10 * BLOCK);
        one.sub(4 * BLOCK);
        assert_eq!(budget.left(), 13 * BLOCK, "one more is kept");
        one.sub(1);
        assert_eq!(budget.left(), 13 * BLOCK);
        one.sub(6 * BLOCK);
        assert_eq!((budget.left(), one.used()), (20 * BLOCK, FREE - 1));
        assert!(!one.fits(usize::MAX));
    }
}
