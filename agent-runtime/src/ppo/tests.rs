//! The update.
