//! Proxy.
pub mod trace;
