//! `tars-agent`: proximal policy optimisation (PPO) whose memory is bounded by construction.
//!
//! - [`train`]: the loop, from [`env`](mod@env) through [`observation`], [`net`], [`distribution`] into a [`rollout`], from which [`ppo`] learns.
//! - [`fragments`]: experience that comes from outside, on its way into a rollout.
//! - [`gae`], [`loss`], [`adam`], [`normalise`], [`schedule`]: the formulas, pure functions of slices, each with its source.
//! - [`simd`], [`gemm`], [`math`]: what they are computed with; [`rng`]: the one source of chance; [`memory`]: what may be allocated.
//! - [`hyper`], [`zoo`]: what training is told; [`checkpoint`], [`tensors`]: training as files; [`cli`], [`plot`]: what a person sees of it.

pub mod adam;
pub mod checkpoint;
pub mod cli;
pub mod distribution;
pub mod env;
pub mod fragments;
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
pub mod service;
pub mod simd;
pub mod soak;
pub mod tensors;
pub mod train;
pub mod zoo;
