//! Head-of-line blocking: whether a command that waits in the server keeps others waiting.

use std::time::{Duration, Instant};

use tars_tests::address::Address;
use tars_tests::resp::Client;
use tars_tests::wait::PATIENCE;

use crate::contender::Running;
use crate::load::{self, Load, Pace, Speech};
use crate::measured::Blocking;
use crate::workload::Workload;

/// Requests a second beside it: too few to wait for each other.
const RATE: f64 = 1_000.0;

/// Lets one connection wait in `XREAD BLOCK` for so long while ten others send GET at a fixed rate.
///
/// # Errors
/// If the contender does not pass what is asked of it.
///
/// # Panics
/// If the read does not wait.
pub fn measure(through: &Running, block: Duration) -> Result<Blocking, load::Error> {
    let load = Load {
        speech: Speech::Redis {
            workload: Workload::Get,
            value: 64,
            pipeline: 1,
        },
        connections: 10,
        pace: Pace::Open(RATE),
        warm_up: Duration::ZERO,
        // Those that had to wait are answered after it, and count.
        duration: block * 5 / 4,
        requests: u64::MAX,
    };
    let mut reader = Client::connect(&Address::Tcp(through.address.to_string()));
    reader.give_up_after(PATIENCE);
    let milliseconds = block.as_millis().to_string();
    let mut asked = None;
    let outcome = load::run(through.address, &load, || {
        // The others are connected, and have not sent anything yet.
        asked.get_or_insert_with(|| {
            reader.command(&[
                "XREAD",
                "BLOCK",
                &milliseconds,
                "STREAMS",
                "bench:silent",
                "$",
            ]);
            Instant::now()
        });
    })?;
    assert_eq!(reader.reply(), b"*-1\r\n", "nobody writes to that stream");
    let waited = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
    assert!(waited >= block, "the read waited {waited:?} only");
    Ok(Blocking {
        answered: outcome.requests,
        longest_ms: outcome.latency.max() as f64 / 1e3,
    })
}
