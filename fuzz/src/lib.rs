//! What the fuzz targets share.

/// Whether redis-protocol can be asked about this: it recurses, and makes room for as many elements as are announced.
#[must_use]
pub fn is_tame(bytes: &[u8]) -> bool {
    const DEEPEST: usize = 64;
    const LONGEST: usize = 4;
    let long = |run: &[u8]| run.len() > LONGEST && run.iter().all(u8::is_ascii_digit);
    bytes.iter().filter(|byte| **byte == b'*').count() <= DEEPEST
        && !bytes.windows(LONGEST + 1).any(long)
}
