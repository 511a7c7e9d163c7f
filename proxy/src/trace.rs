//! What is known of a trace: contexts, spans, and where spans go.

pub mod context;
pub mod export;
pub mod id;
pub mod recent;
pub mod span;
#[cfg(test)]
mod testing;
