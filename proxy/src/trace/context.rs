//! W3C Trace Context.
