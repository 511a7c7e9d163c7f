//! What was acknowledged and is not yet part of a checkpoint, on disk.
//!
//! A directory of segments, each a file of records in order, named by the number of its first. A record is its length and CRC-32, both 32 bits,
//! little-endian, and then what was appended. Records are numbered without a gap for ever. What is appended is durable after [`Journal::commit`];
//! [`Journal::trim`] removes the segments that are not needed any more.
//!
//! A kill leaves half a record at the end of the last segment at most: it was never acknowledged, and is cut off. Anything else that does not add up
//! is damage, and said so.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

/// A segment is closed when it is larger.
const SEGMENT: u64 = 8 << 20;
/// Length and checksum.
const HEADER: usize = 8;
const EXTENSION: &str = "log";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no room left for so much.
    #[error(
        "the journal holds {bytes} of at most {most} bytes: what it holds must be learnt from first"
    )]
    Full {
        /// What it holds.
        bytes: u64,
        /// What it may.
        most: u64,
    },
    /// Something is not what was written.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// At which byte.
        at: u64,
        /// How.
        what: &'static str,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    most: u64,
    /// The number of the next record.
    next: u64,
    segments: VecDeque<Segment>,
    /// The last segment, if it can be appended to.
    file: Option<File>,
    /// Records that are not yet written.
    waiting: Vec<u8>,
    waiting_records: u64,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

