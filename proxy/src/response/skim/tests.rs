#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use redis_protocol::resp3;
use redis_protocol::resp3::types::{OwnedFrame, Resp3Frame as _};

use super::*;

/// Reads one reply that arrives in pieces cut at `cuts`; returns its length.
fn skim(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, Foreign> {
    let mut skim = Skim::default();
    skim.start();
    let mut read = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        if end <= read {
            continue;
        }
        read += skim.skip(&bytes[read..end])?;
        if skim.is_done() {
            return Ok(Some(read));
        }
    }
    Ok(None)
}

#[test]
fn the_end_of_every_type_is_found_at_every_cut() {
    let replies: [&[u8]; 31] = [
        b"+OK\r\n",
        b"-ERR wrong\r\n",
        b":-12\r\n",
        b"$5\r\nhello\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",3.14\r\n",
        b",inf\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"!10\r\nERR broken\r\n",
        b"=8\r\ntxt:text\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
        b"~3\r\n:1\r\n:2\r\n:3\r\n",
        b">3\r\n+message\r\n+ch\r\n+hi\r\n:1\r\n",
        b"*2\r\n:1\r\n>2\r\n+x\r\n*1\r\n:1\r\n:2\r\n",
        b"|1\r\n+ttl\r\n:3600\r\n:5\r\n",
        b"*2\r\n|1\r\n+a\r\n*1\r\n:9\r\n+x\r\n+y\r\n",
        b"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n$1\r\nz\r\n",
        b"$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n",
        b"*?\r\n:1\r\n:2\r\n.\r\n",
        b"*2\r\n*?\r\n:1\r\n*?\r\n.\r\n.\r\n+after\r\n",
        b"%?\r\n+a\r\n:1\r\n.\r\n",
        b"*?\r\n*2\r\n:1\r\n:2\r\n%1\r\n+a\r\n:3\r\n.\r\n",
        b"~?\r\n.\r\n",
        b"%0\r\n",
        b"+\r\n",
    ];
    for reply in replies {
        let mut bytes = reply.to_vec();
        bytes.extend_from_slice(b"+NEXT\r\n");
        for cut in 0..=reply.len() {
            assert_eq!(
                skim(&bytes, &[cut]),
                Ok(Some(reply.len())),
                "{:?} cut at {cut}",
                String::from_utf8_lossy(reply)
            );
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(
            skim(&bytes, &every),
            Ok(Some(reply.len())),
            "{:?} byte by byte",
            String::from_utf8_lossy(reply)
        );
    }
}

#[test]
fn the_end_of_a_push_is_found_at_every_cut() {
    let push = b">3\r\n+message\r\n>1\r\n:7\r\n+ch\r\n*1\r\n+hi\r\n";
    let bytes = [&push[..], b"+NEXT\r\n"].concat();
    for cut in 0..=push.len() {
        let mut skim = Skim::default();
        skim.start_push();
        let read = skim.skip(&bytes[..cut]).unwrap();
        let read = read + skim.skip(&bytes[read..]).unwrap();
        assert!(skim.is_done());
        assert_eq!(read, push.len(), "cut at {cut}");
    }
}

#[test]
fn what_is_not_resp_is_foreign() {
    for bytes in [
        &b"x"[..],
        b"\r\n",
        b"$abc\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b"$5x\r\n",
        b"$1\rx",
        b".\r\n",
        b"*1\r\n.\r\n",
        b"|?\r\n",
        b">?\r\n",
        b"$?\r\n+a\r\n",
        b"*9223372036854775807\r\n",
        b"*1099511627777\r\n",
    ] {
        assert_eq!(
            skim(bytes, &[]),
            Err(Foreign),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    let deep = b"*?\r\n".repeat(MAX_STREAMED_DEPTH + 1);
    assert_eq!(skim(&deep, &[]), Err(Foreign));
}

#[test]
fn a_depth_bomb_costs_one_number() {
    let bomb = b"*1\r\n".repeat(100_000);
    let mut skim = Skim::default();
    skim.start();
    assert_eq!(skim.skip(&bomb), Ok(bomb.len()));
    assert!(!skim.is_done());
    assert_eq!(skim.open.capacity(), 0);
    assert_eq!(skim.skip(b":1\r\n"), Ok(4));
    assert!(skim.is_done());
}

#[test]
fn aggregate_headers_are_told_apart() {
    assert_eq!(aggregate(b"*3\r\n"), Ok(Some((Aggregate::List(3), 4))));
    assert_eq!(aggregate(b"%1\r\n"), Ok(Some((Aggregate::Map(1), 4))));
    assert_eq!(aggregate(b"*-1\r\n"), Ok(Some((Aggregate::Null, 5))));
    assert_eq!(aggregate(b"$-1\r\n"), Ok(Some((Aggregate::Null, 5))));
    assert_eq!(aggregate(b"_\r\n"), Ok(Some((Aggregate::Null, 3))));
    assert_eq!(aggregate(b"*3\r"), Ok(None));
    assert_eq!(aggregate(b"-ERR\r\n"), Ok(Some((Aggregate::Other, 0))));
    assert_eq!(aggregate(b"$3\r\nabc\r\n"), Ok(Some((Aggregate::Other, 0))));
}

/// Replies that a server could send, small.
fn reply() -> impl Strategy<Value = OwnedFrame> {
    let text = prop::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        text.prop_map(|data| OwnedFrame::BlobString {
            data,
            attributes: None
        }),
        "[a-zA-Z ]{0,12}".prop_map(|data| OwnedFrame::SimpleString {
            data: data.into_bytes(),
            attributes: None
        }),
        "[A-Z]{1,8}".prop_map(|data| OwnedFrame::SimpleError {
            data,
            attributes: None
        }),
        any::<i64>().prop_map(|data| OwnedFrame::Number {
            data,
            attributes: None
        }),
        any::<bool>().prop_map(|data| OwnedFrame::Boolean {
            data,
            attributes: None
        }),
        Just(OwnedFrame::Null),
    ];
    // No pushes: to the oracle one within a reply is an element, and servers do not count it.
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(|data| OwnedFrame::Array {
            data,
            attributes: None,
        })
    })
}

proptest! {
    #[test]
    fn agrees_with_redis_protocol_at_any_split(frame in reply(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let mut bytes = vec![0; frame.encode_len(false)];
        let length = resp3::encode::complete::encode(&mut bytes, &frame, false).unwrap();
        bytes.truncate(length);
        let (_, oracle) = resp3::decode::complete::decode(&bytes).unwrap().unwrap();
        bytes.extend_from_slice(b":1\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(skim(&bytes, &cuts), Ok(Some(oracle)));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'?'), Just(b'.'), any::<u8>()], 0..200)) {
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(skim(&bytes, &[]).is_err(), skim(&bytes, &every).is_err());
    }
}
