//! Both overflow rules by hand, and any sequence of pushes and updates against the ledger.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::memory::Storage;

const SHAPE: Shape = Shape {
    steps: 10,
    environments: 4,
    inputs: 2,
    action: 1,
    mask: 3,
};

fn buffer(overflow: Overflow, transitions: usize) -> Fragments {
    let limits = Limits {
        transitions,
        overflow,
        ..Limits::default()
    };
    Fragments::new(&MemoryBudget::new(1 << 24), SHAPE, limits, Storage::Memory).expect("fits")
}

/// The parts of a fragment, each number of which says whose it is.
struct Parts {
    tag: u64,
    version: u64,
    observations: Vec<f32>,
    numbers: Vec<f32>,
    masks: Vec<bool>,
    ends: Vec<End>,
    closings: Vec<f32>,
}

impl Parts {
    fn new(tag: u64, version: u64, ends: &[End]) -> Self {
        let number = |row: usize| tag as f32 * 64.0 + row as f32;
        let rows = ends.len();
        let goes_on = ends.last() == Some(&End::GoesOn);
        let truncated = ends.iter().filter(|end| **end == End::Truncated).count();
        let closings = truncated + usize::from(goes_on);
        Self {
            tag,
            version,
            observations: (0..rows * 2).map(|at| number(at / 2)).collect(),
            numbers: (0..rows).map(number).collect(),
            masks: (0..rows * 3)
                .map(|at| !(at as u64 + tag).is_multiple_of(3))
                .collect(),
            ends: ends.to_vec(),
            closings: (0..closings * 2).map(|at| -number(at / 2)).collect(),
        }
    }

    fn fragment(&self) -> Fragment<'_> {
        Fragment {
            tag: self.tag,
            environment: self.tag % 3,
            seq: self.tag,
            version: self.version,
            observations: &self.observations,
            actions: &self.numbers,
            masks: &self.masks,
            log_probs: &self.numbers,
            rewards: &self.numbers,
            ends: &self.ends,
            closings: &self.closings,
        }
    }
}

fn push(fragments: &mut Fragments, tag: u64, rows: usize) -> (Result<(), Refused>, Vec<u64>) {
    let parts = Parts::new(tag, 1, &vec![End::GoesOn; rows]);
    let mut dropped = Vec::new();
    let pushed = fragments.push(&parts.fragment(), |settled| {
        assert_eq!(settled.fate, Fate::Dropped);
        dropped.push(settled.tag);
    });
    (pushed, dropped)
}

#[test]
fn back_pressure_pauses_at_90_percent_until_an_update_has_made_room() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    for tag in 0..9 {
        assert!(!fragments.is_paused());
        assert_eq!(push(&mut fragments, tag, 10), (Ok(()), vec![]));
    }
    assert!(fragments.is_paused());
    let refused = push(&mut fragments, 9, 1).0.expect_err("is paused");
    assert_eq!(
        refused.to_string(),
        "the buffer is full: 90 of 100 transitions wait for an update"
    );
    assert_eq!(fragments.take(1, |_| ()), 40);
    assert!(
        push(&mut fragments, 9, 1).0.is_err(),
        "room is made at its end"
    );
    fragments.finish(Fate::Trained, |_| ());
    assert_eq!(push(&mut fragments, 9, 1), (Ok(()), vec![]));
    let ledger = fragments.ledger();
    assert_eq!(
        (ledger.accepted, ledger.trained, ledger.pending),
        (91, 40, 51)
    );
}

#[test]
fn at_95_percent_the_oldest_quarter_goes_but_not_what_is_being_learnt_from() {
    let mut fragments = buffer(Overflow::DropOldest, 100);
    for tag in 0..9 {
        assert_eq!(push(&mut fragments, tag, 10), (Ok(()), vec![]));
    }
    assert_eq!(push(&mut fragments, 9, 4), (Ok(()), vec![]), "94 %");
    assert_eq!(push(&mut fragments, 10, 1), (Ok(()), vec![0, 1]), "95 %");
    assert_eq!(fragments.take(1, |_| ()), 40);
    assert_eq!(push(&mut fragments, 11, 20), (Ok(()), vec![6, 7]));
    let ledger = fragments.ledger();
    assert_eq!(
        (ledger.accepted, ledger.dropped, ledger.pending),
        (115, 40, 75)
    );
    // The next that can go is 8, and so on: a long one takes more than a quarter.
    assert_eq!(push(&mut fragments, 12, 40), (Ok(()), vec![8, 9, 10]));
    assert_eq!(push(&mut fragments, 13, 40).1, vec![11, 12]);
    fragments.finish(Fate::Trained, |_| ());
    assert_eq!(fragments.ledger().trained, 40);
}

