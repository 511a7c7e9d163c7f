//! Any bytes from a client: the same commands whether they come at once or in pieces, and the same arguments as
//! redis-protocol reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use tars_proxy::request::scan::{Cursor, Foreign, Head, head, split_inline};

/// The arguments of the first command, and where it ends; none while it is not whole.
type Command = Result<Option<(Vec<Vec<u8>>, usize)>, Foreign>;

fn whole(bytes: &[u8]) -> Command {
    match head(bytes)? {
        Head::Incomplete => Ok(None),
        Head::Empty { end } => Ok(Some((Vec::new(), end))),
        Head::Inline { text_end, end } => Ok(Some((split_inline(&bytes[..text_end])?, end))),
        Head::Array {
            mut cursor, argc, ..
        } => {
            let mut args = Vec::new();
            let complete = cursor.walk(bytes, |arg| args.push(arg.of(bytes).to_vec()))?;
            assert!(!complete || args.len() == argc as usize);
            Ok(complete.then_some((args, cursor.pos)))
        }
    }
}

/// The same, a byte at a time; what the bytes of an argument are is seen when all are there.
fn byte_by_byte(bytes: &[u8]) -> Command {
    let mut walking: Option<(Cursor, usize)> = None;
    for end in 1..=bytes.len() {
        let seen = &bytes[..end];
        if walking.is_none() {
            match head(seen)? {
                Head::Incomplete => continue,
                Head::Array { cursor, argc, .. } => walking = Some((cursor, argc as usize)),
                _ => return whole(seen),
            }
        }
        if let Some((cursor, left)) = &mut walking {
            let mut walked = 0;
            let complete = cursor.walk(seen, |_| walked += 1)?;
            *left -= walked;
            if complete {
                assert_eq!(*left, 0);
                return whole(seen);
            }
        }
    }
    Ok(None)
}

fuzz_target!(|bytes: &[u8]| {
    let command = whole(bytes);
    assert_eq!(command, byte_by_byte(bytes));
    if let Ok(Some((args, end))) = command
        && bytes[0] == b'*'
        && !args.is_empty()
    {
        // Only what ends its arguments properly: servers do not look, the oracle does.
        let frames = match decode(&bytes[..end]) {
            Ok(Some((OwnedFrame::Array(frames), length))) => {
                assert_eq!(length, end);
                frames
            }
            _ => return,
        };
        let text = |frame| match frame {
            OwnedFrame::BulkString(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(frames.into_iter().map(text).collect::<Vec<_>>(), args);
    }
});
