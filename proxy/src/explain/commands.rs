//! Commands out of a file: each as the server would take it, RESP if it begins with `*`, else a line as one types it.
//!
//! Empty lines and lines that begin with `#` are passed over.

/// Commands one after the other; after RESP that cannot be read there is no telling where the next begins, so that is the end.
pub(super) struct Commands<'a> {
    rest: &'a [u8],
}

/// A command cannot be read: why.
type Unreadable = &'static str;

const CUT_OFF: Unreadable = "the RESP is cut off; give whole commands";
const NO_RESP: Unreadable = "this begins like RESP but is not; a command is *<arguments>, then $<length> and the bytes of each";
const QUOTES: Unreadable =
    "the quotes are not closed, or something follows them; quote as in redis-cli";

impl<'a> Commands<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Vec<Vec<u8>>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            if self.rest.first() == Some(&b'*') {
                let read = resp(&mut self.rest);
                if read.is_err() {
                    self.rest = &[];
                }
                match read {
                    Ok(args) if args.is_empty() => continue,
                    read => return Some(read),
                }
            }
            let line = take_line(&mut self.rest);
            match typed(line) {
                Ok(args)
                    if args.is_empty() || args.first().is_some_and(|arg| arg.starts_with(b"#")) => {
                }
                read => return Some(read),
            }
        }
        None
    }
}

/// Up to the line's end, which is taken too; the rest if there is none.
fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    *rest = after.get(1..).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `<sign><number>\r\n`
fn header(rest: &mut &[u8], sign: u8) -> Result<i64, Unreadable> {
    if rest.is_empty() {
        return Err(CUT_OFF);
    }
    let line = take_line(rest);
    let digits = line.strip_prefix(&[sign]).ok_or(NO_RESP)?;
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(NO_RESP)
}

fn resp(rest: &mut &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut args = Vec::new();
    for _ in 0..header(rest, b'*')? {
        let len = usize::try_from(header(rest, b'$')?).map_err(|_| NO_RESP)?;
        let (arg, after) = rest.split_at_checked(len).ok_or(CUT_OFF)?;
        args.push(arg.to_vec());
        // The server does not look at these two bytes either.
        *rest = after.get(2..).ok_or(CUT_OFF)?;
    }
    Ok(args)
}

/// A line's arguments, quoted as redis-cli and inline commands take them.
fn typed(line: &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut args = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let mut arg = Vec::new();
        loop {
            rest = match rest {
                [] => break,
                [b, ..] if b.is_ascii_whitespace() => break,
                [quote @ (b'"' | b'\''), after @ ..] => {
                    let after = quoted(*quote, after, &mut arg).ok_or(QUOTES)?;
                    if after.first().is_some_and(|b| !b.is_ascii_whitespace()) {
                        return Err(QUOTES);
                    }
                    after
                }
                [byte, after @ ..] => {
                    arg.push(*byte);
                    after
                }
            };
        }
        args.push(arg);
        rest = rest.trim_ascii_start();
    }
    Ok(args)
}

/// What stands in quotes; returns what comes behind them.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match (quote, rest) {
            (_, []) => return None,
            (_, [byte, after @ ..]) if *byte == quote => return Some(after),
            (b'"', [b'\\', b'x', high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                arg.push(hex(*high) << 4 | hex(*low));
                after
            }
            (b'"', [b'\\', escaped, after @ ..]) => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            (b'\'', [b'\\', b'\'', after @ ..]) => {
                arg.push(b'\'');
                after
            }
            (_, [byte, after @ ..]) => {
                arg.push(*byte);
                after
            }
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Vec<Result<Vec<String>, Unreadable>> {
        let text = |args: Vec<Vec<u8>>| {
            args.iter()
                .map(|arg| arg.escape_ascii().to_string())
                .collect()
        };
        Commands::new(input).map(|read| read.map(text)).collect()
    }

    fn words(words: &[&str]) -> Result<Vec<String>, Unreadable> {
        Ok(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn lines_and_resp_may_be_mixed() {
        let input = b"# producer\n\nxadd s * f v\r\n*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n*0\r\n*-1\r\n  PING  \n*1\r\n$4\r\nPING\r\nQUIT";
        let expected = [
            &["xadd", "s", "*", "f", "v"][..],
            &["GET", r"a\r\n"],
            &["PING"],
            &["PING"],
            &["QUIT"],
        ]
        .map(words);
        assert_eq!(read(input), expected);
    }

    #[test]
    fn quotes_are_those_of_redis_cli() {
        for (line, expected) in [
            (r#"SET "a b" 'c "d'"#, words(&["SET", "a b", r#"c \"d"#])),
            (r#""\x41\xzz\n\"\\\q""#, words(&[r#"Axzz\n\"\\q"#])),
            (r"'it\'s \n'", words(&[r"it\'s \\n"])),
            (r#"a"b c""#, words(&["ab c"])),
            (r#"SET "" x"#, words(&["SET", "", "x"])),
            (r#"SET "a"b"#, Err(QUOTES)),
            (r#"SET "a"#, Err(QUOTES)),
            ("SET 'a\nPING", Err(QUOTES)),
        ] {
            assert_eq!(read(line.as_bytes()).first(), Some(&expected), "{line}");
        }
        assert_eq!(read(b"SET 'a\nPING"), [Err(QUOTES), words(&["PING"])]);
    }

    #[test]
    fn broken_resp_is_the_end() {
        for (input, expected) in [
            (&b"*2\r\n$3\r\nGET\r\n"[..], CUT_OFF),
            (b"*1\r\n$10\r\nGET\r\nPING\n", CUT_OFF),
            (b"*x\r\nPING\r\n", NO_RESP),
            (b"*1\r\n:3\r\nPING\r\n", NO_RESP),
            (b"*1\r\n$-1\r\nPING\r\n", NO_RESP),
            (b"*9223372036854775807\r\n", CUT_OFF),
            (b"*1\r\n$9223372036854775807\r\nx", CUT_OFF),
        ] {
            assert_eq!(read(input), [Err(expected)], "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(commands in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6), 0..6)) {
            let mut input = Vec::new();
            for args in &commands {
                input.extend(format!("*{}\r\n", args.len()).bytes());
                for arg in args {
                    input.extend(format!("${}\r\n", arg.len()).bytes());
                    input.extend(arg);
                    input.extend(b"\r\n");
                }
            }
            prop_assert_eq!(Commands::new(&input).collect::<Result<Vec<_>, _>>(), Ok(commands));
        }

        #[test]
        fn nothing_panics(input in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'"'), Just(b'\\'), b'0'..=b'9', any::<u8>()], 0..100)) {
            prop_assert!(Commands::new(&input).count() <= input.len());
        }
    }
}
