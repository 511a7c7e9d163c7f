//! What is known of a trace: contexts, spans, and where spans go.
pub mod context;
pub mod id;
pub mod span;
