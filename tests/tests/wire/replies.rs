//! Random replies of every type, as `redis-protocol` writes them: the client gets exactly these bytes, whatever they answer, and
//! what follows is still paired.

use proptest::collection::{hash_map, hash_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestError, TestRunner};
use redis_protocol::resp2;
use redis_protocol::resp3::encode::complete::encode;
use redis_protocol::resp3::encode::streaming;
use redis_protocol::resp3::types::{
    FrameKind, OwnedAttributes, OwnedFrame, Resp3Frame, VerbatimStringFormat,
};
use tars_tests::dialogue::difference;
use tars_tests::otlp::Collector;
use tars_tests::parrot::Parrot;
use tars_tests::proxy::Proxy;
use tars_tests::resp::encode as command;
use tars_tests::stage;
use tars_tests::wait::PATIENCE;

const CASES: u32 = 400;

/// More than a frame takes beyond what it says of itself.
const ROOM: usize = 64;

/// Values that look like something else.
const TELLING: [&[u8]; 6] = [
    b"\r\n",
    b"$5\r\n",
    b"+QUEUED\r\n",
    b"message",
    b"traceparent",
    b"1-1",
];

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40),
        2 => select(&TELLING[..]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 4_000..9_000),
    ]
}

fn line() -> impl Strategy<Value = String> {
    "[ -~]{0,20}"
}

/// Values without elements: keys of maps are such.
fn scalar(
    attributes: impl Strategy<Value = Option<OwnedAttributes>> + Clone + 'static,
) -> BoxedStrategy<OwnedFrame> {
    let with = move || attributes.clone();
    prop_oneof![
        (blob(), with()).prop_map(|(data, attributes)| OwnedFrame::BlobString { data, attributes }),
        (blob(), with()).prop_map(|(data, attributes)| OwnedFrame::BlobError { data, attributes }),
        (line(), with()).prop_map(|(data, attributes)| OwnedFrame::SimpleString {
            data: data.into(),
            attributes
        }),
        (line(), with())
            .prop_map(|(data, attributes)| OwnedFrame::SimpleError { data, attributes }),
        (any::<bool>(), with())
            .prop_map(|(data, attributes)| OwnedFrame::Boolean { data, attributes }),
        (any::<i64>(), with())
            .prop_map(|(data, attributes)| OwnedFrame::Number { data, attributes }),
        (any::<f64>(), with())
            .prop_map(|(data, attributes)| OwnedFrame::Double { data, attributes }),
        ("-?[0-9]{1,40}", with()).prop_map(|(data, attributes)| OwnedFrame::BigNumber {
            data: data.into(),
            attributes
        }),
        (blob(), with()).prop_map(|(data, attributes)| OwnedFrame::VerbatimString {
            data,
            format: VerbatimStringFormat::Text,
            attributes,
        }),
        Just(OwnedFrame::Null),
    ]
    .boxed()
}

fn plain() -> BoxedStrategy<OwnedFrame> {
    scalar(Just(None))
}

fn attributes() -> BoxedStrategy<Option<OwnedAttributes>> {
    let some = hash_map(plain(), plain(), 0..3).prop_map(Some);
    prop_oneof![4 => Just(None), 1 => some].boxed()
}

fn frame() -> BoxedStrategy<OwnedFrame> {
    scalar(attributes())
        .prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                (vec(inner.clone(), 0..5), attributes())
                    .prop_map(|(data, attributes)| OwnedFrame::Array { data, attributes }),
                (hash_map(plain(), inner, 0..4), attributes())
                    .prop_map(|(data, attributes)| OwnedFrame::Map { data, attributes }),
                (hash_set(plain(), 0..5), attributes())
                    .prop_map(|(data, attributes)| OwnedFrame::Set { data, attributes }),
            ]
        })
        .boxed()
}

