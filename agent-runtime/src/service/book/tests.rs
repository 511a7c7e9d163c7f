use serde_json::json;

use super::*;
use crate::env::Space;
use crate::fragments::Limits;
use crate::memory::{MemoryBudget, Storage};
use crate::rollout::Shape;
use crate::service::experience::FragmentSpec;
use crate::service::spec::{AgentSpec, Spaces};

/// Transitions of an update, and of a fragment.
const UPDATE: usize = 4;
const ROWS: u64 = 2;

fn spec() -> (AgentSpec, Spaces) {
    let spec: AgentSpec = serde_json::from_value(json!({
        "name": "a", "observation_space": {"type": "Box", "shape": [1]},
        "action_space": {"type": "Discrete", "n": 2},
    }))
    .expect("a specification");
    let spaces = spec.validate().expect("sane");
    (spec, spaces)
}

/// Number `number` of one environment's fragments. An episode has three transitions, each of which earns its number.
fn experience(number: u64) -> Experience {
    let first = number * ROWS;
    let transition = |at: u64| json!({"observation": [0], "action": 0, "log_prob": -0.7, "reward": at, "terminated": at % 3 == 2});
    let fragment = json!({
        "env_id": 0, "seq": first, "policy_version": 0, "next_observation": [0],
        "transitions": (first..first + ROWS).map(transition).collect::<Vec<_>>(),
    });
    let fragment: FragmentSpec = serde_json::from_value(fragment).expect("a fragment");
    let (spec, spaces) = spec();
    fragment.check("fragment", &spec, &spaces).expect("sound")
}

/// What episodes have come of these fragments, all of them accepted in one life.
fn counted(fragments: u64) -> (u64, Vec<f64>) {
    let whole = fragments * ROWS / 3;
    let earned = |episode: u64| (9 * episode + 3) as f64;
    (whole, (0..whole).map(earned).collect())
}

fn of(book: &Book) -> (u64, Vec<f64>) {
    let Progress {
        episodes, returns, ..
    } = &book.progress;
    (*episodes, returns.iter().copied().collect())
}

fn book(progress: Progress, durable: &Durable) -> Book {
    let shape = Shape {
        steps: UPDATE,
        environments: 1,
        inputs: 1,
        action: 1,
        mask: 0,
    };
    let limits = Limits {
        transitions: 64,
        ..Limits::default()
    };
    let budget = MemoryBudget::new(1 << 20);
    let fragments = Fragments::new(&budget, shape, limits, Storage::Memory).expect("fits");
    Book::new(fragments, progress, durable)
}

fn push(book: &mut Book, source: Source, number: u64) {
    let space: Space = spec().1.observation;
    let mut room = Encoded::default();
    book.push(source, &experience(number), &space, &mut room, None)
        .expect("room");
}

/// A book that begins with what a checkpoint would hold of this one.
fn restarted(of: &Book) -> Book {
    book(of.progress.clone(), &of.durable())
}

fn entry(number: u64) -> Source {
    Source::Entry(EntryId {
        milliseconds: number / 3,
        number: number % 3,
    })
}

#[test]
fn episodes_are_counted_once_whatever_waits_when_a_checkpoint_is_written() {
    for source in [Source::Journal, entry] {
        for taken in [false, true] {
            let mut first = book(Progress::default(), &Durable::default());
            for number in 0..5 {
                push(&mut first, source(number), number);
            }
            if taken {
                assert_eq!(first.take(), UPDATE);
                first.finish(Fate::Trained);
            }
            assert_eq!(of(&first), counted(5));
            let mut second = restarted(&first);
            let settled = if taken { 2 } else { 0 };
            for number in settled..5 {
                push(&mut second, source(number), number);
                assert_eq!(of(&second), counted(5), "{number}");
            }
            // In the middle of an episode, it goes on.
            for number in 5..9 {
                push(&mut second, source(number), number);
                assert_eq!(of(&second), counted(number + 1));
            }
        }
    }
}

#[test]
fn what_was_not_read_again_yet_still_waits_by_the_next_checkpoint() {
    let mut first = book(Progress::default(), &Durable::default());
    for number in 0..6 {
        push(&mut first, Source::Journal(number), number);
    }
    let mut second = restarted(&first);
    for number in 0..2 {
        push(&mut second, Source::Journal(number), number);
    }
    assert_eq!(second.take(), UPDATE);
    second.finish(Fate::Trained);
    let durable = second.durable();
    let waits = |number: &u64| !durable.is_settled(*number);
    assert_eq!((0..8).filter(waits).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert_eq!(durable.journal_floor(), 2);
    let mut third = restarted(&second);
    for number in 2..6 {
        push(&mut third, Source::Journal(number), number);
    }
    third.recovered();
    assert_eq!(third.durable().journal_pending, [(2, 5)]);
    assert_eq!(of(&third), counted(6));
}
