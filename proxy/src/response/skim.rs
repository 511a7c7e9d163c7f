//! Finds where the server's replies end, in RESP2 and RESP3.
//!
//! A reply is a tree, but its end can be found with one number: how many elements are still to come. An aggregate of `n`
//! elements takes one away and adds `n`; an attribute adds its pairs and takes none; nor does a push take one: Redis
//! before 7.2 puts them between the elements of a reply, uncounted. So nesting costs neither recursion nor memory. Only
//! the streamed aggregates of RESP3 (`*?` … `.`), whose length nobody says, need a stack, and it is bounded.

use crate::request::scan::{Foreign, number_line};

/// Streamed aggregates within each other. No server sends even one; enough to be polite.
const MAX_STREAMED_DEPTH: usize = 32;

/// Stands for the unknown number of elements of a streamed aggregate.
const UNKNOWN: u64 = u64::MAX;

/// Elements that one reply can declare. Far more than fits a bulk of 512 MB in the smallest encoding, and far from where
/// the count would overflow.
const MAX_ELEMENTS: u64 = 1 << 40;

/// How far one reply, or one element of one, has been read.
#[derive(Debug, Default)]
pub struct Skim {
    /// Elements still to come.
    left: u64,
    state: State,
    /// What was left around each open streamed aggregate.
    open: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the beginning of an element.
    #[default]
    Header,
    /// At the beginning of a push.
    Push,
    /// Within a bulk: bytes to come, its line end included.
    Body(u64),
    /// Within a line whose length is not known.
    Line,
    /// After the CR of such a line.
    LineEnd,
    /// Between the chunks of a streamed string.
    Chunks,
    /// Within a chunk of a streamed string.
    Chunk(u64),
}

impl Skim {
    /// Begins an element: a whole reply, or one within an aggregate.
    #[inline]
    pub fn start(&mut self) {
        self.start_many(1);
    }

    /// Begins a push, between replies or between the elements of one.
    #[inline]
    pub fn start_push(&mut self) {
        self.start_many(0);
        self.state = State::Push;
    }

    /// Begins as many elements.
    #[inline]
    pub fn start_many(&mut self, elements: u64) {
        debug_assert!(self.is_done() && self.open.is_empty());
        self.left = elements;
    }

    /// Whether the last byte of what was begun has been read.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.state == State::Header
    }

    /// Reads on as far as the element reaches or the bytes do; returns how many were read. What is not read at the end
    /// of `buf` is at most the beginning of one header line.
    ///
    /// # Errors
    /// [`Foreign`] for bytes that are not RESP.
    pub fn skip(&mut self, buf: &[u8]) -> Result<usize, Foreign> {
        let mut at = 0;
        while !self.is_done() {
            let rest = buf.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let read = match self.state {
                State::Header => match self.header(rest)? {
                    0 => break,
                    n => n,
                },
                State::Push => match self.header(rest)? {
                    0 => break,
                    n => {
                        self.state = State::Header;
                        n
                    }
                },
                State::Body(left) => {
                    let n = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    let left = left - n as u64;
                    self.state = if left == 0 {
                        State::Header
                    } else {
                        State::Body(left)
                    };
                    n
                }
                State::Line => match memchr::memchr(b'\r', rest) {
                    None => rest.len(),
                    Some(cr) => {
                        self.state = State::LineEnd;
                        cr + 1
                    }
                },
                State::LineEnd => {
                    self.state = match rest.first() {
                        Some(b'\n') => State::Header,
                        Some(b'\r') => State::LineEnd,
                        _ => State::Line,
                    };
                    1
                }
                State::Chunks => match number_line(rest, b';')? {
                    None => break,
                    Some((0, n)) => {
                        self.state = State::Header;
                        n
                    }
                    Some((length, n)) => {
                        self.state = State::Chunk(
                            u64::try_from(length)
                                .map_err(|_| Foreign)?
                                .saturating_add(2),
                        );
                        n
                    }
                },
                State::Chunk(left) => {
                    let n = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    let left = left - n as u64;
                    self.state = if left == 0 {
                        State::Chunks
                    } else {
                        State::Chunk(left)
                    };
                    n
                }
            };
            at += read;
        }
        Ok(at)
    }

    /// Reads one header line, or the marker of a line; 0 while it is incomplete.
    #[inline]
    fn header(&mut self, buf: &[u8]) -> Result<usize, Foreign> {
        let Some(&marker) = buf.first() else {
            return Ok(0);
        };
        match marker {
            b'$' | b'=' | b'!' => {
                if streamed(buf) {
                    return self.streamed_header(buf, marker);
                }
                let Some((length, line)) = number_line(buf, marker)? else {
                    return Ok(0);
                };
                self.take_one();
                match length {
                    -1 if marker == b'$' => {}
                    _ => {
                        let length = u64::try_from(length).map_err(|_| Foreign)?;
                        self.state = State::Body(length.checked_add(2).ok_or(Foreign)?);
                    }
                }
                Ok(line)
            }
            b'+' | b'-' | b':' | b'_' | b',' | b'(' | b'#' => {
                self.take_one();
                self.state = State::Line;
                Ok(1)
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                if streamed(buf) {
                    return self.streamed_header(buf, marker);
                }
                let Some((count, line)) = number_line(buf, marker)? else {
                    return Ok(0);
                };
                if !matches!(marker, b'|' | b'>') {
                    self.take_one();
                }
                match count {
                    -1 if marker == b'*' => {}
                    _ => self.add(elements(marker, count)?)?,
                }
                Ok(line)
            }
            b'.' => {
                if buf.len() < 3 {
                    return if b".\r\n".starts_with(buf) {
                        Ok(0)
                    } else {
                        Err(Foreign)
                    };
                }
                let outside = self
                    .open
                    .pop()
                    .filter(|_| self.left == UNKNOWN && buf.starts_with(b".\r\n"));
                self.left = outside.ok_or(Foreign)?;
                Ok(3)
            }
            _ => Err(Foreign),
        }
    }

    /// `$?`, `*?`, `~?`, `%?`: a length that nobody says.
    #[cold]
    fn streamed_header(&mut self, buf: &[u8], marker: u8) -> Result<usize, Foreign> {
        let Some(line) = buf.get(..4) else {
            return Ok(0);
        };
        if line.get(2..) != Some(b"\r\n") {
            return Err(Foreign);
        }
        match marker {
            b'$' => {
                self.take_one();
                self.state = State::Chunks;
            }
            b'*' | b'~' | b'%' if self.open.len() < MAX_STREAMED_DEPTH => {
                self.take_one();
                self.open.push(self.left);
                self.left = UNKNOWN;
            }
            _ => return Err(Foreign),
        }
        Ok(4)
    }

    #[inline]
    fn take_one(&mut self) {
        if self.left != UNKNOWN {
            self.left = self.left.saturating_sub(1);
        }
    }

    #[inline]
    fn add(&mut self, elements: u64) -> Result<(), Foreign> {
        if self.left == UNKNOWN {
            // A definite aggregate within a streamed one would need its own count; no server sends it.
            return if elements == 0 {
                Ok(())
            } else {
                self.nest(elements)
            };
        }
        self.left = self
            .left
            .checked_add(elements)
            .filter(|left| *left <= MAX_ELEMENTS)
            .ok_or(Foreign)?;
        Ok(())
    }

    /// Elements of a definite aggregate within a streamed one need no count of their own: the `.` that ends the streamed
    /// one cannot come before they are complete, unless the server lies.
    #[cold]
    fn nest(&mut self, elements: u64) -> Result<(), Foreign> {
        if elements > MAX_ELEMENTS {
            Err(Foreign)
        } else {
            Ok(())
        }
    }
}

