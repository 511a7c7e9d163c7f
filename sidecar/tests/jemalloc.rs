//! With jemalloc as the global allocator, its gauges are there and follow the heap.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use prometheus::Registry;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn bytes(registry: &Registry, name: &str) -> f64 {
    let name = format!("tars_jemalloc_{name}_bytes");
    let family = registry
        .gather()
        .into_iter()
        .find(|family| family.name() == name)
        .unwrap();
    family.get_metric().first().unwrap().get_gauge().get_value()
}

#[test]
fn gauges_follow_the_heap() {
    const SIZE: usize = 64 << 20;
    let registry = Registry::new();
    tars_sidecar::process::register(&registry).unwrap();
    for name in [
        "allocated",
        "active",
        "resident",
        "metadata",
        "retained",
        "mapped",
    ] {
        bytes(&registry, name);
    }
    let before = bytes(&registry, "allocated");
    let block = black_box(vec![1_u8; SIZE]);
    let during = bytes(&registry, "allocated");
    assert!(bytes(&registry, "resident") >= during);
    drop(block);
    let after = bytes(&registry, "allocated");
    let (grown, shrunk) = (during - before, during - after);
    let size = 64.0 * 1024.0 * 1024.0;
    assert!(
        (size..size * 1.1).contains(&grown),
        "{grown} more for {SIZE} bytes"
    );
    assert!(
        (size * 0.9..size * 1.1).contains(&shrunk),
        "{shrunk} less for {SIZE} bytes"
    );
}
