//! Whole conversations: random pipelines, a server that answers them, and any split of both directions.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::testing::seed;
use crate::testing::server::{Mode, Server, parse};
use crate::trace::context::SpanContext;

/// Commands of one connection, with the bytes that a client writes for them.
fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let words = |words: &'static [&'static str]| prop::sample::select(words).prop_map(line);
    let fields = prop::collection::vec(
        ("[a-z]{0,3}", prop::collection::vec(any::<u8>(), 0..8)),
        1..4,
    );
    let xadd = (
        "(xadd|XADD)",
        "[st]",
        prop_oneof![
            Just("*"),
            Just("NOMKSTREAM *"),
            Just("MAXLEN ~ 100 *"),
            Just("7-7"),
            Just("WRONG"),
            Just("x-x")
        ],
        fields,
    )
        .prop_map(|(name, key, id, fields)| {
            let mut args = vec![name.into_bytes(), key.into_bytes()];
            args.extend(id.split(' ').map(|word| word.as_bytes().to_vec()));
            args.extend(
                fields
                    .into_iter()
                    .flat_map(|(name, value)| [name.into_bytes(), value]),
            );
            command(args)
        });
    prop_oneof![
        6 => xadd,
        2 => words(&["PING", "SET a b", "LRANGE a 0 1", "NOSUCH", "CLIENT SETNAME x", "SELECT 1", "GET 0"]),
        1 => (0..3000u32).prop_map(|n| line(&format!("GET {n}"))),
        4 => words(&[
            "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
            "XREADGROUP GROUP g c COUNT 3 STREAMS s t > >",
            "XREADGROUP GROUP h c COUNT 2 STREAMS t >",
            "XREADGROUP GROUP g c COUNT 9 STREAMS s 0",
            "XREAD STREAMS s 0",
            "XRANGE s - +",
            "XAUTOCLAIM s g d 0 0",
        ]),
        2 => words(&["XACK s g 1-0 2-0 3-0", "XACK t g 4-0", "XACK t h 2-0", "XACK s g x"]),
        4 => words(&["MULTI", "EXEC", "EXEC", "DISCARD", "WATCH a", "RESET"]),
        2 => words(&["HELLO 2", "HELLO 3", "HELLO 3", "HELLO 9", "HELLO"]),
        2 => words(&["SUBSCRIBE a b", "SUBSCRIBE a", "UNSUBSCRIBE", "UNSUBSCRIBE a c", "PSUBSCRIBE p", "PUNSUBSCRIBE", "SUBSCRIBE"]),
        2 => words(&["CLIENT REPLY SKIP", "CLIENT REPLY OFF", "CLIENT REPLY ON", "client reply skip"]),
        1 => prop::sample::select(vec!["PING\r\n", "xadd s * inline 1\n", "  \r\n", "*0\r\n", "*-3\r\n", "XREAD STREAMS s 0\r\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn cut(bytes: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(bytes.len() + 1))
        .chain([0, bytes.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| bytes[pair[0]..pair[1]].to_vec())
        .collect()
}

/// Brings a connection back to where an XADD is answered with its ID.
fn settle_down(server: &Server) -> Vec<&'static str> {
    let mut words = Vec::new();
    if server.multi.is_some() {
        words.push("EXEC");
    }
    match server.reply {
        Mode::Skip | Mode::SkipNext => words.push("PING"),
        Mode::Off => words.push("CLIENT REPLY ON"),
        Mode::On => {}
    }
    words.extend(["UNSUBSCRIBE", "PUNSUBSCRIBE"]);
    words
}

/// The context that a stored message carries.
fn stored(fields: &[Vec<u8>]) -> Option<SpanContext> {
    fields
        .chunks(2)
        .find(|pair| pair[0] == b"traceparent")
        .and_then(|pair| parse_traceparent(&pair[1]))
}

/// All commands of these bytes.
fn commands(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut at, mut all) = (0, Vec::new());
    while let Some((args, length)) = parse(&bytes[at..]) {
        at += length;
        if !args.is_empty() {
            all.push(args);
        }
    }
    assert_eq!(at, bytes.len());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Replies pair with requests whatever came before: each message's span says its ID, and the one sent last is
    /// answered as the one sent last.
    #[test]
    fn replies_pair_with_requests(
        pipeline in prop::collection::vec(any_command(), 1..25),
        up in prop::collection::vec(any::<Index>(), 0..6),
        down in prop::collection::vec(any::<Index>(), 0..3),
        unasked in any::<bool>(),
    ) {
        let world = World::default();
        let (mut link, mut server) = (world.connect(), Server::default());
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut converse = |link: &mut Link, server: &mut Server, bytes: &[u8]| {
            for piece in cut(bytes, &up) {
                sent.extend_from_slice(&piece);
                let forwarded = link.client(&piece);
                let mut reply = server.answer(&forwarded);
                to_server.extend_from_slice(&forwarded);
                if unasked && !server.channels.is_empty() && server.reply == Mode::On && server.multi.is_none() {
                    reply.extend_from_slice(&server.message());
                }
                for piece in cut(&reply, &down) {
                    to_client.extend_from_slice(&link.server(&piece));
                }
                answered.extend_from_slice(&reply);
            }
        };
        converse(&mut link, &mut server, &pipeline.concat());
        for words in settle_down(&server) {
            converse(&mut link, &mut server, &line(words));
        }
        let key = "sentinel";
        converse(&mut link, &mut server, &line(&format!("XADD {key} * f v")));
        prop_assert_eq!(link.kept(), 0);

        // Nothing is lost, added or changed on the way, but for what messages got.
        prop_assert!(to_client == answered, "what the client reads is what the server wrote");
        let (before, after) = (commands(&sent), commands(&to_server));
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            prop_assert_eq!(before, &after[..before.len()]);
            let added = &after[before.len()..];
            prop_assert!(added.is_empty() || (before[0].eq_ignore_ascii_case(b"XADD") && added[0] == b"traceparent" && added.len() == 2));
        }

        let spans = world.spans();
        let (raw, raw_up) = (link.raw(), link.raw_up());
        let mut contexts = HashMap::new();
        for (stream, messages) in &server.streams {
            for (id, fields) in messages {
                contexts.insert((String::from_utf8(stream.clone()).unwrap(), *id), stored(fields));
            }
        }
        let mut ids = 0;
        for span in spans.iter().filter(|span| span.operation == Operation::Send) {
            if let Some(id) = span.message {
                ids += 1;
                prop_assert_eq!(contexts[&(span.stream.to_string(), id)], Some(span.context));
            }
        }
        for span in spans.iter().filter(|span| matches!(span.operation, Operation::Process | Operation::Receive)) {
            let context = contexts[&(span.stream.to_string(), span.message.unwrap())];
            prop_assert_eq!(span.parent, context.map(|context| context.span_id));
        }
        if raw.is_none() && !raw_up {
            prop_assert!(link.cx.inflight.is_empty(), "every reply was awaited");
            let sentinel = spans.iter().find(|span| &*span.stream == key).unwrap();
            prop_assert_eq!(sentinel.message, Some(server.streams[key.as_bytes()][0].0));
            prop_assert_eq!(&sentinel.outcome, &Outcome::Done);
            prop_assert!(link.requests().is_between() && link.replies().is_between());
            let silent = before.iter().any(|args| args[0].eq_ignore_ascii_case(b"CLIENT") && args[1].eq_ignore_ascii_case(b"REPLY"));
            if !silent {
                let injected = contexts.values().flatten().count();
                prop_assert_eq!(ids, injected, "every message has its span");
            }
        }
    }

    /// The same bytes and the same spans, however both directions are cut.
    #[test]
    fn any_split_equals_whole(
        pipeline in prop::collection::vec(any_command(), 1..20),
        up in prop::collection::vec(any::<Index>(), 0..8),
        down in prop::collection::vec(any::<Index>(), 0..8),
        deliver in prop::sample::select(vec![DeliverRule::Keep, DeliverRule::Propagate, DeliverRule::Strip]),
        relation in prop::sample::select(vec![Relation::Parent, Relation::Link]),
    ) {
        let rules = Rules { relation, deliver: vec![Override { pattern: "*".parse().unwrap(), value: deliver }], ..Rules::default() };
        let run = |up: &[Index], down: &[Index]| {
            seed(1);
            let world = with_rules(rules.clone());
            let mut link = world.connect();
            let to_server: Vec<u8> = cut(&pipeline.concat(), up).iter().flat_map(|piece| link.client(piece)).collect();
            let reply = Server::default().answer(&to_server);
            let to_client: Vec<u8> = cut(&reply, down).iter().flat_map(|piece| link.server(piece)).collect();
            link.close();
            let mut spans = world.spans();
            world.worker.shared.deliveries.lock().drain(link.cx.now.get(), &mut spans);
            (to_server, to_client, format!("{spans:#?}"), link.raw(), reply)
        };
        let (whole, split) = (run(&[], &[]), run(&up, &down));
        prop_assert!(whole.0 == split.0, "to the server");
        prop_assert!(whole.1 == split.1, "to the client");
        prop_assert_eq!(whole.2, split.2);
        prop_assert_eq!(whole.3, split.3);
        if deliver == DeliverRule::Keep {
            prop_assert!(whole.1 == whole.4);
        }
        prop_assert!(deliver == DeliverRule::Strip || whole.1.len() == whole.4.len());
    }

    /// What a reader gets under `strip` is what a writer wrote.
    #[test]
    fn strip_undoes_inject(
        messages in prop::collection::vec(prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..12)), 1..6), 1..5),
        resp3 in any::<bool>(),
        down in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let with = delivering(DeliverRule::Strip);
        let mut pipeline = if resp3 { line("HELLO 3") } else { Vec::new() };
        for fields in &messages {
            let fields = fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
            pipeline.extend(command([b"XADD".to_vec(), b"s".to_vec(), b"*".to_vec()].into_iter().chain(fields)));
        }
        for words in ["XRANGE s - +", "XREADGROUP GROUP g c COUNT 9 STREAMS s >", "XREAD STREAMS s 0", "MULTI", "XAUTOCLAIM s g d 0 0", "EXEC"] {
            pipeline.extend(line(words));
        }
        let mut link = with.connect();
        let injected = link.client(&pipeline);
        prop_assert!(injected.len() > pipeline.len());
        let reply = Server::default().answer(&injected);
        let got: Vec<u8> = cut(&reply, &down).iter().flat_map(|piece| link.server(piece)).collect();
        prop_assert!(got == Server::default().answer(&pipeline));
    }

    /// Without XADD and without rules, bytes pass as they are, whatever they are.
    #[test]
    fn passthrough_is_identity(
        requests in prop::collection::vec(prop_oneof![
            6 => any_command().prop_filter("no XADD", |bytes| !bytes.windows(4).any(|word| word.eq_ignore_ascii_case(b"xadd"))),
            1 => prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), any::<u8>()], 0..20),
        ], 0..12),
        replies in prop::collection::vec(hostile_reply(), 0..20),
        up in prop::collection::vec(any::<Index>(), 0..8),
        down in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let world = World::default();
        let mut link = world.connect();
        let (requests, replies) = (requests.concat(), replies.concat());
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let (up, down) = (cut(&requests, &up), cut(&replies, &down));
        for turn in 0..up.len().max(down.len()) {
            to_server.extend(up.get(turn).map(|piece| link.client(piece)).unwrap_or_default());
            to_client.extend(down.get(turn).map(|piece| link.server(piece)).unwrap_or_default());
        }
        let (up, down) = link.half_done();
        prop_assert!([&to_server[..], up].concat() == requests);
        prop_assert!([&to_client[..], down].concat() == replies);
        link.close();
        prop_assert!(link.cx.inflight.is_empty());
    }

    /// A server that lies costs no more than one message's room, and no panic.
    #[test]
    fn a_hostile_server_is_bounded(
        requests in prop::collection::vec(any_command(), 0..12),
        replies in prop::collection::vec(hostile_reply(), 0..60),
        pieces in 1..40usize,
    ) {
        let limits = Limits { max_message_bytes: 500, max_deliveries: 10, ..Limits::default() };
        let world = limited(limits, InferParent::Process);
        let mut link = world.connect();
        link.client(&requests.concat());
        for piece in replies.concat().chunks(pieces) {
            link.server(piece);
            prop_assert!(link.kept() <= MAX_HELD_REPLY + 500 + requests.concat().len());
            prop_assert!(world.worker.shared.deliveries.lock().len() <= 10);
        }
        link.close();
    }
}

/// What a server could send, and what it could not.
fn hostile_reply() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "+OK\r\n",
        "+QUEUED\r\n",
        "+QUE",
        "-ERR no\r\n",
        "-NOAUTH no\r\n",
        ":1\r\n",
        "$3\r\n1-1\r\n",
        "$-1\r\n",
        "_\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*1\r\n",
        "*2\r\n",
        "%1\r\n",
        "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$1\r\na\r\n*0\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n*2\r\n$3\r\n1-2\r\n*-1\r\n",
        "%1\r\n$1\r\ns\r\n*1\r\n*4\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:1\r\n:2\r\n",
        "*3\r\n$3\r\n0-0\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n*0\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
        "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
        ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:9223372036854775807\r\n",
        ">3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:9223372036854775807\r\n",
        ">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:9223372036854775807\r\n",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
        ">2\r\n$10\r\ninvalidate\r\n_\r\n",
        "|1\r\n+a\r\n:1\r\n",
        "*?\r\n",
        ".\r\n",
        "$?\r\n",
        ";1\r\na\r\n",
        "$1000\r\n",
        "*1099511627776\r\n",
        "!5\r\nERR x\r\n",
    ]);
    prop_oneof![
        12 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
        1 => Just(vec![b'x'; 600]),
    ]
}