/// The length of a reply that is a bulk string, a number, a status or an error, if all of it is there: most replies are.
#[inline]
#[must_use]
pub fn whole(buf: &[u8]) -> Option<usize> {
    let end = match buf.first()? {
        b'$' => {
            let (length, line) = number_line(buf, b'$').ok()??;
            match usize::try_from(length) {
                Ok(length) => line.checked_add(length)?.checked_add(2)?,
                Err(_) if length == -1 => line,
                Err(_) => return None,
            }
        }
        b':' | b'+' | b'-' => {
            let cr = buf.iter().position(|byte| *byte == b'\r')?;
            if buf.get(cr + 1) != Some(&b'\n') {
                return None;
            }
            cr + 2
        }
        _ => return None,
    };
    (end <= buf.len()).then_some(end)
}

/// `$?` or `*?`, as far as two bytes tell.
#[inline]
fn streamed(buf: &[u8]) -> bool {
    buf.get(1) == Some(&b'?')
}

/// Number of elements that a header of this marker announces.
#[inline]
fn elements(marker: u8, count: i64) -> Result<u64, Foreign> {
    let count = u64::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_ELEMENTS / 2)
        .ok_or(Foreign)?;
    Ok(if matches!(marker, b'%' | b'|') {
        count * 2
    } else {
        count
    })
}

/// The header of an array, set, push or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// `*-1`, `_` or `$-1`.
    Null,
    /// An array, a set or a push of as many elements.
    List(u64),
    /// A map of as many pairs.
    Map(u64),
    /// Anything else: the caller reads it as one element.
    Other,
}

/// Reads the header of an aggregate that the caller wants to enter: what it is and the length of its line. None while
/// the line is incomplete.
///
/// # Errors
/// [`Foreign`] for bytes that are not RESP.
#[inline]
pub fn aggregate(buf: &[u8]) -> Result<Option<(Aggregate, usize)>, Foreign> {
    let Some(&marker) = buf.first() else {
        return Ok(None);
    };
    if !matches!(marker, b'*' | b'~' | b'%' | b'$' | b'_') || streamed(buf) {
        return Ok(Some((Aggregate::Other, 0)));
    }
    if marker == b'_' {
        return Ok(buf.get(..3).map(|line| match line {
            b"_\r\n" => (Aggregate::Null, 3),
            _ => (Aggregate::Other, 0),
        }));
    }
    let Some((count, line)) = number_line(buf, marker)? else {
        return Ok(None);
    };
    Ok(Some(match (marker, u64::try_from(count)) {
        (b'*' | b'$', Err(_)) => (Aggregate::Null, line),
        (b'*' | b'~', Ok(count)) if count <= MAX_ELEMENTS => (Aggregate::List(count), line),
        (b'%', Ok(count)) if count <= MAX_ELEMENTS => (Aggregate::Map(count), line),
        _ => (Aggregate::Other, 0),
    }))
}

#[cfg(test)]
mod tests;
