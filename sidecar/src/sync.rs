//! What threads share state by. The modules with a protocol of their own take it from here, so that the models in `loom/` can
//! give them loom's types instead.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) use tokio::sync::Notify;
