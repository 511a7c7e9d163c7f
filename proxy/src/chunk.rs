//! Bytes on their way from one side to the other.
//!
//! They are written from the buffer they were read into, unless something in them changed: then the pieces are gathered
//! in a second buffer. One mechanism serves injection, replacement and removal: [`Chunk::splice`].

use std::ops::Range;

/// What has been read from one side and not yet been written to the other.
pub struct Chunk<'a> {
    work: &'a mut [u8],
    out: &'a mut Vec<u8>,
    /// Up to here `work` has been copied to `out`, or was replaced.
    copied: usize,
    edited: bool,
}

impl<'a> Chunk<'a> {
    /// Around the bytes read; `out` is scratch space.
    pub fn new(work: &'a mut [u8], out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Self {
            work,
            out,
            copied: 0,
            edited: false,
        }
    }

    /// All bytes, as they were read.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.work
    }

    /// Replaces a range; ranges come in ascending order.
    pub fn splice(&mut self, range: Range<usize>, with: &[u8]) {
        debug_assert!(range.start >= self.copied);
        self.out
            .extend_from_slice(self.work.get(self.copied..range.start).unwrap_or_default());
        self.out.extend_from_slice(with);
        self.copied = range.end;
        self.edited = true;
    }

    /// Replaces a range, where it stands if it is as long as what comes in its place.
    #[inline]
    pub fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        if range.len() == with.len() {
            self.patch(range.start, with);
        } else {
            self.splice(range, with);
        }
    }

    /// Hands over the bytes together with a function that splices into what will be written instead of them.
    pub fn split(&mut self) -> (&[u8], impl FnMut(Range<usize>, &[u8])) {
        let Self {
            work,
            out,
            copied,
            edited,
        } = self;
        let work: &[u8] = work;
        (work, move |range: Range<usize>, with: &[u8]| {
            out.extend_from_slice(work.get(*copied..range.start).unwrap_or_default());
            out.extend_from_slice(with);
            *copied = range.end;
            *edited = true;
        })
    }

    /// Overwrites bytes with as many others, in place.
    pub fn patch(&mut self, at: usize, with: &[u8]) {
        if let Some(target) = self.work.get_mut(at..at + with.len()) {
            target.copy_from_slice(with);
        }
    }

    /// The first `consumed` bytes as they are to be written.
    #[must_use]
    pub fn finish(self, consumed: usize) -> &'a [u8] {
        if !self.edited {
            return self.work.get(..consumed).unwrap_or_default();
        }
        self.out
            .extend_from_slice(self.work.get(self.copied..consumed).unwrap_or_default());
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_bytes_stay_where_they_are() {
        let (mut work, mut out) = (*b"abcdef", Vec::new());
        let start = work.as_ptr();
        let chunk = Chunk::new(&mut work, &mut out);
        let written = chunk.finish(4);
        assert_eq!(written, b"abcd");
        assert_eq!(written.as_ptr(), start);
    }

    #[test]
    fn splices_and_patches_meet_in_the_output() {
        let (mut work, mut out) = (*b"abcdefgh", Vec::new());
        let mut chunk = Chunk::new(&mut work, &mut out);
        chunk.patch(0, b"A");
        chunk.splice(2..3, b"--");
        chunk.splice(5..5, b"+");
        chunk.splice(6..7, b"");
        assert_eq!(chunk.bytes(), b"Abcdefgh");
        assert_eq!(chunk.finish(8), b"Ab--de+fh");
    }
}
