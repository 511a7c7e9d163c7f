//! Support for the acceptance tests in `tests/tests/`: real servers, the real proxy, real sockets.
//!
//! In the order a test meets them: [`server`] (Redis and Valkey), [`otlp`] (a receiver of spans inside the test) or [`jaeger`]
//! (the real one), [`proxy`] (the binary under test), [`resp`] (a client that sees bytes), [`stage`] (all of these together),
//! [`ways`] (a stage with several proxies), [`dialogue`] and [`family`] (the same bytes over all of these; [`mask`]: what may
//! differ). [`scripted`] is a server that says what it is told to, [`parrot`] one that its client tells, [`liar`] one that lies to
//! some and is honest to others, [`chopper`] one that says it in pieces. [`clients`] are programs that use real client libraries.
//! [`agent`] is the learner as a service, which [`cgroup`] leaves little memory. [`pod`] is a network of the test's own.
//! Below them: [`built`], [`process`], [`port`], [`parts`], [`address`], [`http`], [`tls`], [`wait`].
//!
//! Everything is synchronous, and whatever serves runs outside the test's own thread, so that it is used alike from a plain
//! `#[test]` and from an async one. Whatever a test starts ends with the value that stands for it, and with the test process.
// A failed expectation of a test ends the test: panicking is how that is said.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

pub mod address;
pub mod agent;
pub mod built;
pub mod cgroup;
pub mod chopper;
pub mod clients;
pub mod dialogue;
pub mod family;
pub mod http;
pub mod jaeger;
pub mod liar;
pub mod mask;
pub mod otlp;
pub mod parrot;
pub mod parts;
pub mod pod;
pub mod port;
pub mod process;
pub mod proxy;
pub mod resp;
pub mod scripted;
pub mod server;
pub mod stage;
pub mod tls;
pub mod wait;
pub mod ways;
