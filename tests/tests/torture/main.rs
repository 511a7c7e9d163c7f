//! Hostile clients, servers, collectors and machines, over raw sockets.
//!
//! Whatever they do: a client sees what it would see without the proxy, byte for byte, or what a lying server said; the proxy does
//! not panic, and what it holds stays below what `docs/operations.md` says; and a bystander, whose messages are traced over another
//! connection meanwhile, notices nothing. [`scene`] holds what they share; then there is one file a kind of attacker.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod admins;
mod closing;
mod collectors;
mod descriptors;
mod endless;
mod floods;
mod frames;
mod handshakes;
mod held;
mod lies;
mod scene;
