//! Random sequences of everything that changes framing: the same answers, and either paired or a raw relay, never mistaken.

use tars_tests::dialogue::{Cut, Dialogue};
use tars_tests::server::Kind;
use tars_tests::stage::{Stage, proved};

/// Dialogues with each server.
const DIALOGUES: u64 = 60;

/// Commands of one dialogue.
const COMMANDS: usize = 25;

const WORDS: [&str; 44] = [
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "HELLO 2",
    "HELLO 3",
    "HELLO 3",
    "HELLO 9",
    "RESET",
    "SUBSCRIBE a b",
    "SUBSCRIBE a",
    "PSUBSCRIBE a*",
    "SSUBSCRIBE a",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE a",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "PUBLISH a message",
    "SPUBLISH a message",
    "PING",
    "PING x",
    "SET k v",
    "GET k",
    "LPUSH k x",
    "NOSUCH",
    "GET",
    "HSET h f v",
    "HGETALL h",
    "SELECT 1",
    "SELECT 0",
    "WATCH k",
    "UNWATCH",
    "XADD s * f",
    "XADD k 1-1 f v",
    "XREADGROUP GROUP g c STREAMS none >",
    "XREAD BLOCK 1 STREAMS none 5-5",
    "XACK s g 1-1",
    "XLEN s",
    "XAUTOCLAIM s g c 0 0",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY ON",
    "DEBUG PROTOCOL attrib",
];

/// A multiplicative generator: the same dialogues in every run.
fn dialogue(seed: u64) -> Dialogue {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut commands = Vec::new();
    for n in 1..=COMMANDS {
        match next(5) {
            0 => commands.push(format!("XADD s {n}-1 f v")),
            _ => commands.push(WORDS[next(WORDS.len())].to_owned()),
        }
    }
    // Whatever state that was: out of it. The first may be what is skipped.
    commands.extend(["PING", "RESET", "PING"].map(str::to_owned));
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    Dialogue::new().with_client_ids().commands(&commands)
}

#[test]
fn random_dialogues() {
    for kind in Kind::ALL {
        let stage = Stage::configured(kind, |proxy| proxy.args(["--deliver", "*=strip"]));
        let mut paired = Vec::new();
        for seed in 1..=DIALOGUES {
            let dialogue = dialogue(seed);
            let expected = dialogue.expected(&stage);
            let before = stage.raw_relays();
            let stream = dialogue.compare(&stage, &stage.proxy, &expected, Cut::Nowhere);
            if stage.raw_relays() == before {
                paired.push((seed, stream.unwrap()));
            }
        }
        assert!(
            paired.len() > 10,
            "{kind}: {} of {DIALOGUES} are no raw relays",
            paired.len()
        );
        stage.settle_spans();
        let spans = stage.collector.spans();
        let lost: Vec<_> = paired
            .iter()
            .filter(|(_, stream)| !proved(&spans, stream))
            .collect();
        assert!(
            lost.is_empty(),
            "{kind}: not paired, though not raw: {lost:?}"
        );
    }
}
