//! Where fragments lie: row after row in order of arrival, without gaps. Whatever leaves, the rest moves up: an update's worth of copying costs a
//! small part of the update, and every fragment is one slice.
//!
//! Numbers lie where [`Storage`] says; marks of a byte (masks, ends) and the list of fragments in memory always.

use std::ops::Range;

use super::{End, Fragment, Refused, Size};
use crate::memory::{Buffer, Component, MemoryBudget, NoRoom, Storage};
use crate::rollout::Shape;

/// A fragment that lies here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) tag: u64,
    pub(super) environment: u64,
    pub(super) seq: u64,
    pub(super) version: u64,
    /// The running update learns from it.
    pub(super) taken: bool,
    row: u32,
    transitions: u32,
    closing: u32,
    closings: u32,
}

impl Entry {
    pub(super) fn transitions(&self) -> usize {
        self.transitions as usize
    }

    /// Its rows among the transitions.
    pub(super) fn rows(&self) -> Range<usize> {
        let row = self.row as usize;
        row..row + self.transitions as usize
    }

    /// Its rows among the closing observations.
    pub(super) fn closings(&self) -> Range<usize> {
        let closing = self.closing as usize;
        closing..closing + self.closings as usize
    }

    /// The number in its environment of what comes after it.
    pub(super) fn next_seq(&self) -> u64 {
        self.seq.wrapping_add(u64::from(self.transitions))
    }

    /// It goes on where this one ends.
    pub(super) fn follows(&self, before: &Self) -> bool {
        self.environment == before.environment && self.seq == before.next_seq()
    }

