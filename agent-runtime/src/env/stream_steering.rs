//! `stream-steering`: the agent sets the batch size and the number of consumers of a stream, once a second, under changing load. A
//! model, not a measurement: it has what makes the task hard, and no more. `docs/stream-steering.md` tells the same at length.
//!
//! **Load.** Messages arrive at `level · (1 + 0.8 sin 2πt/100) · burst` a second, and as much about that as Poisson arrivals would be
//! (`√rate` times a standard normal number). `level` is drawn for each episode, log-uniformly from 300 to 1,500; `t` begins anywhere in
//! the cycle; a burst doubles the rate, begins with probability 0.01 and ends with 0.1 a second.
//!
//! **Service.** A consumer gathers up to `b` messages, for at most a second, and then takes `f (o + s n)` seconds over the `n` that it
//! has, `o = 20 ms`, `s = 1 ms`; `f = 1 + 0.02 (c − 1)` is what `c` consumers cost each other on the server (the contention term of
//! Gunther's universal scalability law). All of them together serve at most `C = c b / f (o + s b)` messages a second. What is left
//! over is the backlog. A batch is acknowledged as a whole, so that large batches are fast under load, and late without it.
//!
//! **Control.** A consumer that is added reads after 8 seconds, one that is removed stops at once, those still starting first.
//!
//! **Reward.** Minus the lag, minus 0.04 for each consumer, those starting included. The lag is what a message that arrives now has to
//! wait, in seconds, at most 10: while there is a backlog `backlog / C + f (o + s b)`, and else half the time in which a batch is
//! gathered, `min(b c / rate, 1 s) / 2`, and `f (o + s n)`. An episode is truncated after 300 s; it never terminates.

pub mod baseline;

use std::f64::consts::TAU;

use super::{Space, episode::Dynamics};
use crate::rng::Rng;

/// The batch sizes to choose from.
pub const BATCHES: [u16; 5] = [1, 4, 16, 64, 256];
/// The greatest number of consumers; the least is one.
pub const MAX_CONSUMERS: usize = 10;

const LEVEL: (f64, f64) = (300.0, 1500.0);
const SWING: f64 = 0.8;
const PERIOD: f64 = 100.0;
const BURST: f64 = 2.0;
const BURST_BEGINS: f64 = 0.01;
const BURST_ENDS: f64 = 0.1;
const BATCH_SECONDS: f64 = 0.020;
const MESSAGE_SECONDS: f64 = 0.001;
/// How long a consumer waits for a batch to fill.
const GATHER_SECONDS: f64 = 1.0;
const CONTENTION: f64 = 0.02;
const START_SECONDS: usize = 8;
const MAX_LAG: f64 = 10.0;
const CONSUMER_COST: f64 = 0.04;
/// Seconds over which the load that is shown is smoothed.
const SMOOTHING: f64 = 5.0;
/// What loads are divided by to be shown.
const LOAD_UNIT: f64 = 2000.0;

/// What `c` consumers cost each other: the factor by which each is slower.
fn contention(consumers: f64) -> f64 {
    1.0 + CONTENTION * (consumers - 1.0)
}

/// Messages a second that so many consumers serve at most.
#[must_use]
pub fn capacity(consumers: f64, batch: f64) -> f64 {
    consumers * batch / (contention(consumers) * (BATCH_SECONDS + MESSAGE_SECONDS * batch))
}

/// Seconds from a message's arrival to the end of its batch, on average, when so many arrive in a second and none waits longer than it
/// must.
fn batch_seconds(arrivals: f64, consumers: f64, batch: f64) -> f64 {
    let each = arrivals / consumers;
    let gathering = (batch / each).min(GATHER_SECONDS);
    let gathered = (each * gathering).max(1.0);
    gathering / 2.0 + contention(consumers) * (BATCH_SECONDS + MESSAGE_SECONDS * gathered)
}

// Where in the state each number is.
const BACKLOG: usize = 0;
const LEVEL_NOW: usize = 1;
const CLOCK: usize = 2;
const IN_BURST: usize = 3;
const ARRIVALS: usize = 4;
const SMOOTHED: usize = 5;
const ACTIVE: usize = 6;
const BATCH: usize = 7;
const LAG: usize = 8;
/// Consumers that will read in 1, 2, … seconds.
const STARTING: usize = 9;

/// A stream whose consumers are steered.
#[derive(Debug, Default)]
pub(super) struct StreamSteering {
    state: [f64; STARTING + START_SECONDS],
}

impl StreamSteering {
    fn rate(&self) -> f64 {
        let burst = if self.state[IN_BURST] == 1.0 {
            BURST
        } else {
            1.0
        };
        let swing = SWING * (TAU * self.state[CLOCK] / PERIOD).sin();
        self.state[LEVEL_NOW] * (1.0 + swing) * burst
    }

    fn starting(&self) -> f64 {
        self.state[STARTING..].iter().sum()
    }

