//! What the injector hands over, and the proxy makes of it: a URL with a password, probes and hooks, the pods' command lines
//! and variables. One file a subject.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod greeting;
mod handed_over;
mod probes;
