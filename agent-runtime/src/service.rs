//! The service: agents that learn from what others send, and act for them.
//!
//! In the order of a fragment's way:
//!
//! - [`spec`], [`space`]: what an agent is; [`experience`], `numbers`, [`object`]: what is sent to it.
//! - [`ingest`]: takes fragments in, one thread an agent: [`producers`] (each once), [`journal`] (durable before it is acknowledged), then the book.
//! - [`book`]: what waits, and where everything is: accepted = trained + stale + dropped + pending; [`episodes`]: what they earned.
//! - [`learning`]: the thread that updates the policy, writes the checkpoint, and only then publishes; [`history`], [`curve`]: what it said of its updates.
//! - [`policy`]: what acts.
//! - [`need`]: what an agent takes at least; [`memory`]: where every byte is, and what is done before there are too many.
//! - [`agent`]: one of them, whole; [`agents`]: all of them.

pub mod agent;
pub mod agents;
pub mod app;
pub mod book;
pub mod config;
pub mod curve;
pub mod episodes;
pub mod experience;
pub mod history;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod learning;
pub mod memory;
pub mod metrics;
pub mod need;
mod numbers;
pub mod object;
pub mod policy;
pub mod producers;
pub mod space;
pub mod spec;
pub mod streams;
pub mod tracing;
pub mod turns;
