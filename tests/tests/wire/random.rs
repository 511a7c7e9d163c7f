//! Random pipelines of everything that changes framing, and of messages: the same answers wherever what is said is cut, and
//! either paired or a raw relay, never mistaken. A failure is shrunk, and kept in `proptest-regressions`.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestError, TestRunner};
use tars_tests::dialogue::{Cut, Dialogue, difference};
use tars_tests::resp::pipeline;
use tars_tests::server::Kind;
use tars_tests::stage::{self, proved};
use tars_tests::ways::Pool;

/// Pipelines with each server.
const CASES: u32 = 150;

const FRAMING: &[&str] = &[
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
    "SELECT 1",
    "SELECT 0",
    "SELECT 99",
    "WATCH k",
    "UNWATCH",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY ON",
    "CLIENT REPLY OFF",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING OFF",
];

const ORDINARY: &[&str] = &[
    "PUBLISH a message",
    "SPUBLISH a message",
    "PING",
    "PING x",
    "SET k v",
    "GET k",
    "LPUSH k x",
    "LPUSH l x",
    "LRANGE l 0 -1",
    "BLPOP l 0.001",
    "NOSUCH",
    "GET",
    "HSET h f v",
    "HGETALL h",
    "ZADD z 1.5 m",
    "ZRANGE z 0 -1 WITHSCORES",
    "WAIT 0 0",
    "DEBUG PROTOCOL attrib",
    "DEBUG PROTOCOL push",
    "DEBUG PROTOCOL map",
    "EVAL return{1,{2,{3,[[x]]}},false} 0",
    "EVAL return(redis.call([[XLEN]],[[s]])) 0",
    "FLUSHDB",
];

const STREAMS: &[&str] = &[
    "XADD s * f",
    "XADD k 1-1 f v",
    "XADD none NOMKSTREAM 1-1 f v",
    "XGROUP CREATE s g 0 MKSTREAM",
    "XGROUP CREATE s g 0 MKSTREAM",
    "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
    "XREADGROUP GROUP g c STREAMS s >",
    "XREADGROUP GROUP g c STREAMS s 0",
    "XREADGROUP GROUP g d NOACK STREAMS s >",
    "XREADGROUP GROUP none c STREAMS s >",
    "XREAD STREAMS s k 0 0",
    "XREAD COUNT 1 STREAMS s none 0 0",
    "XREAD BLOCK 1 STREAMS none 5-5",
    "XRANGE s - +",
    "XREVRANGE s + - COUNT 2",
    "XACK s g 1-1 2-1 3-1",
    "XCLAIM s g d 0 1-1 2-1 3-1 4-1",
    "XCLAIM s g d 0 1-1 JUSTID",
    "XAUTOCLAIM s g c 0 0",
    "XACKDEL s g IDS 2 1-1 2-1",
    "XDEL s 1-1",
    "XLEN s",
    "DEL s",
];

/// One thing that a client says.
#[derive(Clone, Debug)]
enum Said {
    Command(&'static str),
    /// The same as a line.
    Line(&'static str),
    Message,
    /// What is no command.
    Nothing(&'static str),
}

impl Said {
    fn any() -> impl Strategy<Value = Self> {
        let word =
            || prop_oneof![4 => select(FRAMING), 2 => select(ORDINARY), 3 => select(STREAMS)];
        prop_oneof![
            16 => word().prop_map(Self::Command),
            4 => Just(Self::Message),
            2 => word().prop_map(Self::Line),
            1 => select(&["\r\n", "*0\r\n", "*-1\r\n"][..]).prop_map(Self::Nothing),
        ]
    }

    fn bytes(&self, place: usize) -> Vec<u8> {
        match self {
            Self::Command(words) => pipeline(&[words]),
            Self::Line(line) => format!("{line}\r\n").into_bytes(),
            Self::Message => pipeline(&[&format!("XADD s {}-1 f v", place + 1)]),
            Self::Nothing(bytes) => bytes.as_bytes().to_vec(),
        }
    }
}

fn dialogue(said: &[Said]) -> Dialogue {
    let bytes = said.iter().enumerate().flat_map(|(n, said)| said.bytes(n));
    // Whatever state that was: out of it. The first may be what is skipped.
    let end = pipeline(&["PING", "RESET", "PING"]);
    let bytes: Vec<u8> = bytes.chain(end).collect();
    Dialogue::new().with_client_ids().bytes(bytes)
}

/// A raw relay takes nothing away from the messages that were sent before it became one.
fn without_context(heard: &str) -> String {
    let entry = |count| format!("*{count}\\r\\n$1\\r\\nf\\r\\n$1\\r\\nv\\r\\n");
    let added = format!("{}$11\\r\\ntraceparent\\r\\n$55\\r\\n", entry(4));
    let mut parts = heard.split(&added);
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str(&entry(2));
        all.push_str(part.split_once("\\r\\n").map_or("", |(_, after)| after));
    }
    all
}

#[test]
fn pipelines() {
    let pool = Pool::shared();
    let pipeline = (vec(Said::any(), 1..40), vec(any::<Index>(), 0..6));
    for kind in Kind::ALL {
        let ways = pool.borrow(kind);
        let stage = &ways.stage;
        let paired = Cell::new(0);
        let config = ProptestConfig {
            source_file: Some(file!()),
            ..ProptestConfig::with_cases(CASES)
        };
        let result = TestRunner::new(config).run(&pipeline, |(said, cuts)| {
            let dialogue = dialogue(&said);
            let cuts = cuts.iter().map(|cut| cut.index(dialogue.length()));
            let (expected, _) = dialogue.hold(stage, stage.server.address(), &Cut::Nowhere);
            let before = stage.raw_relays();
            let cuts = Cut::At(cuts.collect());
            let (mut got, client) = dialogue.hold(stage, stage.proxy.address(), &cuts);
            let raw = stage.raw_relays() > before;
            if raw {
                got = without_context(&got);
            }
            if let Some(difference) = difference(&got, &expected) {
                return Err(TestCaseError::fail(difference));
            }
            if !raw {
                let stream = stage.next_proof();
                stage::prove(&mut client.expect("it does not end"), &stream);
                stage.wait_spans(|spans| proved(spans, &stream));
                paired.set(paired.get() + 1);
            }
            stage.collector.clear();
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, (said, cuts))) => panic!("{kind}: {why}\n{said:#?}\n{cuts:?}"),
            Err(abort) => panic!("{kind}: {abort}"),
        }
        let paired = paired.get();
        assert!(
            paired > CASES / 10,
            "{kind}: {paired} of {CASES} are no raw relays"
        );
    }
}
