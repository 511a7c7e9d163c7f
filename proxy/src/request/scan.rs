//! Finds where the client's commands begin and end.
//!
//! Pure and resumable: a [`Cursor`] remembers how far a command has been walked, so that every byte is looked at once
//! whatever the sizes of the reads. The rules are those of `processMultibulkBuffer` and `processInlineBuffer` in
//! `networking.c`; where Redis and Valkey differ, or where a client writes what no client library writes, the answer is
//! [`Foreign`], and the connection becomes a raw relay: the server then says what it thinks of these bytes.

/// The longest inline command, and the longest line that Redis waits for (`PROTO_INLINE_MAX_SIZE`).
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

/// The longest name of a command that means something here (`PUNSUBSCRIBE`), rounded up.
pub const MAX_NAME_BYTES: usize = 16;

/// A sign and nineteen digits, the longest number that fits an `i64`, rounded up.
const MAX_NUMBER_BYTES: usize = 24;

/// Bytes whose framing is not certain to be the same for every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

/// A range of bytes; `u32` because nothing that is kept is larger than `max_message_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span32 {
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

impl Span32 {
    /// The bytes, or nothing where the range lies outside (which no range made here does).
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// What the beginning of a command says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed to tell.
    Incomplete,
    /// `*0`, `*-5` or an empty line, ending before `end`: no command, and no reply.
    Empty {
        /// Where the next command begins.
        end: usize,
    },
    /// A line that is a command, ending before `end`.
    Inline {
        /// End of the text, without the line's end.
        text_end: usize,
        /// Where the next command begins.
        end: usize,
    },
    /// An array of bulk strings. The name is whole, or too long to mean anything here and then empty.
    Array {
        /// Number of arguments, the name included.
        argc: u32,
        /// Where the `*` line ends.
        header_end: usize,
        /// The name.
        name: Span32,
        /// The walk through the arguments, at the first.
        cursor: Cursor,
    },
}

/// How far the arguments of one command have been walked. Positions count from the command's first byte, or from
/// wherever the caller has moved it with [`Cursor::rebase`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next `$` line begins; it may lie beyond what has been received.
    pub pos: usize,
    /// Arguments that have not been walked.
    pub left: u32,
}

impl Cursor {
    /// Walks on as far as `buf` reaches, and hands over the range of each argument. True when the command is whole.
    ///
    /// # Errors
    /// [`Foreign`] where a `$<length>` line was due and something else is there.
    #[inline(always)]
    pub fn walk(&mut self, buf: &[u8], mut each: impl FnMut(Span32)) -> Result<bool, Foreign> {
        while self.left > 0 {
            let Some(rest) = buf.get(self.pos..).filter(|rest| !rest.is_empty()) else {
                return Ok(false);
            };
            let (length, line) = match short_line(rest, b'$') {
                Some(short) => short,
                None => match any_number_line(rest, b'$')? {
                    Some((length, line)) => (bulk_length(length)?, line),
                    None => return Ok(false),
                },
            };
            let start = self.pos + line;
            let end = start + length;
            // The two bytes after a bulk are skipped, not checked: so do the servers.
            self.pos = end + 2;
            self.left -= 1;
            if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) {
                each(Span32 { start, end });
            }
        }
        Ok(self.pos <= buf.len())
    }

    /// Steps over an argument that is known to be the next.
    #[inline]
    pub fn step(&mut self, arg: Span32) {
        self.pos = arg.end as usize + 2;
        self.left -= 1;
    }

    /// Moves the positions after `consumed` bytes went away at the front.
    #[inline]
    pub fn rebase(&mut self, consumed: usize) {
        self.pos = self.pos.saturating_sub(consumed);
    }
}

/// Looks at the beginning of a command.
///
/// # Errors
/// [`Foreign`] for what the servers take differently or answer with a protocol error.
#[inline(always)]
pub fn head(buf: &[u8]) -> Result<Head, Foreign> {
    match buf.first() {
        None => Ok(Head::Incomplete),
        Some(b'*') => array_head(buf),
        Some(_) => inline_head(buf),
    }
}

#[inline(always)]
fn array_head(buf: &[u8]) -> Result<Head, Foreign> {
    let Some((argc, header_end)) = number_line(buf, b'*')? else {
        return Ok(Head::Incomplete);
    };
    if argc <= 0 {
        return Ok(Head::Empty { end: header_end });
    }
    let argc = i32::try_from(argc).map_err(|_| Foreign)?.unsigned_abs();
    let cursor = Cursor {
        pos: header_end,
        left: argc,
    };
    let rest = buf.get(header_end..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(Head::Incomplete);
    }
    let Some((length, line)) = number_line(rest, b'$')? else {
        return Ok(Head::Incomplete);
    };
    let length = usize::try_from(length).map_err(|_| Foreign)?;
    let start = header_end + line;
    let name = if length > MAX_NAME_BYTES {
        Span32 { start: 0, end: 0 }
    } else if buf.len() < start + length {
        return Ok(Head::Incomplete);
    } else {
        let at = |n: usize| u32::try_from(n).map_err(|_| Foreign);
        Span32 {
            start: at(start)?,
            end: at(start + length)?,
        }
    };
    Ok(Head::Array {
        argc,
        header_end,
        name,
        cursor,
    })
}

