//! `tars-agent`: proximal policy optimisation (PPO) whose memory is bounded by construction.
//!
//! In the order in which an observation meets them:
//! - [`env`]: what there is to learn.
//! - [`rng`]: the one source of chance.

pub mod adam;
pub mod checkpoint;
pub mod cli;
pub mod distribution;
pub mod env;
pub mod gae;
pub mod gemm;
pub mod hyper;
pub mod loss;
pub mod math;
pub mod memory;
pub mod net;
pub mod normalise;
pub mod observation;
pub mod plot;
pub mod ppo;
pub mod rng;
pub mod rollout;
pub mod schedule;
pub mod simd;
pub mod tensors;
pub mod train;
pub mod zoo;
