//! Acceptance-test support.
