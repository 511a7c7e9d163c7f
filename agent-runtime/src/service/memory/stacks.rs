//! The stacks of threads: which there are, and which of their pages.
//!
//! The kernel may make one mapping of a stack and what lies above it, so that a mapping's figures are not the stack's. `/proc/self/pagemap`
//! (proc_pid_pagemap(5)) says of every single page whether it is there.

use std::cell::OnceCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

/// Threads that are counted at most.
const MOST: usize = 1_024;
/// What lies above the first frames on the same stack: the thread's own variables, and what the C library keeps of it.
const ABOVE: usize = 32 << 10;
/// Of a page in `pagemap`: it is there, and it is of a file or shared.
const PRESENT: u64 = 1 << 63;
const OF_A_FILE: u64 = 1 << 61;

static STACKS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

thread_local! {
    /// Until the thread ends.
    static COUNTED: OnceCell<Counted> = const { OnceCell::new() };
}

/// Where a thread began, and how much its stack may grow below that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    address: usize,
    size: usize,
}

struct Counted(usize);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
        stacks.retain(|stack| stack.address != self.0);
    }
}

/// Counts the stack of this thread, of so many bytes, until it ends. Called first in every thread of the process but the main one, whose stack has a name.
pub fn count_this_stack(size: usize) {
    COUNTED.with(|counted| {
        counted.get_or_init(|| {
            let here = 0u8;
            let address = (&raw const here) as usize;
            let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
            if stacks.len() < MOST {
                stacks.push(Stack { address, size });
            }
            Counted(address)
        });
    });
}

/// Those that are counted.
pub(super) fn counted() -> Vec<Stack> {
    STACKS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Bytes of their pages that are there, given the mappings of the process and how large a page is.
pub(super) fn resident(stacks: &[Stack], mappings: &[Range<usize>], page: usize) -> u64 {
    // Where the kernel does not say, nothing is known.
    let Some(pagemap) = File::open("/proc/self/pagemap").ok().filter(|_| page > 0) else {
        return 0;
    };
    let ranges = stacks.iter().filter_map(|stack| stack.within(mappings));
    let pages = ranges.map(|range| present(&pagemap, range.start / page..range.end.div_ceil(page)));
    pages.sum::<usize>() as u64 * page as u64
}

impl Stack {
    /// Its addresses: below a stack is a page that is no part of its mapping, above it may be anything.
    fn within(&self, mappings: &[Range<usize>]) -> Option<Range<usize>> {
        let mapping = mappings.iter().find(|one| one.contains(&self.address))?;
        let begin = self.address.saturating_sub(self.size).max(mapping.start);
        Some(begin..(self.address + ABOVE).min(mapping.end))
    }
}

/// How many of these pages are there and nobody else's.
fn present(pagemap: &File, pages: Range<usize>) -> usize {
    let mut entries = vec![0u8; pages.len() * 8];
    if pagemap
        .read_exact_at(&mut entries, pages.start as u64 * 8)
        .is_err()
    {
        return 0;
    }
    let entries = entries.as_chunks::<8>().0.iter();
    entries
        .map(|entry| u64::from_ne_bytes(*entry))
        .filter(|entry| entry & PRESENT != 0 && entry & OF_A_FILE == 0)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_a_stack_is_not_of_it() {
        let stack = Stack {
            address: 0x7f_f000,
            size: 0x10_0000,
        };
        let (other, alone, merged) = (0..0x10_0000, 0x70_0000..0x80_0000, 0x70_0000..0xf0_0000);
        assert_eq!(stack.within(&[other.clone(), alone.clone()]), Some(alone));
        assert_eq!(
            stack.within(&[other.clone(), merged]),
            Some(0x70_0000..0x7f_f000 + ABOVE)
        );
        assert_eq!(stack.within(&[other]), None);
    }

    #[test]
    fn the_stack_of_a_thread_that_has_ended_is_none() {
        let thread = std::thread::spawn(|| {
            count_this_stack(2 << 20);
            let here = COUNTED.with(|counted| counted.get().map(|one| one.0));
            (
                here,
                counted().iter().any(|stack| Some(stack.address) == here),
            )
        });
        let (there, during) = thread.join().expect("it ends");
        assert!(during);
        // Another test's thread may have begun at the same place meanwhile.
        let after = counted()
            .iter()
            .filter(|one| Some(one.address) == there)
            .count();
        assert!(after <= 1);
    }
}
