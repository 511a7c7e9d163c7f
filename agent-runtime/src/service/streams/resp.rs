//! RESP2 as a server speaks it, read as it comes: a value larger than asked for passes by and is never held.
//!
//! Nothing here nests: an array is a token that says how many follow, and whoever reads knows which he expects. So neither depth nor number can be
//! made to cost memory.

use std::mem;

/// The longest line: those of Redis are shorter by far.
const MOST_LINE: usize = 4 << 10;

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Integer(i64),
    /// A value.
    Bulk(Vec<u8>),
    /// A value that was larger than asked for: so many bytes passed by.
    Oversized(u64),
    /// `$-1` or `*-1`
    Null,
    /// So many elements follow.
    Array(u64),
}

/// This is no RESP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line without end.
    #[error("a line of a reply has more than {MOST_LINE} bytes")]
    LongLine,
    /// A line that ends otherwise, or a value that does not end where it says.
    #[error("a reply does not end its lines as RESP2 does")]
    End,
    /// A type that there is not.
    #[error("a reply has a type that RESP2 does not have")]
    Type,
    /// A number that is none.
    #[error("a reply has a number that is none")]
    Number,
}

/// Reads tokens out of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    line: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Line,
    /// A value, of which this much is there; it ends after so many bytes, its line's end among them.
    Bulk { bytes: Vec<u8>, size: usize },
    /// A value that passes by.
    Skip { size: u64, left: u64 },
}

impl Decoder {
    /// The next token, if it ends in `input`, which is advanced past what was read. A value that begins there is kept if it has at most `most` bytes.
    ///
    /// # Errors
    /// If this is no RESP2: nothing can be read after that.
    pub fn next(&mut self, input: &mut &[u8], most: usize) -> Result<Option<Token>, Malformed> {
        loop {
            match &mut self.state {
                State::Line => {
                    let Some(token) = self.line(input, most)? else {
                        return Ok(None);
                    };
                    if let Some(token) = token {
                        return Ok(Some(token));
                    }
                }
                State::Bulk { bytes, size } => {
                    let (now, rest) = input.split_at((*size - bytes.len()).min(input.len()));
                    bytes.extend_from_slice(now);
                    *input = rest;
                    if bytes.len() < *size {
                        return Ok(None);
                    }
                    let mut bytes = mem::take(bytes);
                    self.state = State::Line;
                    if !bytes.ends_with(b"\r\n") {
                        return Err(Malformed::End);
                    }
                    bytes.truncate(bytes.len() - 2);
                    return Ok(Some(Token::Bulk(bytes)));
                }
                State::Skip { size, left } => {
                    let now =
                        usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *left -= now as u64;
                    *input = input.get(now..).unwrap_or_default();
                    if *left > 0 {
                        return Ok(None);
                    }
                    let token = Token::Oversized(*size);
                    self.state = State::Line;
                    return Ok(Some(token));
                }
            }
        }
    }

    /// Reads a line: none if it does not end here; no token if it is the head of a value.
    #[allow(
        clippy::option_option,
        reason = "a line is there or not, and is all of a token or not"
    )]
    fn line(&mut self, input: &mut &[u8], most: usize) -> Result<Option<Option<Token>>, Malformed> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let (now, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        if self.line.len() + now.len() > MOST_LINE {
            return Err(Malformed::LongLine);
        }
        self.line.extend_from_slice(now);
        *input = rest;
        if end.is_none() {
            return Ok(None);
        }
        let line = mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r\n").ok_or(Malformed::End)?;
        let (kind, line) = line.split_first().ok_or(Malformed::Type)?;
        let text = || String::from_utf8_lossy(line).into_owned();
        let token = match kind {
            b'+' => Token::Simple(text()),
            b'-' => Token::Error(text()),
            b':' => Token::Integer(number(line)?),
            b'*' => length(line)?.map_or(Token::Null, Token::Array),
            b'$' => match length(line)? {
                None => Token::Null,
                Some(size) => {
                    self.state = match usize::try_from(size) {
                        Ok(size) if size <= most => State::Bulk {
                            bytes: Vec::with_capacity(size + 2),
                            size: size + 2,
                        },
                        _ => State::Skip {
                            size,
                            left: size + 2,
                        },
                    };
                    return Ok(Some(None));
                }
            },
            _ => return Err(Malformed::Type),
        };
        Ok(Some(Some(token)))
    }
}

