//! `tars-agent`: proximal policy optimisation (PPO) whose memory is bounded by construction.
//!
//! In the order in which an observation meets them:
//! - [`env`]: what there is to learn.
//! - [`rng`]: the one source of chance.

pub mod env;
pub mod gemm;
pub mod math;
pub mod memory;
pub mod net;
pub mod rng;
pub mod simd;
