//! Counts replies of RESP2 as they stream: all that a load generator has to know of them.

use std::fmt;

/// A reply that tells that the measurement is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The server or what stands before it answered with an error.
    #[error("the answer is an error: {0}")]
    Error(String),
    /// Not a reply.
    #[error("no reply of RESP2 begins with {0:#04x}")]
    Malformed(u8),
}

/// Where in the stream of replies a connection is.
#[derive(Default)]
pub struct Replies {
    /// Elements that are still to come before the reply at hand is whole; 0 between replies.
    open: u64,
    /// Bytes of a bulk string, with its line end, that are still to come.
    bulk: usize,
    /// A header line of which the rest has not come yet.
    line: Vec<u8>,
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl Replies {
    /// Takes what was read, and says how many replies ended in it.
    ///
    /// # Errors
    /// If one of them is an error.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<u32, Refused> {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.bulk > 0 {
                let n = self.bulk.min(bytes.len());
                bytes = bytes.get(n..).unwrap_or_default();
                self.bulk -= n;
                if self.bulk > 0 {
                    break;
                }
            } else {
                let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
                    self.line.extend_from_slice(bytes);
                    break;
                };
                let (line, rest) = bytes.split_at(end + 1);
                bytes = rest;
                let elements = if self.line.is_empty() {
                    self.header(line)?
                } else {
                    let mut held = std::mem::take(&mut self.line);
                    held.extend_from_slice(line);
                    self.header(&held)?
                };
                self.open = self.open.max(1) + elements;
                if self.bulk > 0 {
                    continue;
                }
            }
            self.open -= 1;
            ended += u32::from(self.open == 0);
        }
        Ok(ended)
    }

    /// Reads a header, and says how many elements follow it.
    fn header(&mut self, line: &[u8]) -> Result<u64, Refused> {
        let (kind, rest) = line.split_first().unwrap_or((&0, &[]));
        match kind {
            b'+' | b':' => Ok(0),
            b'-' => Err(Refused::Error(
                String::from_utf8_lossy(rest).trim_end().to_owned(),
            )),
            b'$' => {
                self.bulk = number(rest).map_or(0, |length| length + 2);
                Ok(0)
            }
            b'*' => Ok(number(rest).unwrap_or(0) as u64),
            &other => Err(Refused::Malformed(other)),
        }
    }
}

/// None if it is negative: a nil.
fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"+OK\r\n:12\r\n$5\r\nab\r\nc\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*1\r\n$1\r\nx\r\n:1\r\n$0\r\n\r\n";

    #[test]
    fn replies_are_counted_wherever_they_are_cut() {
        for size in 1..=STREAM.len() {
            let mut replies = Replies::default();
            let ended: u32 = STREAM
                .chunks(size)
                .map(|part| replies.take(part).unwrap())
                .sum();
            assert_eq!(ended, 8, "in parts of {size}");
            assert_eq!((replies.open, replies.bulk), (0, 0));
        }
    }

    #[test]
    fn an_error_is_told() {
        let error = Replies::default().take(b"+OK\r\n-ERR no\r\n").unwrap_err();
        assert_eq!(error, Refused::Error("ERR no".into()));
        assert_eq!(
            Replies::default().take(b"HTTP\r\n"),
            Err(Refused::Malformed(b'H'))
        );
    }
}
