//! Slices that lie in a file: pages that the kernel may write back and take away when memory is scarce, and that no limit on anonymous memory counts.
//!
//! Others who change or shorten a mapped file would change what Rust takes for its own, and this is why mapping is unsafe. Here nobody can: the file
//! never has a name (`O_TMPFILE`; where a file system lacks that, it loses its name at once), and its descriptor is closed as soon as it is mapped. Nor
//! does anything stay behind when the process is killed.
//!
//! Its blocks are allocated before it is mapped. Without that, a full disk would be found out by a write to memory, which has no way to fail but SIGBUS.

#![allow(
    unsafe_code,
    reason = "a file that nobody else can reach is mapped (docs/adr/0010)"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use bytemuck::Pod;
use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

/// A slice in a file of its own.
pub(super) struct Mapped<T> {
    map: MmapMut,
    /// Bytes as numbers: known where the slice is made and `T` is known to be plain.
    view: fn(&[u8]) -> &[T],
    view_mut: fn(&mut [u8]) -> &mut [T],
}

impl<T: Pod> Mapped<T> {
    /// `len` times `value`, in a file in `directory`.
    pub(super) fn new(directory: &Path, len: usize, value: T) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let file = tempfile::tempfile_in(directory)?;
        allocate(&file, bytes.ok_or(Errno::FBIG)?)?;
        // SAFETY: the file has no name, and its only descriptor is dropped here: nobody else changes it.
        let map = unsafe { MmapMut::map_mut(&file)? };
        let mut mapped = Self {
            map,
            view: bytemuck::cast_slice,
            view_mut: bytemuck::cast_slice_mut,
        };
        mapped.as_mut_slice().fill(value);
        Ok(mapped)
    }
}

impl<T> Mapped<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        (self.view)(&self.map)
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        (self.view_mut)(&mut self.map)
    }
}

/// Gives an empty file so many bytes, each with a place on the disk.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, bytes),
        done => Ok(done?),
    }
}

/// What is written has a place, too.
fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.flush()?;
    // A network file system may find out only now.
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_slice_is_a_slice_and_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut numbers = Mapped::new(directory.path(), 5_000, 0.5f32).expect("room");
        assert_eq!(numbers.as_slice(), [0.5; 5_000]);
        numbers.as_mut_slice()[4_999] = -1.0;
        assert_eq!(numbers.as_slice()[4_998..], [0.5, -1.0]);
        let names = std::fs::read_dir(directory.path()).expect("a directory");
        assert_eq!(names.count(), 0);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let path = directory.path().to_str().expect("text");
        assert!(maps.contains(path), "it lies in {path}");
        drop(numbers);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        assert!(!maps.contains(path));
    }

    #[test]
    fn where_blocks_cannot_be_reserved_zeros_are_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = tempfile::tempfile_in(directory.path()).expect("a file");
        fill(&file, 70_000).expect("room");
        let metadata = file.metadata().expect("metadata");
        assert_eq!(metadata.len(), 70_000);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= 70_000);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = |len| Mapped::new(directory.path(), len, 0u64).err();
        assert!(error(1 << 57).is_some(), "more than any disk has");
        assert!(error(usize::MAX).is_some());
        let nowhere = directory.path().join("nowhere");
        assert!(Mapped::new(&nowhere, 1, 0u8).is_err());
    }
}