#[test]
fn what_nobody_changes_is_what_the_design_says() {
    let limits = Limits::default();
    let expected = (100_000, 1, Overflow::Backpressure);
    assert_eq!(
        (limits.transitions, limits.max_policy_lag, limits.overflow),
        expected
    );
}

#[test]
fn back_pressure_pauses_not_before_90_percent() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    for (tag, rows) in [(0, 40), (1, 40), (2, 9)] {
        assert_eq!(push(&mut fragments, tag, rows), (Ok(()), vec![]));
    }
    assert!(!fragments.is_paused(), "89 %");
    assert_eq!(push(&mut fragments, 3, 1), (Ok(()), vec![]));
    assert!(fragments.is_paused(), "90 %");
}

#[test]
fn a_quarter_goes_and_not_more() {
    let mut fragments = buffer(Overflow::DropOldest, 400);
    for tag in 0..94 {
        assert_eq!(push(&mut fragments, tag, 4), (Ok(()), vec![]));
    }
    assert_eq!(push(&mut fragments, 94, 4), (Ok(()), (0..25).collect()));
}

/// There is room for one in four transitions.
#[test]
fn short_fragments_fill_the_buffer_by_their_number() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    for tag in 0..23 {
        assert!(!fragments.is_ready(), "{tag} of 40 transitions");
        assert_eq!(push(&mut fragments, tag, 1), (Ok(()), vec![]));
    }
    assert!(fragments.is_paused() && fragments.is_ready(), "92 %");
    assert_eq!(fragments.take(1, |_| ()), 23);

    let mut fragments = buffer(Overflow::DropOldest, 100);
    for tag in 0..23 {
        assert_eq!(push(&mut fragments, tag, 1), (Ok(()), vec![]));
    }
    assert!(fragments.is_ready() && !fragments.is_paused());
    assert_eq!(push(&mut fragments, 23, 1), (Ok(()), (0..6).collect()));
}

/// And closing observations by theirs.
#[test]
fn many_closings_fill_the_buffer_too() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    let parts = Parts::new(0, 1, &[End::Truncated; 23]);
    assert_eq!(fragments.push(&parts.fragment(), |_| ()), Ok(()));
    assert!(fragments.is_paused());
    let long = Parts::new(0, 1, &[End::Truncated; 26]);
    assert_eq!(
        fragments.admits(&long.fragment()).map_err(|refused| refused.to_string()),
        Err("a fragment of 26 transitions, 26 of them with an observation to close with; at most 40 and 25 can be taken in".to_owned())
    );
}

#[test]
fn what_waits_is_learnt_from_when_the_next_does_not_fit() {
    for ask in [false, true] {
        let limits = Limits {
            transitions: 44,
            ..Limits::default()
        };
        let mut fragments =
            Fragments::new(&MemoryBudget::new(1 << 24), SHAPE, limits, Storage::Memory)
                .expect("fits");
        assert_eq!(push(&mut fragments, 0, 30).0, Ok(()));
        assert!(!fragments.is_ready() && !fragments.is_paused());
        let parts = Parts::new(1, 1, &[End::GoesOn; 15]);
        let full = Refused::Full {
            pending: 30,
            most: 44,
        };
        let refused = if ask {
            fragments.admits(&parts.fragment())
        } else {
            fragments.push(&parts.fragment(), |_| ())
        };
        assert_eq!(refused, Err(full));
        assert!(fragments.is_ready());
        assert_eq!(fragments.take(1, |_| ()), 30);
        fragments.finish(Fate::Trained, |_| ());
        assert_eq!(push(&mut fragments, 1, 15).0, Ok(()));
        assert!(!fragments.is_ready());
    }
}