fn written(frame: &OwnedFrame) -> Vec<u8> {
    let mut bytes = vec![0; frame.encode_len(false) + ROOM];
    let length = encode(&mut bytes, frame, false).unwrap();
    bytes.truncate(length);
    bytes
}

/// A string whose length nobody says.
fn streamed_string(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; chunks.concat().len() + (chunks.len() + 2) * ROOM];
    let mut end = streaming::encode_start_string(&mut bytes, 0).unwrap();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        end = streaming::encode_string_chunk(&mut bytes, end, chunk).unwrap();
    }
    end = streaming::encode_end_string(&mut bytes, end).unwrap();
    bytes.truncate(end);
    bytes
}

/// An array, set or map of as many elements as come.
fn streamed_aggregate(kind: FrameKind, elements: &[(OwnedFrame, OwnedFrame)]) -> Vec<u8> {
    let sizes = elements
        .iter()
        .map(|(key, value)| key.encode_len(false) + value.encode_len(false) + ROOM);
    let mut bytes = vec![0; sizes.sum::<usize>() + ROOM];
    let mut end = streaming::encode_start_aggregate_type(&mut bytes, 0, kind).unwrap();
    for (key, value) in elements {
        end = match kind {
            FrameKind::Map => streaming::encode_owned_aggregate_type_inner_kv_pair(
                &mut bytes, end, key, value, false,
            ),
            _ => streaming::encode_owned_aggregate_type_inner_value(&mut bytes, end, value, false),
        }
        .unwrap();
    }
    end = streaming::encode_end_aggregate_type(&mut bytes, end).unwrap();
    bytes.truncate(end);
    bytes
}

/// A reply in RESP3, and pushes that come before it.
fn resp3_reply() -> BoxedStrategy<Vec<u8>> {
    let push = vec(frame(), 1..4).prop_map(|data| {
        written(&OwnedFrame::Push {
            data,
            attributes: None,
        })
    });
    let kinds = select(&[FrameKind::Array, FrameKind::Set, FrameKind::Map][..]);
    let reply = prop_oneof![
        8 => frame().prop_map(|frame| written(&frame)),
        1 => vec(blob(), 0..4).prop_map(|chunks| streamed_string(&chunks)),
        1 => (kinds, vec((plain(), frame()), 0..4)).prop_map(|(kind, elements)| streamed_aggregate(kind, &elements)),
    ];
    (
        prop_oneof![3 => Just(Vec::new()), 1 => vec(push, 1..3)],
        reply,
    )
        .prop_map(|(pushes, reply)| [pushes.concat(), reply].concat())
        .boxed()
}

fn resp2_reply() -> BoxedStrategy<Vec<u8>> {
    use resp2::types::{OwnedFrame, Resp2Frame};
    let scalar = prop_oneof![
        line().prop_map(|line| OwnedFrame::SimpleString(line.into())),
        line().prop_map(OwnedFrame::Error),
        any::<i64>().prop_map(OwnedFrame::Integer),
        blob().prop_map(OwnedFrame::BulkString),
        Just(OwnedFrame::Null),
    ];
    let frame = scalar.prop_recursive(4, 24, 5, |inner| {
        vec(inner, 0..5).prop_map(OwnedFrame::Array)
    });
    frame
        .prop_map(|frame| {
            let mut bytes = vec![0; frame.encode_len(false) + ROOM];
            let length = resp2::encode::encode(&mut bytes, &frame, false).unwrap();
            bytes.truncate(length);
            bytes
        })
        .boxed()
}

/// What a reply answers: nothing that the proxy knows, or what it looks into.
const ASKING: &[&[&str]] = &[
    &["SAY", "{}"],
    &["SAY", "{}"],
    &["SPELL", "{}"],
    &["XRANGE", "{}", "-", "+"],
    &["XREAD", "STREAMS", "{}", "0"],
    &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "{}", ">"],
    &["XCLAIM", "{}", "g", "c", "0", "1-1"],
    &["XAUTOCLAIM", "{}", "g", "c", "0", "0"],
    &["XACK", "{}", "g", "1-1"],
    &["XACKDEL", "{}", "g", "IDS", "1", "1-1"],
];

