//! Any bytes from a server: a reply ends at the same place whether it comes at once or in pieces, where redis-protocol says
//! that it does, and costs no memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use tars_fuzz::is_tame;
use tars_proxy::request::scan::Foreign;
use tars_proxy::response::skim::Skim;

fn end(bytes: &[u8], pieces: usize) -> Result<Option<usize>, Foreign> {
    let mut skim = Skim::default();
    skim.start();
    let (mut read, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + pieces);
        read += skim.skip(&bytes[read..end])?;
        if skim.is_done() {
            return Ok(Some(read));
        }
        assert!(end - read <= 32, "what is kept is a part of one line");
    }
    Ok(None)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = end(bytes, usize::MAX / 2);
    for pieces in [1, 2, 7] {
        assert_eq!(end(bytes, pieces), whole);
    }
    if !is_tame(bytes) {
        return;
    }
    // What only one of the two takes for RESP2 is another matter.
    match (decode(bytes), whole) {
        (Ok(oracle), Ok(ours)) => assert_eq!(ours, oracle.map(|(_, length)| length)),
        (Ok(_) | Err(_), _) => {}
    }
});
