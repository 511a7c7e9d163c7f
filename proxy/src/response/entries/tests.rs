#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// What a walk finds: keys, and the entries as bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    keys: Vec<Vec<u8>>,
    entries: Vec<Vec<u8>>,
}

/// Walks a reply that arrives in pieces cut at `cuts`, as `response.rs` does. Returns what was found and where the reply
/// ended; none if it did not.
fn walk(shape: Shape, bytes: &[u8], cuts: &[usize]) -> Result<Option<(Found, usize)>, Foreign> {
    let (mut walk, mut skim, mut found) = (Walk::new(shape), Skim::default(), Found::default());
    let (mut at, mut held, mut in_entry, mut finishing) = (0, 0, false, false);
    for end in cuts.iter().copied().chain([bytes.len()]) {
        loop {
            let buf = bytes.get(at..end).unwrap_or_default();
            if finishing || in_entry {
                held += skim.skip(&buf[held.min(buf.len())..])?;
                if !skim.is_done() {
                    break;
                }
                at += held;
                if finishing {
                    return Ok(Some((found, at)));
                }
                found.entries.push(buf[..held].to_vec());
                (held, in_entry) = (0, false);
                walk.entry_done();
                continue;
            }
            match walk.step(buf)? {
                Step::More => break,
                Step::Pass(n) => {
                    assert!(n > 0 && n <= buf.len());
                    at += n;
                }
                Step::Key(n, key) => {
                    found.keys.push(buf[key].to_vec());
                    at += n;
                }
                Step::Entry => {
                    skim.start();
                    in_entry = true;
                }
                Step::Finish(left) => {
                    assert_eq!(left, walk.remaining());
                    skim.start_many(left);
                    finishing = true;
                }
            }
        }
    }
    Ok(None)
}

fn skimmed(bytes: &[u8]) -> Result<Option<usize>, Foreign> {
    let mut skim = Skim::default();
    skim.start();
    let end = skim.skip(bytes)?;
    Ok(skim.is_done().then_some(end))
}

#[test]
fn every_shape_is_walked_at_every_cut() {
    let entry = "*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
    let other = "*2\r\n$3\r\n1-2\r\n*-1\r\n";
    let claimed = "*4\r\n$3\r\n1-3\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:10\r\n:2\r\n";
    let cases: Vec<(Shape, String, &[&str], Vec<&str>)> = vec![
        (Shape::Streams, "*-1\r\n".into(), &[], vec![]),
        (Shape::Streams, "_\r\n".into(), &[], vec![]),
        (Shape::Streams, "$-1\r\n".into(), &[], vec![]),
        (Shape::Streams, "*0\r\n".into(), &[], vec![]),
        (Shape::Streams, "%0\r\n".into(), &[], vec![]),
        (
            Shape::Streams,
            format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}"),
            &["s"],
            vec![entry],
        ),
        (
            Shape::Streams,
            format!("%1\r\n$1\r\ns\r\n*2\r\n{entry}{claimed}"),
            &["s"],
            vec![entry, claimed],
        ),
        (
            Shape::Streams,
            format!(
                "*3\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}*2\r\n$0\r\n\r\n*0\r\n*2\r\n$1\r\nt\r\n*2\r\n{other}{entry}"
            ),
            &["s", "", "t"],
            vec![entry, other, entry],
        ),
        (
            Shape::Streams,
            format!("%3\r\n$1\r\ns\r\n_\r\n$1\r\nt\r\n*1\r\n{entry}$1\r\nu\r\n*-1\r\n"),
            &["s", "t", "u"],
            vec![entry],
        ),
        (Shape::Entries, "*0\r\n".into(), &[], vec![]),
        (Shape::Entries, "*-1\r\n".into(), &[], vec![]),
        (
            Shape::Entries,
            format!("*3\r\n{entry}*-1\r\n{other}"),
            &[],
            vec![entry, "*-1\r\n", other],
        ),
        (
            Shape::Entries,
            "*2\r\n$3\r\n1-1\r\n_\r\n".into(),
            &[],
            vec!["$3\r\n1-1\r\n", "_\r\n"],
        ),
        (
            Shape::Cursor,
            format!("*3\r\n$3\r\n0-0\r\n*1\r\n{entry}*1\r\n$3\r\n9-9\r\n"),
            &["0-0"],
            vec![entry],
        ),
        (
            Shape::Cursor,
            format!("*2\r\n$3\r\n0-0\r\n*2\r\n{entry}{other}"),
            &["0-0"],
            vec![entry, other],
        ),
        (
            Shape::Cursor,
            "*3\r\n$3\r\n0-0\r\n*0\r\n*0\r\n".into(),
            &["0-0"],
            vec![],
        ),
        (
            Shape::Cursor,
            "*3\r\n$3\r\n0-0\r\n*-1\r\n*0\r\n".into(),
            &["0-0"],
            vec![],
        ),
    ];
    for (shape, reply, keys, entries) in cases {
        let bytes = [reply.as_bytes(), b"+NEXT\r\n"].concat();
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let expected = Found {
            keys: owned(keys),
            entries: owned(&entries),
        };
        for cut in 0..=reply.len() {
            let (found, end) = walk(shape, &bytes, &[cut]).unwrap().unwrap();
            assert_eq!(
                (&found, end),
                (&expected, reply.len()),
                "{reply:?} cut at {cut}"
            );
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(
            walk(shape, &bytes, &every),
            Ok(Some((expected, reply.len()))),
            "{reply:?}"
        );
    }
}

