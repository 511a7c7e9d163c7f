//! From the start of a proxy to its end: probes, drain, restart. One file a subject.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod drain;
mod handover;
mod readiness;
