//! Sums over `/proc/self/smaps` (proc_pid_smaps(5)).

/// What is not the allocator's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Anonymous pages of mappings that are stacks.
    pub(super) stacks: u64,
    /// Anonymous pages of mappings of files: what the program and its libraries have written to, and what follows them in memory (`.bss`).
    pub(super) program: u64,
}

/// `stacks`: pages that lie on a stack each.
pub(super) fn sums(smaps: &str, stacks: &[usize]) -> Sums {
    let mut sums = Sums::default();
    let mut kind = Kind::Other;
    // What follows a file's mappings without a gap and has no name is its `.bss`.
    let mut end_of_file = 0;
    for line in smaps.lines() {
        if let Some((range, path)) = header(line) {
            let is_stack = path == "[stack]"
                || stacks
                    .iter()
                    .any(|page| (range.0..range.1).contains(&(page << 12)));
            kind = if is_stack {
                Kind::Stack
            } else if path.starts_with('/') {
                end_of_file = range.1;
                Kind::File
            } else if path.is_empty() && range.0 == end_of_file {
                Kind::File
            } else {
                Kind::Other
            };
        } else if let Some(bytes) = anonymous(line) {
            match kind {
                Kind::Stack => sums.stacks += bytes,
                Kind::File => sums.program += bytes,
                Kind::Other => {}
            }
        }
    }
    sums
}

#[derive(Clone, Copy)]
enum Kind {
    Stack,
    File,
    Other,
}

/// `55d0…-55d1… r-xp 00001000 fe:00 1234    /usr/bin/tars-agent`
fn header(line: &str) -> Option<((usize, usize), &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = (address(begin)?, address(end)?);
    Some((range, fields.nth(4).unwrap_or("")))
}

/// `Anonymous:            12 kB`
fn anonymous(line: &str) -> Option<u64> {
    let kilobytes = line
        .strip_prefix("Anonymous:")?
        .trim()
        .strip_suffix(" kB")?;
    kilobytes
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_and_files_are_told_apart() {
        let smaps = "\
55e000000000-55e000100000 r-xp 00000000 fe:00 11   /bin/tars-agent
Rss:                 900 kB
Anonymous:             0 kB
55e000100000-55e000110000 rw-p 00100000 fe:00 11   /bin/tars-agent
Anonymous:            40 kB
55e000110000-55e000120000 rw-p 00000000 00:00 0
Anonymous:             8 kB
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Anonymous:          2048 kB
7f0000300000-7f0000380000 rw-p 00000000 00:00 0
Anonymous:            16 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0    [stack]
Anonymous:            12 kB
";
        let sums = sums(smaps, &[0x7f00_0037_f000 >> 12]);
        let expected = Sums {
            stacks: 28 << 10,
            program: 48 << 10,
        };
        assert_eq!(sums, expected);
    }
}