#[test]
fn what_is_built_otherwise_is_passed_to_its_end() {
    for (shape, reply) in [
        (Shape::Streams, "+OK\r\n"),
        (Shape::Streams, ":5\r\n"),
        (Shape::Streams, "$5\r\nhello\r\n"),
        (Shape::Streams, "*2\r\n:1\r\n*1\r\n:2\r\n"),
        (
            Shape::Streams,
            "*2\r\n*3\r\n$1\r\ns\r\n*0\r\n*0\r\n*2\r\n$1\r\nt\r\n*0\r\n",
        ),
        (
            Shape::Streams,
            "*2\r\n*2\r\n:1\r\n*0\r\n*2\r\n$1\r\nt\r\n*0\r\n",
        ),
        (
            Shape::Streams,
            "*2\r\n*2\r\n$1\r\ns\r\n:5\r\n*2\r\n$1\r\nt\r\n*0\r\n",
        ),
        (Shape::Streams, "%2\r\n+s\r\n*0\r\n+t\r\n*0\r\n"),
        (
            Shape::Streams,
            "%2\r\n$1\r\ns\r\n%1\r\n:1\r\n:2\r\n$1\r\nt\r\n*0\r\n",
        ),
        (Shape::Streams, "*1\r\n*2\r\n$-1\r\n*0\r\n"),
        (
            Shape::Streams,
            "|1\r\n+a\r\n:1\r\n*1\r\n*2\r\n$1\r\ns\r\n*0\r\n",
        ),
        (Shape::Streams, "*?\r\n*2\r\n$1\r\ns\r\n*0\r\n.\r\n"),
        (Shape::Entries, "%1\r\n:1\r\n:2\r\n"),
        (
            Shape::Entries,
            "*3\r\n:1\r\n|1\r\n+a\r\n:1\r\n*0\r\n*1\r\n*1\r\n*0\r\n",
        ),
        (Shape::Cursor, "*0\r\n"),
        (Shape::Cursor, "*1\r\n$3\r\n0-0\r\n"),
        (Shape::Cursor, "*3\r\n:1\r\n*0\r\n*0\r\n"),
        (Shape::Cursor, "*4\r\n$3\r\n0-0\r\n:1\r\n*0\r\n*1\r\n:1\r\n"),
        (Shape::Cursor, "*-1\r\n"),
    ] {
        let bytes = [reply.as_bytes(), b"+NEXT\r\n"].concat();
        for cut in 0..=reply.len() {
            let (_, end) = walk(shape, &bytes, &[cut]).unwrap().unwrap();
            assert_eq!(end, reply.len(), "{shape:?} {reply:?} cut at {cut}");
        }
    }
}

