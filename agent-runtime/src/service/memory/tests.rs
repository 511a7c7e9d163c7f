//! The account of a process whose heap jemalloc has.

use super::*;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is counted with two MiB of the stack in use, below where counting it began.
#[inline(never)]
fn deep_down() -> u64 {
    let used = [1u8; 2 << 20];
    std::hint::black_box(&used);
    Account::take(0).stacks
}

#[test]
fn a_stack_that_is_used_is_counted() {
    let before = Account::take(0).stacks;
    let deep = std::thread::Builder::new().stack_size(4 << 20).spawn(|| {
        count_this_stack(4 << 20);
        deep_down()
    });
    let during = deep.expect("a thread").join().expect("it ends");
    assert!(during >= before + (2 << 20), "{before}, then {during}");
}

#[test]
fn what_is_reserved_is_not_counted_twice() {
    let kept = std::hint::black_box(vec![1u8; 8 << 20]);
    let (all, rest) = (Account::take(0), Account::take(kept.len()));
    assert!(all.heap >= 8 << 20);
    assert!(all.heap - rest.heap > 7 << 20, "{all:?} {rest:?}");
    assert!(all.rss_anon > 8 << 20);
}
