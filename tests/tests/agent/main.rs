//! `tars-agent serve` as its clients meet it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod life;
