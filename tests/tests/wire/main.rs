//! The same bytes to each server directly and through the proxy: what comes back is the same, and replies stay paired with
//! requests. One file a subject; `tars_tests::dialogue` says how it is compared and proved.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod authentication;
mod blocking;
mod client_reply;
mod clients;
mod closing;
mod cluster;
mod families;
mod huge;
mod inline;
mod pipelines;
mod protocol_errors;
mod protocols;
mod pubsub;
mod random;
mod refusals;
mod relays;
mod replies;
mod tracking;
mod transactions;
mod values;
