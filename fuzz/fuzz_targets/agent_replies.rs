//! Any bytes from Redis to tars-agent: they mean the same at once and in pieces, no value is larger than asked for, and a context is read or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tars_agent::service::streams::context;
use tars_agent::service::streams::resp::{Decoder, Malformed, Token};

const MOST: usize = 64;

fn read(bytes: &[u8], pieces: usize) -> (Vec<Token>, Option<Malformed>) {
    let (mut decoder, mut tokens) = (Decoder::default(), Vec::new());
    for mut piece in bytes.chunks(pieces) {
        loop {
            match decoder.next(&mut piece, MOST) {
                Ok(Some(token)) => tokens.push(token),
                Ok(None) => break,
                Err(malformed) => return (tokens, Some(malformed)),
            }
        }
        assert!(piece.is_empty(), "what comes is read");
    }
    (tokens, None)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for pieces in [1, 2, 7] {
        assert_eq!(read(bytes, pieces), whole);
    }
    for token in &whole.0 {
        if let Token::Bulk(value) = token {
            assert!(value.len() <= MOST);
        }
    }
    if let Some(found) = context::read(bytes, Some(bytes)) {
        let written = context::write(&found);
        let again = context::read(written.as_bytes(), None);
        assert_eq!(again.map(|again| again.span_id()), Some(found.span_id()));
    }
});
