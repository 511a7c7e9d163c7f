//! The injector on a real cluster, the one that `KUBECONFIG` names: `make e2e-k8s` brings one up, and what these tests need in it.
//!
//! They are ignored otherwise. docs/kubernetes-tests.md says what a cluster of your own must have.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod cluster;
mod failure;
mod life;
mod manifests;
mod scope;
mod shop;