#[inline(never)]
fn inline_head(buf: &[u8]) -> Result<Head, Foreign> {
    let Some(newline) = memchr::memchr(b'\n', buf) else {
        return if buf.len() > MAX_INLINE_BYTES || buf.contains(&0) {
            Err(Foreign)
        } else {
            Ok(Head::Incomplete)
        };
    };
    let line = buf.get(..newline).unwrap_or_default();
    // Servers look for the line's end with `strchr`, which a NUL stops.
    if newline > MAX_INLINE_BYTES || line.contains(&0) {
        return Err(Foreign);
    }
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let end = newline + 1;
    if text.iter().all(|b| is_space(*b)) {
        return Ok(Head::Empty { end });
    }
    Ok(Head::Inline {
        text_end: text.len(),
        end,
    })
}

/// `isspace` of the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The length of a bulk string, small enough to be added to where it begins.
fn bulk_length(length: i64) -> Result<usize, Foreign> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= usize::MAX / 2)
        .ok_or(Foreign)
}

/// Reads `<marker><number>\r\n`: the number and the length of the line; none while the line is incomplete.
///
/// # Errors
/// [`Foreign`] for another marker, for a number that is not written as `string2ll` wants it, and for a CR that no LF
/// follows, which Redis accepts and Valkey refuses.
#[inline(always)]
pub(crate) fn number_line(buf: &[u8], marker: u8) -> Result<Option<(i64, usize)>, Foreign> {
    // Nearly all numbers have one digit or two, and a line is read for every argument of every command.
    match short_line(buf, marker) {
        Some((number, line)) => Ok(Some((number as i64, line))),
        None => any_number_line(buf, marker),
    }
}

/// The same for a number of one digit or two, and none for all else.
#[inline(always)]
pub(crate) fn short_line(buf: &[u8], marker: u8) -> Option<(usize, usize)> {
    let [first, ten, one, cr, lf] = *buf.first_chunk::<5>()?;
    let (ten, one) = (ten.wrapping_sub(b'0'), one.wrapping_sub(b'0'));
    if first != marker || ten >= 10 {
        None
    } else if one == b'\r'.wrapping_sub(b'0') && cr == b'\n' {
        Some((ten.into(), 4))
    } else if ten > 0 && one < 10 && cr == b'\r' && lf == b'\n' {
        Some(((ten * 10 + one).into(), 5))
    } else {
        None
    }
}

/// The same for every number.
#[inline(never)]
fn any_number_line(buf: &[u8], marker: u8) -> Result<Option<(i64, usize)>, Foreign> {
    let mut bytes = buf.iter();
    if bytes.next().is_some_and(|b| *b != marker) {
        return Err(Foreign);
    }
    let mut negative = false;
    let mut value = 0i64;
    let mut digits = 0usize;
    let mut at = 1usize;
    loop {
        let Some(&byte) = bytes.next() else {
            return Ok(None);
        };
        at += 1;
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            // `string2ll`: no leading zero, and no `-0`.
            if (digits == 1 && value == 0)
                || digits > MAX_NUMBER_BYTES
                || (digits == 0 && digit == 0 && negative)
            {
                return Err(Foreign);
            }
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(i64::from(digit)))
                .ok_or(Foreign)?;
            digits += 1;
        } else if byte == b'\r' && digits > 0 {
            return match bytes.next() {
                None => Ok(None),
                Some(b'\n') => Ok(Some((if negative { -value } else { value }, at + 1))),
                Some(_) => Err(Foreign),
            };
        } else if byte == b'-' && digits == 0 && !negative {
            negative = true;
        } else {
            return Err(Foreign);
        }
    }
}

/// Splits an inline command into its arguments as `sdssplitargs` does.
///
/// # Errors
/// [`Foreign`] for unbalanced quotes: the server answers with a protocol error and closes.
pub fn split_inline(line: &[u8]) -> Result<Vec<Vec<u8>>, Foreign> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, tail)) = rest.split_first() {
            if !is_space(*first) {
                break;
            }
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(args);
        }
        let mut arg = Vec::new();
        rest = one_argument(rest, &mut arg)?;
        args.push(arg);
    }
}

/// Reads one argument into `arg` and returns what follows it.
fn one_argument<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], Foreign> {
    /// After a closing quote only a space may follow, or nothing.
    fn closed(tail: &[u8]) -> Result<&[u8], Foreign> {
        match tail.first() {
            Some(b) if !is_space(*b) => Err(Foreign),
            _ => Ok(tail),
        }
    }
    loop {
        match rest {
            // Not `isspace`: within a word a vertical tab or a form feed is a letter.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', tail @ ..] => {
                rest = tail;
                loop {
                    match rest {
                        [] => return Err(Foreign),
                        [b'"', tail @ ..] => return closed(tail),
                        [b'\\', b'x', high, low, tail @ ..]
                            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                        {
                            arg.push(hex_value(*high) << 4 | hex_value(*low));
                            rest = tail;
                        }
                        [b'\\', escaped, tail @ ..] => {
                            arg.push(match escaped {
                                b'n' => b'\n',
                                b'r' => b'\r',
                                b't' => b'\t',
                                b'b' => 0x08,
                                b'a' => 0x07,
                                other => *other,
                            });
                            rest = tail;
                        }
                        [byte, tail @ ..] => {
                            arg.push(*byte);
                            rest = tail;
                        }
                    }
                }
            }
            [b'\'', tail @ ..] => {
                rest = tail;
                loop {
                    match rest {
                        [] => return Err(Foreign),
                        [b'\\', b'\'', tail @ ..] => {
                            arg.push(b'\'');
                            rest = tail;
                        }
                        [b'\'', tail @ ..] => return closed(tail),
                        [byte, tail @ ..] => {
                            arg.push(*byte);
                            rest = tail;
                        }
                    }
                }
            }
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests;