/// Dropping makes no room that a running update has: nothing is dropped in vain.
#[test]
fn what_is_refused_drops_nothing() {
    let mut fragments = buffer(Overflow::DropOldest, 60);
    for tag in 0..5 {
        assert_eq!(push(&mut fragments, tag, 10).0, Ok(()));
    }
    assert_eq!(fragments.take(1, |_| ()), 40);
    let refused = push(&mut fragments, 5, 21);
    let full = Refused::Full {
        pending: 50,
        most: 60,
    };
    assert_eq!(refused, (Err(full), vec![]));
    assert_eq!(push(&mut fragments, 5, 20), (Ok(()), vec![4]));
    fragments.finish(Fate::Trained, |_| ());
    assert_eq!(push(&mut fragments, 6, 21), (Ok(()), vec![]));
    assert_eq!(fragments.pending().collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn what_is_too_old_when_an_update_begins_is_stale_and_not_learnt_from() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    for (tag, version) in [(0, 4), (1, 3), (2, 5), (3, 2), (4, 6)] {
        let parts = Parts::new(tag, version, &[End::Terminated; 15]);
        assert_eq!(fragments.push(&parts.fragment(), |_| ()), Ok(()));
    }
    let mut settled = Vec::new();
    let taken = fragments.take(5, |one| settled.push((one.tag, one.fate)));
    assert_eq!(
        (taken, &*settled),
        (30, &[(1, Fate::Stale), (3, Fate::Stale)][..])
    );
    fragments.finish(Fate::Trained, |one| settled.push((one.tag, one.fate)));
    assert_eq!(settled[2..], [(0, Fate::Trained), (2, Fate::Trained)]);
    assert_eq!(fragments.take(6, |_| ()), 0, "15 are too few");
}

#[test]
fn what_is_broken_is_refused_with_a_sentence() {
    let mut fragments = buffer(Overflow::Backpressure, 100);
    let whole = Parts::new(1, 1, &[End::GoesOn, End::Truncated, End::GoesOn]);
    let mut sentence = |broken: Fragment<'_>| {
        let refused = fragments.push(&broken, |_| ()).expect_err("is broken");
        assert_eq!(fragments.ledger(), Ledger::default());
        refused.to_string()
    };
    let fragment = whole.fragment();
    assert_eq!(
        sentence(Fragment {
            closings: &[0.0; 2],
            ..fragment
        }),
        "closing observations of a fragment of 3 transitions: expected 4 numbers, found 2"
    );
    assert_eq!(
        sentence(Fragment {
            masks: &[],
            ..fragment
        }),
        "masks of a fragment of 3 transitions: expected 9 numbers, found 0"
    );
    assert_eq!(
        sentence(Fragment {
            log_probs: &[0.0, f32::NAN, 0.0],
            ..fragment
        }),
        "log_probs of a fragment: a number is not finite"
    );
    assert_eq!(
        sentence(Fragment {
            ends: &[],
            ..fragment
        }),
        "a fragment without transitions"
    );
    let long = Parts::new(1, 1, &[End::GoesOn; 41]);
    assert!(sentence(long.fragment()).starts_with("a fragment of 41 transitions, "));
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        ends: Vec<End>,
        older: u64,
    },
    Take,
    Finish(Fate),
    /// Another policy.
    Publish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end =
        prop_oneof![6 => Just(End::GoesOn), 1 => Just(End::Terminated), 1 => Just(End::Truncated)];
    let push = (prop::collection::vec(end, 1..24), 0u64..3)
        .prop_map(|(ends, older)| Step::Push { ends, older });
    let fate = prop_oneof![4 => Just(Fate::Trained), 1 => Just(Fate::Dropped)];
    let step = prop_oneof![8 => push, 2 => Just(Step::Take), 2 => fate.prop_map(Step::Finish), 1 => Just(Step::Publish)];
    prop::collection::vec(step, 1..120)
}

/// What the buffer should hold, and what became of the rest.
#[derive(Default)]
struct Account {
    waiting: BTreeMap<u64, Parts>,
    sums: BTreeMap<u64, (Fate, usize)>,
}

impl Account {
    fn settle(&mut self, one: Settled) {
        let parts = self
            .waiting
            .remove(&one.tag)
            .expect("was waiting: nothing is settled twice");
        assert_eq!(parts.ends.len(), one.transitions);
        self.sums.insert(one.tag, (one.fate, one.transitions));
    }