fn number(digits: &[u8]) -> Result<i64, Malformed> {
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::Number)?;
    text.parse().map_err(|_| Malformed::Number)
}

fn length(digits: &[u8]) -> Result<Option<u64>, Malformed> {
    match number(digits)? {
        -1 => Ok(None),
        length => u64::try_from(length)
            .map(Some)
            .map_err(|_| Malformed::Number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 8;

    /// All tokens of bytes that come in pieces of these sizes.
    fn read(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Token>, Malformed> {
        let (mut decoder, mut tokens, mut rest) = (Decoder::default(), Vec::new(), bytes);
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let piece = pieces
                .next()
                .map_or(rest.len(), |&piece| piece.min(rest.len()));
            let (mut now, later) = rest.split_at(piece);
            while let Some(token) = decoder.next(&mut now, MOST)? {
                tokens.push(token);
            }
            assert!(now.is_empty(), "what comes is read");
            rest = later;
        }
        Ok(tokens)
    }

    #[test]
    fn every_type_is_read() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$0\r\n\r\n$-1\r\n*-1\r\n*2\r\n$9\r\n123456789\r\n*0\r\n";
        let expected = vec![
            Token::Simple("OK".to_owned()),
            Token::Error("ERR no".to_owned()),
            Token::Integer(-7),
            Token::Bulk(b"a\r\n".to_vec()),
            Token::Bulk(Vec::new()),
            Token::Null,
            Token::Null,
            Token::Array(2),
            Token::Oversized(9),
            Token::Array(0),
        ];
        assert_eq!(read(bytes, &[]), Ok(expected.clone()));
        assert_eq!(read(bytes, &[1]), Ok(expected));
    }

    #[test]
    fn what_is_no_resp2_is_refused() {
        for (bytes, error) in [
            (&b"%1\r\n"[..], Malformed::Type),
            (b"\r\n", Malformed::Type),
            (b"+OK\n", Malformed::End),
            (b":x\r\n", Malformed::Number),
            (b"$-2\r\n", Malformed::Number),
            (b"$99999999999999999999\r\n", Malformed::Number),
            (b"$1\r\nabc", Malformed::End),
            (&[b'+'; MOST_LINE + 1], Malformed::LongLine),
        ] {
            assert_eq!(read(bytes, &[]), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_value_of_any_size_passes_by() {
        let mut decoder = Decoder::default();
        let announced = format!("${}\r\n", i64::MAX);
        let mut input = announced.as_bytes();
        assert_eq!(decoder.next(&mut input, MOST), Ok(None));
        for _ in 0..100 {
            let mut input = &[0; 1 << 16][..];
            assert_eq!(decoder.next(&mut input, MOST), Ok(None));
        }
        assert!(decoder.line.capacity() == 0, "nothing of it is held");
    }

    fn replies() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            "[ -~]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            (0_u8..20).prop_map(|count| format!("*{count}\r\n").into_bytes()),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| {
                let head = format!("${}\r\n", value.len());
                [head.as_bytes(), &value, b"\r\n"].concat()
            }),
        ];
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn any_split_equals_the_whole(bytes in replies(), pieces in prop::collection::vec(1_usize..9, 1..6)) {
            let whole = read(&bytes, &[]);
            prop_assert!(whole.is_ok());
            prop_assert_eq!(read(&bytes, &pieces), whole);
        }

        #[test]
        fn any_bytes_split_equal_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..64), pieces in prop::collection::vec(1_usize..9, 1..6)) {
            prop_assert_eq!(read(&bytes, &pieces), read(&bytes, &[]));
        }
    }
}
