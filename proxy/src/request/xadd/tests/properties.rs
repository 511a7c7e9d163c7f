//! Random commands: what a rewrite keeps, and that nothing panics.

use proptest::prelude::*;

use super::*;

/// Names that mean something among others, and values that do.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(TRACEPARENT.to_vec()),
        1 => Just(TRACESTATE.to_vec()),
        1 => Just(ENVELOPE.to_vec()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..30),
        1 => Just(VALID.as_bytes().to_vec()),
        1 => Just(b"a=1,b=2".to_vec()),
        1 => Just(format!(r#"{{"traceparent":"{OTHER}"}}"#).into_bytes()),
    ]
}

fn options() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let option = prop_oneof![
        Just("NOMKSTREAM"),
        Just("maxlen 5"),
        Just("MAXLEN ~ 5"),
        Just("minid = 1-1"),
        Just("limit 9"),
        Just("KEEPREF"),
        Just("IDMP p *"),
    ];
    prop::collection::vec(option, 0..5).prop_map(|options| {
        options
            .join(" ")
            .split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    })
}

fn xadd() -> impl Strategy<Value = (Vec<Vec<u8>>, usize)> {
    let id = prop_oneof![Just("*"), Just("5"), Just("5-1"), Just("5-*")];
    (
        options(),
        id,
        prop::collection::vec((name(), value()), 1..60),
    )
        .prop_map(|(options, id, pairs)| {
            let mut args = vec![b"XADD".to_vec(), b"s".to_vec()];
            args.extend(options);
            args.push(id.as_bytes().to_vec());
            let fields = args.len();
            args.extend(pairs.into_iter().flat_map(|(name, value)| [name, value]));
            (args, fields)
        })
}

proptest! {
    #[test]
    fn a_rewrite_keeps_all_else((args, fields) in xadd(), stateful in any::<bool>()) {
        let bytes = command(&args);
        let own = context(9);
        let traceparent = own.traceparent().to_vec();
        let state = if stateful { parse_tracestate([&b"k=v"[..]]) } else { TraceState::default() };
        let (spans, _) = scan(&bytes);
        prop_assert_eq!(parse(&bytes, &spans), Some(Xadd { fields, hashes_fields: false }));

        let (out, carried) = rewritten(&bytes, &own, &state);
        let got = texts(&out);
        prop_assert_eq!(&got, &oracle(&out));
        prop_assert_eq!(got.len(), args.len() + added_arguments(&carried, &state) as usize);

        // What it says from now on is the context and nothing else.
        let (spans, _) = scan(&out);
        let again = Carried::read(super::fields(&out, &spans, parse(&out, &spans).unwrap()));
        let times = got[fields..].chunks(2).filter(|pair| pair[0] == TRACEPARENT).count();
        if times == 1 {
            prop_assert_eq!(again.source, Source::Field);
            prop_assert_eq!(again.context, Some(own));
            prop_assert_eq!(again.state.as_str(), state.as_str());
        }

        // Everything else is as it was, and where it was.
        prop_assert_eq!(&got[..fields], &args[..fields]);
        let mut state_left = state.as_str().as_bytes().to_vec();
        for (before, after) in args[fields..].chunks(2).zip(got[fields..].chunks(2)) {
            prop_assert_eq!(&before[0], &after[0]);
            match before[0].as_slice() {
                TRACEPARENT => prop_assert_eq!(&after[1], &traceparent),
                TRACESTATE => prop_assert_eq!(&after[1], &std::mem::take(&mut state_left)),
                _ => prop_assert_eq!(&before[1], &after[1]),
            }
        }
        let mut appended = Vec::new();
        if !args[fields..].chunks(2).any(|pair| pair[0] == TRACEPARENT) {
            appended.extend([TRACEPARENT.to_vec(), traceparent]);
        }
        if !args[fields..].chunks(2).any(|pair| pair[0] == TRACESTATE) && stateful {
            appended.extend([TRACESTATE.to_vec(), state_left]);
        }
        prop_assert_eq!(&got[args.len()..], &appended[..]);
    }

    #[test]
    fn hostile_arguments_never_panic(args in prop::collection::vec(prop_oneof![value(), name(), options().prop_map(|o| o.concat())], 0..12)) {
        let bytes = command([vec![b"XADD".to_vec()], args].concat());
        let (spans, _) = scan(&bytes);
        if let Some(xadd) = parse(&bytes, &spans) {
            let carried = Carried::read(fields(&bytes, &spans, xadd));
            prop_assert!(carried.context.is_some() == matches!(carried.source, Source::Field | Source::Envelope));
            let (out, _) = rewritten(&bytes, &context(1), &TraceState::default());
            prop_assert_eq!(texts(&out), oracle(&out));
        }
    }

    #[test]
    fn hostile_envelopes_never_panic(json in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_envelope(&json);
    }
}