#[derive(Clone, Debug)]
enum Turn {
    Asked(&'static [&'static str], Vec<u8>),
    Message,
}

impl Turn {
    fn any(reply: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Self> {
        let asked = (select(ASKING), reply).prop_map(|(asking, reply)| Self::Asked(asking, reply));
        prop_oneof![4 => asked, 1 => Just(Self::Message)]
    }

    /// What is said, and what is to be heard.
    fn exchange(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Message => (
                command(&["XADD", "s", "1-1", "f", "v"]),
                b"$3\r\n1-1\r\n".to_vec(),
            ),
            Self::Asked(asking, reply) => {
                let fill = |word: &&'static str| match *word {
                    "{}" => reply.clone(),
                    word => word.as_bytes().to_vec(),
                };
                let args: Vec<Vec<u8>> = asking.iter().map(fill).collect();
                (command(&args), reply.clone())
            }
        }
    }
}

/// What is said and what is to be heard, in all.
fn exchange(resp3: bool, multi: bool, turns: &[Turn]) -> (Vec<u8>, Vec<u8>) {
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    if resp3 {
        said.extend(command(&["HELLO", "3"]));
        heard.extend(b"%1\r\n+proto\r\n:3\r\n");
    }
    let (requests, replies): (Vec<_>, Vec<_>) = turns.iter().map(Turn::exchange).unzip();
    if multi {
        said.extend(command(&["MULTI"]));
        heard.extend(b"+OK\r\n");
        heard.extend(b"+QUEUED\r\n".repeat(turns.len()));
        heard.extend(format!("*{}\r\n", turns.len()).bytes());
    }
    said.extend(requests.concat());
    heard.extend(replies.concat());
    if multi {
        said.extend(command(&["EXEC"]));
    }
    (said, heard)
}

#[test]
fn replies() {
    let parrot = Parrot::start();
    let collector = Collector::start();
    let proxy = Proxy::to_url(&parrot.url())
        .args(["--deliver", "*=strip", "--max-metric-names", "8"])
        .otlp_grpc(&collector.grpc())
        .env("OTEL_BSP_SCHEDULE_DELAY", "10")
        .start();
    let case = (any::<bool>(), any::<bool>()).prop_flat_map(|(resp3, multi)| {
        let reply = if resp3 { resp3_reply() } else { resp2_reply() };
        (Just(resp3), Just(multi), vec(Turn::any(reply), 1..8))
    });
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(CASES)
    };
    let result = TestRunner::new(config).run(&case, |(resp3, multi, turns)| {
        let (said, heard) = exchange(resp3, multi, &turns);
        let raw_before = stage::raw_relays(&proxy);
        let mut client = proxy.connect();
        client.send([said, command(&["XADD", "last", "1-1", "f", "v"])].concat());
        let heard = [heard, b"$3\r\n1-1\r\n".to_vec()].concat();
        let got = client.read_exactly(heard.len());
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        if let Some(difference) = difference(&text(&got), &text(&heard)) {
            return Err(TestCaseError::fail(difference));
        }
        prop_assert_eq!(stage::raw_relays(&proxy), raw_before);
        let _ = collector.wait_for(PATIENCE, |spans| {
            let last = spans.iter().find(|span| span.name == "send last");
            last.is_some_and(|span| span.attr("messaging.message.id") == "1-1")
        });
        collector.clear();
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (resp3, multi, turns))) => {
            let (said, heard) = exchange(resp3, multi, &turns);
            panic!(
                "{why}\nsaid: {}\nheard: {}",
                said.escape_ascii(),
                heard.escape_ascii()
            )
        }
        Err(abort) => panic!("{abort}"),
    }
}
