//! Sums over `/proc/self/smaps` (proc_pid_smaps(5)).

use std::ops::Range;

/// What is not the allocator's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Anonymous pages of the main thread's stack.
    pub(super) stack: u64,
    /// Anonymous pages of mappings of files: what the program and its libraries have written to, and what follows them in memory (`.bss`); and the C
    /// library's own heap.
    pub(super) program: u64,
    /// Mappings without a name: where other threads' stacks are.
    pub(super) unnamed: Vec<Range<usize>>,
    /// How large a page is.
    pub(super) page: usize,
}

pub(super) fn sums(smaps: &str) -> Sums {
    let mut sums = Sums::default();
    let mut kind = Kind::Other;
    // What follows a file's mappings without a gap and has no name is its `.bss`.
    let mut end_of_file = 0;
    for line in smaps.lines() {
        if let Some((range, path)) = header(line) {
            kind = match path {
                "[stack]" => Kind::Stack,
                "[heap]" => Kind::Program,
                "" if range.start == end_of_file => Kind::Program,
                "" => {
                    sums.unnamed.push(range);
                    Kind::Other
                }
                path if path.starts_with('/') => {
                    end_of_file = range.end;
                    Kind::Program
                }
                _ => Kind::Other,
            };
        } else if let Some(bytes) = value(line, "Anonymous:") {
            match kind {
                Kind::Stack => sums.stack += bytes,
                Kind::Program => sums.program += bytes,
                Kind::Other => {}
            }
        } else if sums.page == 0
            && let Some(bytes) = value(line, "KernelPageSize:")
        {
            sums.page = bytes as usize;
        }
    }
    sums
}

#[derive(Clone, Copy)]
enum Kind {
    Stack,
    Program,
    Other,
}

/// `55d0…-55d1… r-xp 00001000 fe:00 1234    /usr/bin/tars-agent`
fn header(line: &str) -> Option<(Range<usize>, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(begin)?..address(end)?;
    Some((range, fields.nth(4).unwrap_or("")))
}

/// `Anonymous:            12 kB`
fn value(line: &str, key: &str) -> Option<u64> {
    let kilobytes = line.strip_prefix(key)?.trim().strip_suffix(" kB")?;
    kilobytes
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_program_and_the_rest_are_told_apart() {
        let smaps = "\
55e000000000-55e000100000 r-xp 00000000 fe:00 11   /bin/tars-agent
KernelPageSize:        4 kB
Rss:                 900 kB
Anonymous:             0 kB
55e000100000-55e000110000 rw-p 00100000 fe:00 11   /bin/tars-agent
Anonymous:            40 kB
55e000110000-55e000120000 rw-p 00000000 00:00 0
Anonymous:             8 kB
55e100000000-55e100021000 rw-p 00000000 00:00 0    [heap]
Anonymous:             4 kB
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Anonymous:          2048 kB
7f0000300000-7f0000380000 rw-p 00000000 00:00 0
Anonymous:            16 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0    [stack]
Anonymous:            12 kB
";
        let expected = Sums {
            stack: 12 << 10,
            program: 52 << 10,
            unnamed: vec![
                0x7f00_0000_0000..0x7f00_0020_0000,
                0x7f00_0030_0000..0x7f00_0038_0000,
            ],
            page: 4_096,
        };
        assert_eq!(sums(smaps), expected);
    }
}