impl Journal {
    /// Opens the journal in this directory, which is made if it is not there. `next` is the number of the next record if it holds none. `each` is
    /// given every record that it holds, in order, and its number.
    ///
    /// # Errors
    /// If it is damaged, or cannot be read or written.
    pub fn open(
        directory: &Path,
        most: u64,
        next: u64,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<Self, JournalError> {
        let io = |error| at(directory, error);
        fs::create_dir_all(directory).map_err(io)?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(directory).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == EXTENSION)
            {
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                firsts.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
            }
        }
        firsts.sort_unstable();
        let mut journal = Self {
            directory: directory.to_owned(),
            most,
            next: firsts.first().copied().unwrap_or(next),
            segments: VecDeque::new(),
            file: None,
            waiting: Vec::new(),
            waiting_records: 0,
        };
        for (place, &first) in firsts.iter().enumerate() {
            if first != journal.next {
                return Err(JournalError::Damaged {
                    path: journal.path(first),
                    at: 0,
                    what: "the segment before it is missing",
                });
            }
            journal.read_segment(first, place + 1 == firsts.len(), &mut each)?;
        }
        // A checkpoint knows of more than the journal does only if the journal was trimmed to nothing.
        if journal.next < next {
            for segment in std::mem::take(&mut journal.segments) {
                let path = journal.path(segment.first);
                fs::remove_file(&path).map_err(|error| at(&path, error))?;
            }
            journal.next = next;
        }
        Ok(journal)
    }

    fn read_segment(
        &mut self,
        first: u64,
        is_last: bool,
        each: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), JournalError> {
        let path = self.path(first);
        let io = |error| at(&path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut reader = BufReader::new(&file);
        let (mut offset, mut record) = (0, Vec::new());
        loop {
            let damaged = |what| JournalError::Damaged {
                path: path.clone(),
                at: offset,
                what,
            };
            let left = length - offset;
            if left == 0 {
                break;
            }
            let whole = read_record(&mut reader, left, &mut record).map_err(io)?;
            match whole {
                Whole::Yes => {
                    each(self.next, &record);
                    self.next += 1;
                    offset += (HEADER + record.len()) as u64;
                }
                // Half a record, or pages that never reached the disk: nothing after it was acknowledged.
                Whole::Cut if is_last => {
                    file.set_len(offset)
                        .and_then(|()| file.sync_all())
                        .map_err(io)?;
                    break;
                }
                Whole::Cut => return Err(damaged("it ends within a record, and is not the last")),
                Whole::Wrong if is_last && !is_followed(&mut reader, left, record.len()) => {
                    file.set_len(offset)
                        .and_then(|()| file.sync_all())
                        .map_err(io)?;
                    break;
                }
                Whole::Wrong => return Err(damaged("a record's checksum differs")),
            }
        }
        self.segments.push_back(Segment {
            first,
            bytes: offset,
        });
        Ok(())
    }

    /// The number of the next record.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.bytes)
            .sum::<u64>()
            + self.waiting.len() as u64
    }

    /// How many it may.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Appends a record that `write` appends to a buffer, and gives its number. It is not durable yet.
    ///
    /// # Errors
    /// If there is no room.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<u64, JournalError> {
        let begin = self.waiting.len();
        self.waiting.extend([0; HEADER]);
        write(&mut self.waiting);
        let bytes = self.bytes();
        if bytes > self.most {
            self.waiting.truncate(begin);
            return Err(JournalError::Full {
                bytes: self.bytes(),
                most: self.most,
            });
        }
        let record = &self.waiting[begin + HEADER..];
        let header = (record.len() as u64) | (u64::from(crc32fast::hash(record)) << 32);
        self.waiting[begin..begin + HEADER].copy_from_slice(&header.to_le_bytes());
        let number = self.next + self.waiting_records;
        self.waiting_records += 1;
        Ok(number)
    }

    /// Where what is appended next will stand.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.waiting.len(),
            records: self.waiting_records,
        }
    }

    /// Takes back what was appended since.
    pub fn rewind(&mut self, mark: Mark) {
        self.waiting.truncate(mark.bytes);
        self.waiting_records = mark.records;
    }

    /// Makes what was appended durable, all of it or nothing.
    ///
    /// # Errors
    /// If the disk refuses: then nothing of it is there.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        let done = self.try_commit();
        let records = std::mem::take(&mut self.waiting_records);
        if done.is_ok() {
            self.next += records;
        }
        self.waiting.clear();
        // What a large batch took is given back.
        self.waiting.shrink_to(1 << 16);
        done
    }

    fn try_commit(&mut self) -> Result<(), JournalError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let full = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes >= SEGMENT);
        if full || self.file.is_none() {
            self.open_last(full)?;
        }
        let first = self
            .segments
            .back()
            .map_or(self.next, |segment| segment.first);
        let path = self.path(first);
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) else {
            return Ok(());
        };
        let written = file
            .write_all(&self.waiting)
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What of it is there must not be found by the next start, nor stand before what comes next. If even that fails, its numbers would be
            // given twice: the file is closed, and opening it again cuts it to its length first.
            if file
                .set_len(segment.bytes)
                .and_then(|()| file.sync_all())
                .is_err()
            {
                self.file = None;
            }
            return Err(at(&path, error));
        }
        segment.bytes += self.waiting.len() as u64;
        Ok(())
    }

    /// Opens the last segment to append to it, or begins a new one.
    fn open_last(&mut self, new: bool) -> Result<(), JournalError> {
        let first = match self.segments.back() {
            Some(segment) if !new => segment.first,
            _ => self.next,
        };
        let path = self.path(first);
        let io = |error| at(&path, error);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io)?;
        let bytes = if new {
            0
        } else {
            self.segments.back().map_or(0, |segment| segment.bytes)
        };
        file.set_len(bytes).map_err(io)?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io)?;
        if new {
            self.segments.push_back(Segment { first, bytes: 0 });
        }
        self.file = Some(file);
        Ok(())
    }

    /// Removes the segments of which no record from `floor` on is part. What cannot be removed is tried again next time.
    pub fn trim(&mut self, floor: u64) {
        while let Some(segment) = self.segments.front() {
            let end = self.segments.get(1).map_or(self.next, |next| next.first);
            if end > floor || segment.bytes == 0 {
                break;
            }
            if fs::remove_file(self.path(segment.first)).is_err() {
                break;
            }
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.file = None;
            }
        }
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(format!("{first:020}.{EXTENSION}"))
    }
}

/// A place among what was appended and is not yet durable.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    records: u64,
}

enum Whole {
    Yes,
    /// The segment ends before the record does.
    Cut,
    /// It is there, and not what was written.
    Wrong,
}

/// Whether a record that is whole follows one that is not: then it is damage rather than what a kill has left.
fn is_followed(reader: &mut impl Read, left: u64, record: usize) -> bool {
    let left = left.saturating_sub((HEADER + record) as u64);
    let mut next = Vec::new();
    left > 0 && matches!(read_record(reader, left, &mut next), Ok(Whole::Yes))
}

fn read_record(reader: &mut impl Read, left: u64, record: &mut Vec<u8>) -> io::Result<Whole> {
    record.clear();
    if left < HEADER as u64 {
        return Ok(Whole::Cut);
    }
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let header = u64::from_le_bytes(header);
    let (length, checksum) = (header & u64::from(u32::MAX), header >> 32);
    if length > left - HEADER as u64 {
        return Ok(Whole::Cut);
    }
    reader.take(length).read_to_end(record)?;
    // Zeros are what a file system may show where data never arrived: an empty record is none.
    let sound = length > 0 && u64::from(crc32fast::hash(record)) == checksum;
    Ok(if sound { Whole::Yes } else { Whole::Wrong })
}

fn at(path: &Path, error: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
