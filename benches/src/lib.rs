//! `tars-bench` measures what stands in front of Redis side by side: proxies and relays, all on this machine, in interleaved rounds.
//!
//! In the order of a run: a [`plan`] names the cases, and what grows; [`run`] starts each [`contender`] in every round and has the [`load`]
//! generator send a [`workload`] through it while [`usage`] looks at its processor time and memory; [`blocking`] and [`linear`] use the
//! same generator for what their names say, and [`act`] for the learner's service, beside a bare axum. What was measured is a [`measured::Run`], of which [`report`] makes tables and pictures.

// A part that is missing, or does not start, ends the run with its reason.
#![allow(clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod act;
pub mod blocking;
pub mod contender;
pub mod count;
pub mod http;
pub mod linear;
pub mod load;
pub mod measured;
pub mod plan;
pub mod replies;
pub mod report;
pub mod run;
pub mod sink;
pub mod usage;
pub mod workload;
