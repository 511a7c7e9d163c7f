//! `tars-injector`: the mutating admission webhook that puts TARS' sidecars into the pods of labelled namespaces.
//!
//! In the order in which a review meets them:
//!
//! - [`app`], [`cli`]: all wiring; the command line
//! - [`server`], with its [`certificates`]: TLS and HTTP, within bounds
//! - [`webhook`]: `POST /inject`; [`review`]: what the API server asks and is answered
//! - [`inject`]: the decision, a pure function of a pod, what is known of its namespace, and the operator's [`settings`]
//! - [`update`]: a pod that has its sidecar keeps it as it is
//! - [`status`]: what an earlier call changed, and how it is taken back
//! - [`annotations`]: what the pod asks for, under the [`names`] that others rely on
//! - [`variables`]: explicit mode, for which [`address`] reads what says where Redis is
//! - `sidecar`: the containers
//! - [`patch`]: the difference as a JSON Patch
//! - [`pod`]: reading and changing a pod as JSON
//! - [`render`]: the same for manifests, offline
//! - [`kubernetes`]: what is asked of the API server; [`metrics`]

pub mod address;
pub mod annotations;
pub mod app;
pub mod certificates;
pub mod cli;
pub mod inject;
pub mod kubernetes;
pub mod metrics;
pub mod names;
pub mod patch;
pub mod pod;
pub mod render;
pub mod review;
pub mod server;
pub mod settings;
mod sidecar;
pub mod status;
pub mod update;
pub mod variables;
pub mod webhook;
