//! What the allocator holds, as far as its pages are there.
//!
//! jemalloc counts its pages by what it has mapped for a purpose, not by what was ever written to. In one place that is far from the truth: the tables in
//! which it looks up the owner of an address are an entry for each page of a GiB, 2 MiB, all of which it takes for resident. Only those
//! entries are written whose addresses it has; the others are pages that the kernel has only promised.

use tikv_jemalloc_ctl::{Access as _, AsName as _, epoch, stats};

/// An entry of those tables.
const ENTRY: usize = 8;

/// Figures of one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// What the program has asked for and not given back.
    pub(super) allocated: usize,
    /// What is resident beyond that.
    pub(super) overhead: usize,
}

/// What it holds now.
pub(super) fn held() -> Held {
    // Its numbers are of the moment when its epoch was advanced.
    let _ = epoch::advance();
    let of = |figure: tikv_jemalloc_ctl::Result<usize>| figure.unwrap_or(0);
    let named = |name: &'static [u8]| of(name.name().read());
    let allocated = of(stats::allocated::read());
    let (tables, page) = (named(b"stats.metadata_rtree\0"), named(b"arenas.page\0"));
    let addresses = of(stats::mapped::read()) + of(stats::retained::read());
    let untouched = tables.saturating_sub(touched(addresses, page.max(1)));
    let resident = of(stats::resident::read()).saturating_sub(untouched);
    Held {
        allocated,
        overhead: resident.saturating_sub(allocated),
    }
}

/// How much of the tables is written to for so many bytes of addresses: a page has the entries of 2 MiB where pages have 4 KiB.
fn touched(addresses: usize, page: usize) -> usize {
    let entries = addresses.div_ceil(page);
    (entries * ENTRY).next_multiple_of(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_tables_is_for_two_mebibytes() {
        for (addresses, pages) in [(0, 0), (1, 1), (2 << 20, 1), ((2 << 20) + 1, 2)] {
            assert_eq!(touched(addresses, 4_096), pages * 4_096, "{addresses}");
        }
    }
}
