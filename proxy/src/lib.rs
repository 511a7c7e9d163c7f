//! A RESP-aware sidecar that carries W3C trace context through Redis Streams.
//!
//! The modules stand in the order in which a byte meets them:
//!
//! - [`config`]: what the proxy was told to do
//! - [`connection`]: one client and one server connection, two pumps
//! - [`chunk`]: bytes between a read and a write
//! - [`greeting`]: what a server is told before the client's first command
//! - [`request`]: commands, and what an XADD gets added
//! - [`inflight`]: requests that wait for their replies
//! - [`budget`]: the memory that they share
//! - [`response`]: replies, and the messages in them
//! - [`deliveries`]: messages that were delivered and are not settled
//! - [`infer`]: which message an XADD without a context may belong to
//! - [`streams`]: what is known of a stream by its key
//! - [`trace`]: contexts, spans, and where spans go
//! - [`intercept`]: transparent mode: which connections come here
//! - [`original`]: transparent mode: where a client was connecting to
//! - [`probe`]: what other processes ask of one that runs
//! - [`metrics`], [`error`], [`socket`], [`tls`], [`upstream`], [`worker`]: what the others use

pub mod app;
pub mod budget;
pub mod chunk;
pub mod cli;
pub mod config;
pub mod connection;
pub mod deliveries;
pub mod error;
pub mod explain;
pub mod greeting;
pub mod infer;
pub mod inflight;
pub mod intercept;
pub mod listener;
pub mod metrics;
pub mod original;
pub mod probe;
pub mod request;
pub mod response;
pub mod socket;
pub mod streams;
mod sync;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod tls;
pub mod trace;
pub mod upstream;
pub mod worker;