    /// Starts consumers, or stops some, the youngest first.
    fn scale(&mut self, wanted: f64) {
        let missing = wanted - self.state[ACTIVE] - self.starting();
        if missing > 0.0 {
            self.state[STARTING + START_SECONDS - 1] += missing;
            return;
        }
        let mut surplus = -missing;
        for starting in self.state[STARTING..].iter_mut().rev() {
            let stopped = surplus.min(*starting);
            *starting -= stopped;
            surplus -= stopped;
        }
        self.state[ACTIVE] -= surplus;
    }

    /// A second passes for those that start.
    fn start(&mut self) {
        self.state[ACTIVE] += self.state[STARTING];
        self.state[STARTING..].rotate_left(1);
        self.state[STARTING + START_SECONDS - 1] = 0.0;
    }

    fn arrive(&mut self, rng: &mut Rng) -> f64 {
        let turns = rng.uniform();
        self.state[IN_BURST] = if self.state[IN_BURST] == 1.0 {
            f64::from(u8::from(turns >= BURST_ENDS))
        } else {
            f64::from(u8::from(turns < BURST_BEGINS))
        };
        self.state[CLOCK] = (self.state[CLOCK] + 1.0) % PERIOD;
        let rate = self.rate();
        let arrivals = (rate + rate.sqrt() * rng.normal()).max(0.0);
        self.state[ARRIVALS] = arrivals;
        self.state[SMOOTHED] += (arrivals - self.state[SMOOTHED]) / SMOOTHING;
        arrivals
    }
}

impl Dynamics for StreamSteering {
    const MAX_EPISODE_STEPS: u32 = 300;

    /// In this order: the logarithm of one plus the backlog, over 10; the messages of the last second, and smoothed over 5 seconds,
    /// over 2,000; consumers that read and that start, over 10; the index of the batch size, over 4; the lag, over 10 s; sine and
    /// cosine of the place in the load's cycle.
    fn observation_space(&self) -> Space {
        let far = f32::INFINITY;
        Space::Box {
            low: vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0],
            high: vec![far, far, far, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        }
    }

    /// The index of the batch size, and the number of consumers less one.
    fn action_space(&self) -> Space {
        Space::MultiDiscrete(vec![BATCHES.len(), MAX_CONSUMERS])
    }

    fn begin(&mut self, rng: &mut Rng) {
        let (low, high) = LEVEL;
        self.state = Default::default();
        self.state[LEVEL_NOW] = low * (high / low).powf(rng.uniform());
        self.state[CLOCK] = (rng.uniform() * PERIOD).floor();
        self.state[ACTIVE] = 2.0;
        self.state[BATCH] = 2.0;
        self.state[ARRIVALS] = self.rate();
        self.state[SMOOTHED] = self.rate();
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an action is a small whole number"
    )]
    fn advance(&mut self, action: &[f32], rng: &mut Rng) -> (f64, bool) {
        let chosen = (action[0] as usize).min(BATCHES.len() - 1);
        let wanted = (action[1] as usize).min(MAX_CONSUMERS - 1) + 1;
        self.scale(wanted as f64);
        self.start();
        let arrivals = self.arrive(rng);
        let (batch, active) = (f64::from(BATCHES[chosen]), self.state[ACTIVE]);
        let capacity = capacity(active, batch);
        let backlog = (self.state[BACKLOG] + arrivals - capacity).max(0.0);
        let batch_seconds = if backlog > 0.0 {
            contention(active) * (BATCH_SECONDS + MESSAGE_SECONDS * batch)
        } else {
            batch_seconds(arrivals, active, batch)
        };
        let lag = (backlog / capacity + batch_seconds).min(MAX_LAG);
        self.state[BACKLOG] = backlog;
        self.state[BATCH] = chosen as f64;
        self.state[LAG] = lag;
        let reward = -lag - CONSUMER_COST * (active + self.starting());
        (reward, false)
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "observations are f32"
    )]
    fn observe(&self, observation: &mut [f32]) {
        let (sin, cos) = (TAU * self.state[CLOCK] / PERIOD).sin_cos();
        let consumers = MAX_CONSUMERS as f64;
        let seen = [
            self.state[BACKLOG].ln_1p() / 10.0,
            self.state[ARRIVALS] / LOAD_UNIT,
            self.state[SMOOTHED] / LOAD_UNIT,
            self.state[ACTIVE] / consumers,
            self.starting() / consumers,
            self.state[BATCH] / (BATCHES.len() - 1) as f64,
            self.state[LAG] / MAX_LAG,
            sin,
            cos,
        ];
        for (out, value) in observation.iter_mut().zip(seen) {
            *out = value as f32;
        }
    }

    fn state(&self) -> &[f64] {
        &self.state
    }

    fn state_mut(&mut self) -> &mut [f64] {
        &mut self.state
    }
}

#[cfg(test)]
mod tests;