    fn agrees(&self, fragments: &Fragments) {
        let of = |fate| -> u64 {
            let sums = self.sums.values().filter(|one| one.0 == fate);
            sums.map(|one| one.1 as u64).sum()
        };
        let ledger = fragments.ledger();
        assert_eq!(
            ledger.accepted,
            ledger.trained + ledger.stale + ledger.dropped + ledger.pending
        );
        assert_eq!(ledger.trained, of(Fate::Trained));
        assert_eq!(ledger.stale, of(Fate::Stale));
        assert_eq!(ledger.dropped, of(Fate::Dropped));
        assert_eq!(ledger.pending, fragments.used().transitions as u64);
        assert!(fragments.used().fits(fragments.most()));
        // The same fragments, in order of arrival, and each with its own numbers.
        let store = &fragments.store;
        assert!(fragments.pending().eq(self.waiting.keys().copied()));
        for (entry, parts) in store.entries().iter().zip(self.waiting.values()) {
            let rows = entry.rows();
            let of = |width: usize| rows.start * width..rows.end * width;
            assert_eq!(store.observations[of(2)], parts.observations);
            assert_eq!(store.actions[of(1)], parts.numbers);
            assert_eq!(store.masks[of(3)], parts.masks);
            assert_eq!(store.log_probs[of(1)], parts.numbers);
            assert_eq!(store.rewards[of(1)], parts.numbers);
            assert_eq!(store.ends[of(1)], parts.ends);
            let closings = entry.closings();
            assert_eq!(
                store.closings[closings.start * 2..closings.end * 2],
                parts.closings
            );
        }
    }
}

/// After a restart what waits is pushed again, and the account is the same.
fn restarted(fragments: &Fragments, account: &Account, overflow: Overflow) {
    let mut again = buffer(overflow, 100);
    again.restore(fragments.ledger());
    assert_eq!(again.ledger().pending, 0);
    let mut dropped = 0;
    for parts in account.waiting.values() {
        let pushed = again.push(&parts.fragment(), |one| dropped += one.transitions as u64);
        assert_eq!(pushed, Ok(()), "it was taken in before");
        let Ledger {
            accepted,
            trained,
            stale,
            dropped,
            pending,
        } = again.ledger();
        assert_eq!(accepted, trained + stale + dropped + pending);
    }
    let mut expected = fragments.ledger();
    // What a running update had made room for may not all fit without it.
    assert!(dropped == 0 || overflow == Overflow::DropOldest);
    expected.dropped += dropped;
    expected.pending -= dropped;
    assert_eq!(again.ledger(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_transition_is_somewhere_and_nowhere_twice(steps in steps(), drops in any::<bool>()) {
        let overflow = if drops { Overflow::DropOldest } else { Overflow::Backpressure };
        let mut fragments = buffer(overflow, 100);
        let (mut account, mut version) = (Account::default(), 2);
        for (tag, step) in (0..).zip(steps) {
            match step {
                Step::Push { ends, older } => {
                    let parts = Parts::new(tag, version - older, &ends);
                    let taken: Vec<u64> = fragments.store.entries().iter().filter(|entry| entry.taken).map(|entry| entry.tag).collect();
                    let mut dropped = Vec::new();
                    let before = fragments.ledger();
                    let admits = fragments.admits(&parts.fragment());
                    prop_assert_eq!(fragments.ledger(), before);
                    account.agrees(&fragments);
                    let pushed = fragments.push(&parts.fragment(), |one| dropped.push(one));
                    prop_assert_eq!(admits, pushed);
                    prop_assert!(pushed.is_ok() || dropped.is_empty(), "nothing is dropped in vain");
                    for one in dropped {
                        prop_assert!(drops && one.fate == Fate::Dropped && !taken.contains(&one.tag));
                        let older = |tag: &&u64| **tag < one.tag && !taken.contains(tag);
                        prop_assert_eq!(account.waiting.keys().find(older), None, "the oldest go first");
                        account.settle(one);
                    }
                    if pushed.is_ok() {
                        account.waiting.insert(tag, parts);
                    }
                }
                Step::Take => {
                    let rows = fragments.take(version, |one| {
                        assert_eq!(one.fate, Fate::Stale);
                        assert!(account.waiting[&one.tag].version + MAX_POLICY_LAG < version);
                        account.settle(one);
                    });
                    let taken = fragments.store.entries().iter().filter(|entry| entry.taken);
                    prop_assert_eq!(rows, taken.map(Entry::transitions).sum::<usize>());
                    prop_assert!(rows <= 40);
                    prop_assert!(account.waiting.values().all(|parts| parts.version + MAX_POLICY_LAG >= version));
                }
                Step::Finish(fate) => fragments.finish(fate, |one| {
                    assert_eq!(one.fate, fate);
                    account.settle(one);
                }),
                Step::Publish => version += 1,
            }
            account.agrees(&fragments);
        }
        restarted(&fragments, &account, overflow);
        // However full it is, an update makes room again.
        if fragments.used().transitions > 0 && fragments.is_paused() {
            prop_assert!(fragments.take(0, |_| ()) > 0);
        }
    }
}
