//! A RESP-aware sidecar that carries W3C trace context through Redis Streams.
//!
//! The modules stand in the order in which a byte meets them.

pub mod app;
pub mod cli;
pub mod config;
pub mod explain;
pub mod trace;
