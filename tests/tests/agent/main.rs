//! `tars-agent serve` as its clients meet it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod bad_input;
mod document;
mod gymnasium;
mod handbook;
mod life;
mod limits;
mod memory;
mod restarts;
mod security;
mod spaces;
mod traces;
mod unavailable;
