//! The manifest's own checksum: the last line of its object, over all that stands before that.

use super::Manifest;

/// What [`last`] returns is so long.
const LAST: usize = ",\n  \"crc32\": \"00000000\"\n}\n".len();

/// A manifest as it is written.
pub(super) fn seal(manifest: &Manifest) -> serde_json::Result<Vec<u8>> {
    let mut sealed = serde_json::to_vec_pretty(manifest)?;
    sealed.truncate(sealed.len() - "\n}".len());
    let last = last(&sealed);
    sealed.extend(last.bytes());
    Ok(sealed)
}

/// It is what was written, to the byte.
pub(super) fn is_intact(sealed: &[u8]) -> bool {
    let split = sealed.split_at_checked(sealed.len().saturating_sub(LAST));
    split.is_some_and(|(rest, found)| found == last(rest).as_bytes())
}

fn last(rest: &[u8]) -> String {
    format!(",\n  \"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(rest))
}
