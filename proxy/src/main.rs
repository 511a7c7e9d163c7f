//! Proxy binary.
fn main() {}