    pub(super) fn size(&self) -> Size {
        Size {
            transitions: self.transitions as usize,
            closings: self.closings as usize,
            fragments: 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    shape: Shape,
    most: Size,
    used: Size,
    entries: Buffer<Entry>,
    pub(super) observations: Buffer<f32>,
    pub(super) actions: Buffer<f32>,
    pub(super) masks: Buffer<bool>,
    pub(super) log_probs: Buffer<f32>,
    pub(super) rewards: Buffer<f32>,
    pub(super) ends: Buffer<End>,
    pub(super) closings: Buffer<f32>,
}

impl Store {
    pub(super) fn new(
        budget: &MemoryBudget,
        shape: Shape,
        most: Size,
        storage: Storage<'_>,
    ) -> Result<Self, NoRoom> {
        let rows = most.transitions;
        let numbers = |len: usize| -> Result<Buffer<f32>, NoRoom> {
            Ok(match storage {
                Storage::Memory => budget.buffer(Component::Fragments, len, 0.0)?,
                Storage::Mapped(at) => budget.mapped(Component::FragmentsMapped, at, len, 0.0)?,
            })
        };
        Ok(Self {
            shape,
            most,
            used: Size::default(),
            entries: budget.buffer(Component::Fragments, most.fragments, Entry::default())?,
            observations: numbers(rows * shape.inputs)?,
            actions: numbers(rows * shape.action)?,
            masks: budget.buffer(Component::Fragments, rows * shape.mask, true)?,
            log_probs: numbers(rows)?,
            rewards: numbers(rows)?,
            ends: budget.buffer(Component::Fragments, rows, End::GoesOn)?,
            closings: numbers(most.closings * shape.inputs)?,
        })
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn used(&self) -> Size {
        self.used
    }

    pub(super) fn most(&self) -> Size {
        self.most
    }

    /// Whether an episode ends with the last transition of a fragment.
    pub(super) fn ends_episode(&self, entry: &Entry) -> bool {
        self.ends[entry.rows()].last() != Some(&End::GoesOn)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries[..self.used.fragments]
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries[..self.used.fragments]
    }

    /// How much room a fragment takes, if its parts belong together.
    pub(super) fn check(&self, fragment: &Fragment<'_>) -> Result<Size, Refused> {
        let Shape {
            inputs,
            action,
            mask,
            ..
        } = self.shape;
        let transitions = fragment.rewards.len();
        let goes_on = match fragment.ends.last() {
            None => return Err(Refused::Empty),
            Some(end) => *end == End::GoesOn,
        };
        let truncated = fragment.ends.iter().filter(|end| **end == End::Truncated);
        let closings = truncated.count() + usize::from(goes_on);
        for (part, expected, found) in [
            ("ends", transitions, fragment.ends.len()),
            ("log_probs", transitions, fragment.log_probs.len()),
            (
                "observations",
                transitions * inputs,
                fragment.observations.len(),
            ),
            ("actions", transitions * action, fragment.actions.len()),
            ("masks", transitions * mask, fragment.masks.len()),
            (
                "closing observations",
                closings * inputs,
                fragment.closings.len(),
            ),
        ] {
            if expected != found {
                return Err(Refused::Shape {
                    part,
                    transitions,
                    expected,
                    found,
                });
            }
        }
        for (part, numbers) in [
            ("rewards", fragment.rewards),
            ("log_probs", fragment.log_probs),
            ("observations", fragment.observations),
            ("actions", fragment.actions),
            ("closing observations", fragment.closings),
        ] {
            if numbers.iter().any(|x| !x.is_finite()) {
                return Err(Refused::NotFinite(part));
            }
        }
        Ok(Size {
            transitions,
            closings,
            fragments: 1,
        })
    }

    /// Puts a fragment, which was checked and fits, behind the others.
    #[allow(clippy::cast_possible_truncation, reason = "within the limits")]
    pub(super) fn append(&mut self, fragment: &Fragment<'_>, size: Size) {
        let Shape {
            inputs,
            action,
            mask,
            ..
        } = self.shape;
        let entry = Entry {
            tag: fragment.tag,
            environment: fragment.environment,
            seq: fragment.seq,
            version: fragment.version,
            taken: false,
            row: self.used.transitions as u32,
            transitions: size.transitions as u32,
            closing: self.used.closings as u32,
            closings: size.closings as u32,
        };
        let (row, closing) = (self.used.transitions, self.used.closings);
        put(&mut self.observations, row * inputs, fragment.observations);
        put(&mut self.actions, row * action, fragment.actions);
        put(&mut self.masks, row * mask, fragment.masks);
        put(&mut self.log_probs, row, fragment.log_probs);
        put(&mut self.rewards, row, fragment.rewards);
        put(&mut self.ends, row, fragment.ends);
        put(&mut self.closings, closing * inputs, fragment.closings);
        self.entries[self.used.fragments] = entry;
        self.used = self.used.plus(size);
    }

    /// Keeps those of which `keep` says so, in their order.
    #[allow(clippy::cast_possible_truncation, reason = "within the limits")]
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        let mut used = Size::default();
        for at in 0..self.used.fragments {
            let mut entry = self.entries[at];
            if !keep(&entry) {
                continue;
            }
            if used.fragments < at {
                self.move_up(entry, used);
                entry.row = used.transitions as u32;
                entry.closing = used.closings as u32;
                self.entries[used.fragments] = entry;
            }
            used = used.plus(entry.size());
        }
        self.used = used;
    }

    fn move_up(&mut self, entry: Entry, to: Size) {
        let Shape {
            inputs,
            action,
            mask,
            ..
        } = self.shape;
        let (rows, row) = (entry.rows(), to.transitions);
        shift(&mut self.observations, rows.clone(), row, inputs);
        shift(&mut self.actions, rows.clone(), row, action);
        shift(&mut self.masks, rows.clone(), row, mask);
        shift(&mut self.log_probs, rows.clone(), row, 1);
        shift(&mut self.rewards, rows.clone(), row, 1);
        shift(&mut self.ends, rows, row, 1);
        shift(&mut self.closings, entry.closings(), to.closings, inputs);
    }
}

fn put<T: Copy>(to: &mut [T], at: usize, from: &[T]) {
    to[at..][..from.len()].copy_from_slice(from);
}

fn shift<T: Copy>(data: &mut [T], rows: Range<usize>, to: usize, width: usize) {
    data.copy_within(rows.start * width..rows.end * width, to * width);
}
