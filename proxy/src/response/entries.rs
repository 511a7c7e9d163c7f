//! Walks a reply that holds stream entries, one entry at a time, while it streams through.
//!
//! [`Walk`] knows where in the reply the entries are; it never holds more than one. [`Entry::parse`] reads one whole
//! entry. Both are pure.

use std::ops::Range;

use super::skim::{Aggregate, Skim, aggregate};
use crate::request::scan::{Foreign, number_line};
use crate::trace::span::EntryId;

/// Where a command's reply keeps its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// XREAD, XREADGROUP: a list of `[key, entries]` in RESP2, a map from key to entries in RESP3.
    Streams,
    /// XCLAIM, XRANGE, XREVRANGE: the entries.
    Entries,
    /// XAUTOCLAIM: cursor, entries, and ids that are no longer in the stream.
    Cursor,
}

/// Progress through one reply.
#[derive(Debug)]
pub struct Walk {
    shape: Shape,
    place: Place,
    /// `[key, entries]` pairs that have not begun.
    streams: u64,
    /// Whether the pairs are those of a map, without a header of their own.
    map: bool,
    /// Entries of the current list that have not begun.
    entries: u64,
    /// Elements behind the entries that mean nothing here.
    rest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    Pair,
    Key,
    List,
    Entries,
    Rest,
}

/// What comes next in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// Structure that passes: as many bytes.
    Pass(usize),
    /// A key, or XAUTOCLAIM's cursor: as many bytes, with the text in this range.
    Key(usize, Range<usize>),
    /// An entry begins here, to be read as one element; then [`Walk::entry_done`].
    Entry,
    /// The reply ends after this many more elements, which are to be skipped: 0 when it is over, all that is left when
    /// it is not built as expected.
    Finish(u64),
}

impl Walk {
    /// Begins at the first byte of a reply.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            place: Place::Top,
            streams: 0,
            map: false,
            entries: 0,
            rest: 0,
        }
    }

    /// Elements of the reply that have not begun, wherever the walk stands.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let pairs = self.streams.saturating_mul(if self.map { 2 } else { 1 });
        let here = match self.place {
            Place::Top | Place::Pair | Place::List => 1,
            Place::Key => 2,
            Place::Entries | Place::Rest => 0,
        };
        pairs
            .saturating_add(here)
            .saturating_add(self.entries)
            .saturating_add(self.rest)
    }

    /// Says what comes next; `buf` begins where the last step ended.
    ///
    /// # Errors
    /// [`Foreign`] for bytes that are not RESP.
    pub fn step(&mut self, buf: &[u8]) -> Result<Step, Foreign> {
        match self.place {
            Place::Top => {
                let Some((header, line)) = aggregate(buf)? else {
                    return Ok(Step::More);
                };
                match (self.shape, header) {
                    (_, Aggregate::Null) => self.place = Place::Rest,
                    (Shape::Streams, Aggregate::List(n)) => {
                        self.streams = n;
                        self.place = Place::Rest;
                        self.next_pair();
                    }
                    (Shape::Streams, Aggregate::Map(n)) => {
                        self.streams = n;
                        self.map = true;
                        self.place = Place::Rest;
                        self.next_pair();
                    }
                    (Shape::Entries, Aggregate::List(n)) => {
                        self.entries = n;
                        self.place = Place::Entries;
                    }
                    (Shape::Cursor, Aggregate::List(n @ 2..)) => {
                        self.rest = n - 2;
                        self.place = Place::Key;
                    }
                    _ => return Ok(Step::Finish(self.remaining())),
                }
                Ok(Step::Pass(line))
            }
            Place::Pair => {
                let Some((header, line)) = aggregate(buf)? else {
                    return Ok(Step::More);
                };
                if header != Aggregate::List(2) {
                    return Ok(Step::Finish(self.remaining()));
                }
                self.place = Place::Key;
                Ok(Step::Pass(line))
            }
            Place::Key => {
                if buf.first().is_some_and(|b| *b != b'$') {
                    return Ok(Step::Finish(self.remaining()));
                }
                let Some((length, line)) = number_line(buf, b'$')? else {
                    return Ok(Step::More);
                };
                let Ok(length) = usize::try_from(length) else {
                    return Ok(Step::Finish(self.remaining()));
                };
                let end = line.checked_add(length).ok_or(Foreign)?;
                if buf.len() < end.saturating_add(2) {
                    return Ok(Step::More);
                }
                self.place = Place::List;
                Ok(Step::Key(end + 2, line..end))
            }
            Place::List => {
                let Some((header, line)) = aggregate(buf)? else {
                    return Ok(Step::More);
                };
                match header {
                    Aggregate::List(n) => self.entries = n,
                    Aggregate::Null => {}
                    _ => return Ok(Step::Finish(self.remaining())),
                }
                self.place = Place::Entries;
                self.entries_done();
                Ok(Step::Pass(line))
            }
            Place::Entries if self.entries > 0 => Ok(Step::Entry),
            Place::Entries | Place::Rest => Ok(Step::Finish(self.remaining())),
        }
    }

    /// The entry announced by [`Step::Entry`] has been read to its end.
    pub fn entry_done(&mut self) {
        self.entries = self.entries.saturating_sub(1);
        self.entries_done();
    }

    fn entries_done(&mut self) {
        if self.entries == 0 {
            self.place = Place::Rest;
            self.next_pair();
        }
    }

    fn next_pair(&mut self) {
        if self.streams > 0 {
            self.streams -= 1;
            self.place = if self.map { Place::Key } else { Place::Pair };
        }
    }
}

