//! Any arguments of an XADD, one a line: what is sent on says the same and carries the context, as redis-protocol reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tars_proxy::chunk::Chunk;
use tars_proxy::request::scan::{Head, Span32, head};
use tars_proxy::request::xadd::{Carried, Source, added_arguments, fields, parse, rewrite};
use tars_proxy::testing::command;
use tars_proxy::trace::context::{SpanContext, TraceState, parse_tracestate};

fn scan(bytes: &[u8]) -> (Vec<Span32>, usize) {
    let Ok(Head::Array {
        header_end,
        mut cursor,
        ..
    }) = head(bytes)
    else {
        panic!("a command")
    };
    let mut args = Vec::new();
    assert_eq!(cursor.walk(bytes, |arg| args.push(arg)), Ok(true));
    assert_eq!(cursor.pos, bytes.len());
    (args, header_end)
}

fn oracle(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Ok(Some((OwnedFrame::Array(frames), length))) = decode(bytes) else {
        panic!("a command")
    };
    assert_eq!(length, bytes.len());
    let text = |frame| match frame {
        OwnedFrame::BulkString(text) => text,
        other => panic!("{other:?}"),
    };
    frames.into_iter().map(text).collect()
}

fuzz_target!(|lines: &[u8]| {
    let given: Vec<&[u8]> = [&b"XADD"[..]]
        .into_iter()
        .chain(lines.split(|&byte| byte == b'\n'))
        .collect();
    let mut bytes = command(&given);
    let (args, header_end) = scan(&bytes);
    let Some(xadd) = parse(&bytes, &args) else {
        return;
    };
    assert!(xadd.fields < given.len() && (given.len() - xadd.fields).is_multiple_of(2));
    let carried = Carried::read(fields(&bytes, &args, xadd));
    assert_eq!(
        carried.context.is_some(),
        matches!(carried.source, Source::Field | Source::Envelope)
    );

    let own = SpanContext::root(true);
    let state = if lines.len().is_multiple_of(2) {
        TraceState::default()
    } else {
        parse_tracestate([&b"k=v"[..]])
    };
    let (length, mut out) = (bytes.len(), Vec::new());
    let mut chunk = Chunk::new(&mut bytes, &mut out);
    let (buf, splice) = chunk.split();
    rewrite(buf, &args, header_end, xadd, &carried, &own, &state, splice);
    let written = chunk.finish(length).to_vec();

    let got = oracle(&written);
    assert_eq!(
        got.len(),
        given.len() + added_arguments(&carried, &state) as usize
    );
    assert_eq!(got[..xadd.fields], given[..xadd.fields]);
    let pairs = got[xadd.fields..].chunks(2);
    assert!(pairs.clone().any(|pair| pair[0] == b"traceparent"));
    assert!(
        pairs
            .clone()
            .filter(|pair| pair[0] == b"traceparent")
            .all(|pair| pair[1] == own.traceparent())
    );
    for (before, after) in given[xadd.fields..].chunks(2).zip(pairs) {
        assert_eq!(before[0], after[0]);
        assert!(before[1] == after[1] || before[0].starts_with(b"trace"));
    }
    let (args, _) = scan(&written);
    let again = Carried::read(fields(
        &written,
        &args,
        parse(&written, &args).expect("still an XADD"),
    ));
    if again.source == Source::Field {
        assert_eq!((again.context, again.state), (Some(own), state));
    }
});
