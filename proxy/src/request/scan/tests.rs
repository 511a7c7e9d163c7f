#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn walk_whole(buf: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let Ok(Head::Array { mut cursor, .. }) = head(buf) else {
        return None;
    };
    let mut args = Vec::new();
    cursor
        .walk(buf, |arg| args.push(arg.of(buf).to_vec()))
        .unwrap()
        .then_some((args, cursor.pos))
}

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn array_head_names_the_command_and_walks_to_its_end() {
    let buf = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbb\r\n*1\r\n";
    let Head::Array {
        argc,
        header_end,
        name,
        ..
    } = head(buf).unwrap()
    else {
        panic!("no array")
    };
    assert_eq!((argc, header_end, name.of(buf)), (3, 4, &b"SET"[..]));
    let (args, end) = walk_whole(buf).unwrap();
    assert_eq!(args, [&b"SET"[..], b"a", b"bb"]);
    assert_eq!(&buf[end..], b"*1\r\n");
}

#[test]
fn every_prefix_of_a_head_is_incomplete() {
    let buf = b"*2\r\n$4\r\nPING";
    for cut in 0..buf.len() {
        assert_eq!(head(&buf[..cut]), Ok(Head::Incomplete), "cut at {cut}");
    }
    assert!(matches!(head(buf), Ok(Head::Array { .. })));
}

#[test]
fn what_servers_take_differently_or_refuse_is_foreign() {
    for bytes in [
        &b"*01\r\n"[..],
        b"*+1\r\n",
        b"*-0\r\n",
        b"*\r\n",
        b"*1\rX",
        b"*1\n",
        b"*a\r\n",
        b"*1 \r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\0\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$01\r\n",
        b"*1\r\n$1\rX",
        b"GET \0a\r\n",
        b"G\0",
    ] {
        assert_eq!(
            head(bytes),
            Err(Foreign),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn empty_commands_are_skipped_without_a_reply() {
    for (bytes, end) in [
        (&b"*0\r\nx"[..], 4),
        (b"*-1\r\n", 5),
        (b"*-5\r\n", 5),
        (b"\r\n", 2),
        (b"\n", 1),
        (b" \t \r\n", 5),
    ] {
        assert_eq!(head(bytes), Ok(Head::Empty { end }), "{bytes:?}");
    }
}

#[test]
fn inline_commands_end_at_the_line_feed() {
    assert_eq!(
        head(b"PING\r\nrest"),
        Ok(Head::Inline {
            text_end: 4,
            end: 6
        })
    );
    assert_eq!(
        head(b"PING\n"),
        Ok(Head::Inline {
            text_end: 4,
            end: 5
        })
    );
    assert_eq!(head(b"PING"), Ok(Head::Incomplete));
    assert_eq!(head(&vec![b'a'; MAX_INLINE_BYTES + 1]), Err(Foreign));
    assert_eq!(head(&vec![b'a'; MAX_INLINE_BYTES]), Ok(Head::Incomplete));
}

#[test]
fn inline_arguments_are_split_as_sdssplitargs_does() {
    type Case = (&'static [u8], Option<&'static [&'static [u8]]>);
    let cases: [Case; 16] = [
        (b"SET a b", Some(&[b"SET", b"a", b"b"])),
        (b"  SET\ta  ", Some(&[b"SET", b"a"])),
        (b"SET \"a b\" c", Some(&[b"SET", b"a b", b"c"])),
        (
            b"\"\\x41\\n\\r\\t\\b\\a\\q\\\"\"",
            Some(&[b"A\n\r\t\x08\x07q\""]),
        ),
        (b"\"\\x4\"", Some(&[b"x4"])),
        (b"'a\\'b'", Some(&[b"a'b"])),
        (b"'a\\n'", Some(&[b"a\\n"])),
        (b"\"\"", Some(&[b""])),
        (b"foo\"bar\"", Some(&[b"foobar"])),
        (b"\"a\"b", None),
        (b"\"a", None),
        (b"'a", None),
        (b"'a'b", None),
        (b"a\x0bb", Some(&[b"a\x0bb"])),
        (b"\x0ba", Some(&[b"a"])),
        (b"\"a\\", None),
    ];
    for (line, expected) in cases {
        let got = split_inline(line);
        assert_eq!(
            got.as_deref()
                .ok()
                .map(|a| a.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            expected.map(<[_]>::to_vec),
            "{line:?}"
        );
    }
}

#[test]
fn a_huge_declared_length_is_only_a_number() {
    let buf = b"*2\r\n$3\r\nGET\r\n$9223372036854775800\r\n";
    let Head::Array { mut cursor, .. } = head(buf).unwrap() else {
        panic!("no array")
    };
    assert_eq!(cursor.walk(buf, |_| ()), Ok(false));
    let overflow = b"*2\r\n$3\r\nGET\r\n$9223372036854775807\r\n";
    let Head::Array { mut cursor, .. } = head(overflow).unwrap() else {
        panic!("no array")
    };
    // Fits a `usize`: never complete, never a panic.
    assert!(!cursor.walk(overflow, |_| ()).unwrap_or(false));
}

proptest! {
    #[test]
    fn any_split_equals_whole(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let bytes = encode(&args);
        let (whole, end) = walk_whole(&bytes).unwrap();
        prop_assert_eq!(&whole, &args);
        prop_assert_eq!(end, bytes.len());
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let mut cursor: Option<Cursor> = None;
        let mut complete = false;
        for cut in cuts {
            let seen = &bytes[..cut];
            if cursor.is_none() && let Head::Array { cursor: first, .. } = head(seen).unwrap() {
                cursor = Some(first);
            }
            if let Some(cursor) = &mut cursor {
                complete = cursor.walk(seen, |_| ()).unwrap();
                prop_assert!(!complete || cut == bytes.len());
            }
        }
        prop_assert!(complete);
        prop_assert_eq!(cursor.unwrap().pos, bytes.len());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Head::Array { mut cursor, .. }) = head(&bytes) {
            let _ = cursor.walk(&bytes, |arg| { let _ = arg.of(&bytes); });
        }
        let _ = split_inline(&bytes);
    }
}
