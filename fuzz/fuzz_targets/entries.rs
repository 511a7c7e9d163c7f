//! Any bytes as a reply with entries: the walk ends where the reply does, and an entry holds what redis-protocol reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tars_fuzz::is_tame;
use tars_proxy::request::scan::Foreign;
use tars_proxy::response::entries::{Entry, Shape, Step, Walk};
use tars_proxy::response::skim::Skim;
use tars_proxy::testing::command;
use tars_proxy::trace::span::EntryId;

/// Walks a reply that comes in pieces; returns its entries and its end, none if it is not whole.
fn walk(shape: Shape, bytes: &[u8], pieces: usize) -> Result<Option<(Vec<&[u8]>, usize)>, Foreign> {
    let (mut walk, mut skim, mut entries) = (Walk::new(shape), Skim::default(), Vec::new());
    let (mut at, mut held, mut end) = (0, 0, 0);
    let (mut in_entry, mut finishing) = (false, false);
    while end < bytes.len() {
        end = bytes.len().min(end + pieces);
        loop {
            let buf = &bytes[at..end];
            if in_entry || finishing {
                held += skim.skip(&buf[held..])?;
                if !skim.is_done() {
                    break;
                }
                at += held;
                if finishing {
                    return Ok(Some((entries, at)));
                }
                entries.push(&buf[..held]);
                (held, in_entry) = (0, false);
                walk.entry_done();
                continue;
            }
            match walk.step(buf)? {
                Step::More => break,
                Step::Pass(n) | Step::Key(n, _) => {
                    assert!(n > 0);
                    at += n;
                }
                Step::Entry => {
                    skim.start();
                    in_entry = true;
                }
                Step::Finish(left) => {
                    skim.start_many(left);
                    finishing = true;
                }
            }
        }
    }
    Ok(None)
}

/// The ID and the fields of an entry, if it is written as servers write it.
fn oracle(bytes: &[u8]) -> Option<(EntryId, Vec<Vec<u8>>)> {
    let Ok(Some((OwnedFrame::Array(entry), length))) = decode(bytes) else {
        return None;
    };
    let Ok([OwnedFrame::BulkString(id), OwnedFrame::Array(fields)]) = <[_; 2]>::try_from(entry)
    else {
        return None;
    };
    let text = |frame| match frame {
        OwnedFrame::BulkString(text) => Some(text),
        _ => None,
    };
    let fields = fields.into_iter().map(text).collect::<Option<Vec<_>>>()?;
    let head = format!("*2\r\n${}\r\n", id.len()).into_bytes();
    let written = [&head, &id[..], b"\r\n", &command(&fields)].concat();
    (written == bytes[..length] && fields.len().is_multiple_of(2))
        .then_some((EntryId::parse(&id)?, fields))
}

fuzz_target!(|input: &[u8]| {
    let Some((&shape, bytes)) = input.split_first() else {
        return;
    };
    let shape = [Shape::Streams, Shape::Entries, Shape::Cursor][usize::from(shape) % 3];
    let whole = walk(shape, bytes, usize::MAX / 2);
    for pieces in [1, 5] {
        assert_eq!(walk(shape, bytes, pieces), whole);
    }
    let mut skim = Skim::default();
    skim.start();
    if let (Ok(read), Ok(walked)) = (skim.skip(bytes), &whole) {
        assert_eq!(
            skim.is_done().then_some(read),
            walked.as_ref().map(|(_, end)| *end)
        );
    }
    for entry in whole
        .ok()
        .flatten()
        .into_iter()
        .flat_map(|(entries, _)| entries)
        .chain([bytes])
    {
        if let Some(Entry {
            fields: Some(fields),
            ..
        }) = Entry::parse(entry)
        {
            assert!(fields.body.end <= entry.len() && fields.header.end == fields.body.start);
            assert!(fields.pairs(entry).count() * 2 <= fields.count);
        }
        if let Some((id, texts)) = is_tame(entry).then(|| oracle(entry)).flatten() {
            let parsed = Entry::parse(entry).expect("an entry");
            let fields = parsed.fields.expect("fields");
            let pairs = fields.pairs(entry).flat_map(|(name, value)| [name, value]);
            assert_eq!((parsed.id, fields.count), (id, texts.len()));
            assert!(pairs.eq(texts.iter().map(Vec::as_slice)));
        }
    }
});