#[test]
fn entries_are_read_in_each_of_their_forms() {
    let id = EntryId { ms: 5, seq: 1 };
    let fields = "*4\r\n$1\r\nf\r\n$1\r\nv\r\n$0\r\n\r\n$2\r\n\r\n\r\n";
    let texts = |entry: &Entry, buf: &str| -> Option<Vec<String>> {
        let fields = entry.fields.as_ref()?;
        assert!(
            buf[fields.header.clone()].starts_with('*')
                && buf[fields.header.clone()].ends_with("\r\n")
        );
        assert_eq!(fields.header.end, fields.body.start);
        Some(
            fields
                .pairs(buf.as_bytes())
                .flat_map(|(n, v)| [n, v])
                .map(|t| String::from_utf8(t.to_vec()).unwrap())
                .collect(),
        )
    };
    let some = |words: &[&str]| {
        Some(
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    };
    for (buf, expected, delivered) in [
        (
            format!("*2\r\n$3\r\n5-1\r\n{fields}"),
            some(&["f", "v", "", "\r\n"]),
            None,
        ),
        (
            format!("*4\r\n$3\r\n5-1\r\n{fields}:1000\r\n:0\r\n"),
            some(&["f", "v", "", "\r\n"]),
            Some(0),
        ),
        (
            format!("*4\r\n$3\r\n5-1\r\n{fields}:1000\r\n:7\r\n"),
            some(&["f", "v", "", "\r\n"]),
            Some(7),
        ),
        ("*2\r\n$3\r\n5-1\r\n*0\r\n".into(), some(&[]), None),
        ("*2\r\n$3\r\n5-1\r\n*-1\r\n".into(), None, None),
        ("*2\r\n$3\r\n5-1\r\n$-1\r\n".into(), None, None),
        ("*2\r\n$3\r\n5-1\r\n_\r\n".into(), None, None),
        ("*4\r\n$3\r\n5-1\r\n_\r\n:9\r\n:3\r\n".into(), None, Some(3)),
        ("$3\r\n5-1\r\n".into(), None, None),
    ] {
        let entry = Entry::parse(buf.as_bytes()).unwrap();
        assert_eq!(
            (entry.id, entry.delivered_before),
            (id, delivered),
            "{buf:?}"
        );
        assert_eq!(texts(&entry, &buf), expected, "{buf:?}");
        for cut in 0..buf.len() {
            assert_eq!(
                Entry::parse(&buf.as_bytes()[..cut]),
                None,
                "{buf:?} cut at {cut}"
            );
        }
    }
    for buf in [
        "*-1\r\n",
        "_\r\n",
        ":5\r\n",
        "+5-1\r\n",
        "$3\r\nx-1\r\n",
        "*1\r\n$3\r\n5-1\r\n",
        "*3\r\n$3\r\n5-1\r\n*0\r\n:1\r\n",
        "*2\r\n:5\r\n*0\r\n",
        "*2\r\n$2\r\nno\r\n*0\r\n",
        "*2\r\n$3\r\n5-1\r\n*1\r\n$1\r\nf\r\n",
        "*2\r\n$3\r\n5-1\r\n:1\r\n",
        "*2\r\n$3\r\n5-1\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n",
        "*4\r\n$3\r\n5-1\r\n*0\r\n+1\r\n+2\r\n",
        "*2\r\n$9223372036854775807\r\n",
        "*2\r\n$3\r\n5-1\r\n*1099511627776\r\n",
    ] {
        assert_eq!(Entry::parse(buf.as_bytes()), None, "{buf:?}");
    }
}

/// A reply of a shape, small, and often broken in one place.
fn reply() -> impl Strategy<Value = (Shape, Vec<u8>)> {
    let text = "[a-z]{0,6}".prop_map(|text| format!("${}\r\n{text}\r\n", text.len()));
    let fields = prop::collection::vec(text.clone(), 0..5)
        .prop_map(|texts| format!("*{}\r\n{}", texts.len(), texts.concat()));
    let entry = prop_oneof![
        4 => fields.clone().prop_map(|fields| format!("*2\r\n$3\r\n1-1\r\n{fields}")),
        1 => fields.prop_map(|fields| format!("*4\r\n$3\r\n1-1\r\n{fields}:1\r\n:2\r\n")),
        1 => Just("*2\r\n$3\r\n1-1\r\n_\r\n".to_owned()),
        1 => Just("*-1\r\n".to_owned()),
        1 => Just("$3\r\n1-1\r\n".to_owned()),
        1 => Just("|1\r\n+a\r\n:1\r\n*0\r\n".to_owned()),
        1 => Just("*?\r\n:1\r\n.\r\n".to_owned()),
        1 => Just("$?\r\n;1\r\na\r\n;0\r\n".to_owned()),
    ];
    let list = prop::collection::vec(entry, 0..5)
        .prop_map(|entries| format!("*{}\r\n{}", entries.len(), entries.concat()));
    let pairs = prop::collection::vec((text, list.clone()), 0..4);
    let whole = prop_oneof![
        pairs.clone().prop_map(|pairs| {
            let body: String = pairs
                .iter()
                .map(|(key, list)| format!("*2\r\n{key}{list}"))
                .collect();
            (Shape::Streams, format!("*{}\r\n{body}", pairs.len()))
        }),
        pairs.prop_map(|pairs| {
            let body: String = pairs
                .iter()
                .map(|(key, list)| format!("{key}{list}"))
                .collect();
            (Shape::Streams, format!("%{}\r\n{body}", pairs.len()))
        }),
        list.clone().prop_map(|list| (Shape::Entries, list)),
        list.prop_map(|list| (
            Shape::Cursor,
            format!("*3\r\n$3\r\n0-0\r\n{list}*1\r\n$3\r\n1-1\r\n")
        )),
    ];
    let wrong = prop_oneof![
        Just(b'*'),
        Just(b'%'),
        Just(b'$'),
        Just(b':'),
        Just(b'_'),
        Just(b'-'),
        Just(b'|'),
        Just(b'1'),
        Just(b'3'),
        Just(b'.'),
        Just(b'?'),
        any::<u8>()
    ];
    let shape = prop_oneof![
        Just(Shape::Streams),
        Just(Shape::Entries),
        Just(Shape::Cursor)
    ];
    (
        whole,
        prop::option::of((any::<prop::sample::Index>(), wrong)),
        prop::option::weighted(0.2, shape),
    )
        .prop_map(|((shape, reply), mutation, other)| {
            let mut bytes = reply.into_bytes();
            if let Some((at, with)) = mutation {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            (other.unwrap_or(shape), bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever the structure, the walk ends where the reply does.
    #[test]
    fn a_walk_ends_where_the_reply_does((shape, bytes) in reply(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let bytes = [&bytes[..], b":1\r\n:2\r\n:3\r\n"].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let whole = walk(shape, &bytes, &[]);
        if let (Ok(Some((_, end))), Ok(skimmed)) = (&whole, skimmed(&bytes)) {
            prop_assert_eq!(Some(*end), skimmed);
        }
        if let (Ok(None), Ok(skimmed)) = (&whole, skimmed(&bytes)) {
            prop_assert_eq!(None, skimmed);
        }
        let split = walk(shape, &bytes, &cuts);
        prop_assert_eq!(&split, &whole);
        for entry in whole.ok().flatten().into_iter().flat_map(|(found, _)| found.entries) {
            if let Some(parsed) = Entry::parse(&entry) {
                let pairs = parsed.fields.as_ref().map_or(0, |fields| fields.pairs(&entry).count());
                prop_assert!(parsed.fields.is_none_or(|fields| pairs * 2 <= fields.count));
            }
        }
    }

    #[test]
    fn hostile_entries_never_panic(bytes in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), Just(b'-'), any::<u8>()], 0..100)) {
        if let Some(entry) = Entry::parse(&bytes)
            && let Some(fields) = entry.fields
        {
            prop_assert!(fields.body.end <= bytes.len());
            let _ = fields.pairs(&bytes).count();
        }
    }
}