/// One entry of a stream as a reply shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its ID.
    pub id: EntryId,
    /// Names and values in turn, as ranges of the entry's bytes; none for a message that was deleted, and under JUSTID.
    pub fields: Option<Fields>,
    /// XREADGROUP … CLAIM: how often the message had been delivered before this time.
    pub delivered_before: Option<u64>,
}

/// Where the fields of an entry are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The line that counts them.
    pub header: Range<usize>,
    /// Number of names and values.
    pub count: usize,
    /// From the first name to the end of the last value.
    pub body: Range<usize>,
}

impl Entry {
    /// Reads `[id, [name, value, …]]`, `[id, […], idle, deliveries]`, `[id, nil]` or `id`. None for anything else.
    #[must_use]
    pub fn parse(buf: &[u8]) -> Option<Self> {
        if buf.first() == Some(&b'$') {
            let (id, _) = bulk(buf, 0)?;
            return Some(Self {
                id: EntryId::parse(buf.get(id)?)?,
                fields: None,
                delivered_before: None,
            });
        }
        let (header, mut at) = aggregate(buf).ok()??;
        let Aggregate::List(members @ (2 | 4)) = header else {
            return None;
        };
        let (id, end) = bulk(buf, at)?;
        let id = EntryId::parse(buf.get(id)?)?;
        at = end;
        let (header, line) = aggregate(buf.get(at..)?).ok()??;
        let fields = match header {
            Aggregate::Null => {
                at += line;
                None
            }
            Aggregate::List(count) => {
                let count = usize::try_from(count)
                    .ok()
                    .filter(|count| count.is_multiple_of(2))?;
                let header = at..at + line;
                let mut skim = Skim::default();
                skim.start_many(count as u64);
                let body = skim.skip(buf.get(header.end..)?).ok()?;
                if !skim.is_done() {
                    return None;
                }
                at = header.end + body;
                Some(Fields {
                    body: header.end..at,
                    header,
                    count,
                })
            }
            _ => return None,
        };
        let delivered_before = if members == 4 {
            let (_, line) = number_line(buf.get(at..)?, b':').ok()??;
            let (count, _) = number_line(buf.get(at + line..)?, b':').ok()??;
            u64::try_from(count).ok()
        } else {
            None
        };
        Some(Self {
            id,
            fields,
            delivered_before,
        })
    }
}

impl Fields {
    /// The pairs, as ranges of the entry's bytes.
    pub fn ranges<'a>(
        &self,
        buf: &'a [u8],
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + Clone + use<'a> {
        let mut at = self.body.start;
        std::iter::repeat_n((), self.count / 2).map_while(move |()| {
            let (name, end) = bulk(buf, at)?;
            let (value, end) = bulk(buf, end)?;
            at = end;
            Some((name, value))
        })
    }

    /// The pairs.
    pub fn pairs<'a>(
        &self,
        buf: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        self.ranges(buf)
            .filter_map(move |(name, value)| Some((buf.get(name)?, buf.get(value)?)))
    }
}

/// The text of the bulk string at `at`, and where it ends.
#[inline]
fn bulk(buf: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let (length, line) = number_line(buf.get(at..)?, b'$').ok()??;
    let start = at + line;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end + 2 <= buf.len()).then_some((start..end, end + 2))
}

#[cfg(test)]
mod tests;
