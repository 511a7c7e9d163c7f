//! A client that sees bytes: what was sent and what came back, exactly, to be compared with and without a proxy.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use crate::address::{Address, Stream};
use crate::wait::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<Stream>,
    writer: Stream,
    limit: Duration,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nothing listens there.
    #[track_caller]
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        Self::open(address, PATIENCE).unwrap_or_else(|e| panic!("no connection to {address}: {e}"))
    }

    /// Connects; no read waits longer than `limit` for bytes.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn open(address: &Address, limit: Duration) -> io::Result<Self> {
        let writer = address.connect()?;
        writer.set_timeout(limit)?;
        Ok(Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
            limit,
        })
    }

    /// Over a connection that is there; no read waits longer than usual.
    ///
    /// # Panics
    /// When the process has no descriptor left.
    #[must_use]
    pub fn over(writer: Stream) -> Self {
        writer.set_timeout(PATIENCE).unwrap();
        let reader = BufReader::new(writer.try_clone().unwrap());
        Self {
            reader,
            writer,
            limit: PATIENCE,
        }
    }

    /// No read or write waits longer than `limit` from now on.
    ///
    /// # Panics
    /// When `limit` is zero.
    pub fn give_up_after(&mut self, limit: Duration) {
        self.writer.set_timeout(limit).unwrap();
        self.limit = limit;
    }

    /// Sends bytes as one write.
    ///
    /// # Panics
    /// When the connection is broken.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref())
            .unwrap_or_else(|e| panic!("not sent: {e}"));
    }

    /// Sends each byte as a write of its own.
    ///
    /// # Panics
    /// When the connection is broken.
    #[track_caller]
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref().chunks(1) {
            self.send(byte);
        }
    }

    /// Sends a command as an array of bulk strings.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send(encode(args));
    }

    /// Sends a command and reads its reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        self.command(args);
        String::from_utf8_lossy(&self.reply()).into_owned()
    }

    /// [`Self::send`] for a test that expects it to fail.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Reads exactly one complete reply (or push), of either protocol.
    ///
    /// # Panics
    /// When none comes in time, or the connection ends.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply().unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    /// Reads `count` replies.
    ///
    /// # Panics
    /// As [`Self::reply`].
    #[track_caller]
    pub fn replies(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.reply()).collect()
    }

    /// [`Self::reply`] for a test that expects it to fail.
    ///
    /// # Errors
    /// No bytes in time (`WouldBlock`), the connection's end (`UnexpectedEof`, `ConnectionReset`), bytes that are no reply.
    pub fn try_reply(&mut self) -> io::Result<Vec<u8>> {
        let mut frame = Vec::new();
        // How many values are still to come. An aggregate adds its elements: no recursion, whatever the depth.
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            pending += self.one(&mut frame)?;
        }
        Ok(frame)
    }

    /// Appends one line with its type, and the bulk that belongs to it; returns how many values follow as its elements.
    fn one(&mut self, frame: &mut Vec<u8>) -> io::Result<u64> {
        let start = frame.len();
        self.reader.read_until(b'\n', frame)?;
        let line = &frame[start..];
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not a reply: {:?}", String::from_utf8_lossy(line)),
            )
        };
        if !line.ends_with(b"\r\n") {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended within a reply",
            ));
        }
        // Nil has the length -1.
        let length = || -> io::Result<Option<u64>> {
            let digits = std::str::from_utf8(&line[1..line.len() - 2]).map_err(|_| invalid())?;
            if digits == "-1" {
                Ok(None)
            } else {
                digits.parse().map(Some).map_err(|_| invalid())
            }
        };
        match line[0] {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(0),
            b'$' | b'!' | b'=' => {
                if let Some(length) = length()? {
                    let whole = length + 2;
                    if (&mut self.reader).take(whole).read_to_end(frame)? as u64 != whole {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the connection ended within a bulk",
                        ));
                    }
                }
                Ok(0)
            }
            b'*' | b'~' | b'>' => Ok(length()?.unwrap_or(0)),
            b'%' => Ok(length()?.unwrap_or(0) * 2),
            // An attribute stands before the value that it belongs to.
            b'|' => Ok(length()?.unwrap_or(0) * 2 + 1),
            _ => Err(invalid()),
        }
    }

    /// Whatever comes until nothing has come for `quiet`, or the connection ends.
    ///
    /// # Panics
    /// On any other end than a close or a reset.
    #[track_caller]
    pub fn read_until_quiet(&mut self, quiet: Duration) -> Vec<u8> {
        self.writer.set_timeout(quiet).unwrap();
        let mut bytes = Vec::new();
        let end = self.reader.read_to_end(&mut bytes);
        self.writer.set_timeout(self.limit).unwrap();
        match end.map_err(|e| e.kind()) {
            Ok(_) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) => bytes,
            Err(kind) => panic!("the connection broke: {kind}"),
        }
    }

    /// Whatever comes until it ends with `end`. Right only where nothing can follow those bytes unasked.
    ///
    /// # Panics
    /// When they do not come in time, or the connection ends before, with what came instead.
    #[track_caller]
    pub fn read_until_ends_with(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            let fail = |what: &str| -> ! {
                let last = bytes.len().saturating_sub(2_000);
                let (got, want) = (bytes[last..].escape_ascii(), end.escape_ascii());
                panic!("{what} instead of \"{want}\", after \"{got}\"")
            };
            let read = match self.reader.fill_buf() {
                Ok([]) => fail("the connection's end"),
                Ok(some) => some.to_vec(),
                Err(e) => fail(&e.kind().to_string()),
            };
            self.reader.consume(read.len());
            bytes.extend_from_slice(&read);
        }
        bytes
    }

    /// What comes next; nothing at the connection's end, or where nothing comes in time.
    pub fn read_some(&mut self) -> Vec<u8> {
        let some = self.reader.fill_buf().map(<[u8]>::to_vec);
        let some = some.unwrap_or_default();
        self.reader.consume(some.len());
        some
    }

    /// Exactly so many bytes.
    ///
    /// # Panics
    /// When they do not come in time, or the connection ends before, with what came instead.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(count as u64)
            .read_to_end(&mut bytes);
        let whole = read.is_ok() && bytes.len() == count;
        assert!(
            whole,
            "{read:?} of {count} bytes: \"{}\"",
            bytes.escape_ascii()
        );
        bytes
    }

    /// Everything until the other side ends the connection, and how it did.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn read_until_closed(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes).map_err(|e| e.kind()) {
            Ok(_) => (bytes, End::Closed),
            Err(io::ErrorKind::ConnectionReset) => (bytes, End::Reset),
            Err(kind) => panic!(
                "not closed ({kind}), but sent {:?}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }

    /// Ends this side's direction; replies still arrive.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn half_close(&self) {
        self.writer.shutdown(Shutdown::Write).unwrap();
    }

    /// [`Self::half_close`], where the other side may have closed already.
    pub fn try_half_close(&self) {
        let _ = self.writer.shutdown(Shutdown::Write);
    }

    /// Ends the connection by a reset.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn reset(self) {
        self.writer.reset_on_close().unwrap();
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An orderly end.
    Closed,
    /// A reset.
    Reset,
}

/// A command as an array of bulk strings.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Commands as arrays of bulk strings, one after the other; spaces separate the arguments of each.
#[must_use]
pub fn pipeline(commands: &[&str]) -> Vec<u8> {
    let one = |command: &&str| encode(&command.split(' ').collect::<Vec<_>>());
    commands.iter().flat_map(one).collect()
}

/// The arguments of a command that is an array of bulk strings.
///
/// # Panics
/// When it is something else.
#[must_use]
pub fn arguments(command: &[u8]) -> Vec<Vec<u8>> {
    let line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut rest = &command[line(command)..];
    let mut args = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at(line(rest));
        let length = std::str::from_utf8(&header[1..header.len() - 2]).unwrap();
        let (arg, after) = after.split_at(length.parse().unwrap());
        args.push(arg.to_vec());
        rest = &after[2..];
    }
    args
}

/// The arguments of a line: spaces separate them, and within double quotes `\\n`, `\\r`, `\\"`, `\\\\` and `\\xHH` stand for bytes.
///
/// # Panics
/// When a quote is not closed.
#[must_use]
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted).unwrap_or_else(|| panic!("not closed: {line}")),
            None => {
                let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
                (word.as_bytes().to_vec(), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// The bytes up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        let (byte, length) = match rest.as_bytes() {
            [b'"', ..] => return Some((bytes, &rest[1..])),
            [b'\\', b'x', ..] => (u8::from_str_radix(rest.get(2..4)?, 16).ok()?, 4),
            [b'\\', escaped, ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    other => *other,
                };
                (byte, 2)
            }
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        bytes.push(byte);
        rest = rest.get(length..)?;
    }
}

/// Sends `bytes` over a connection of its own while reading `count` replies: large pipelines need both at once.
///
/// # Panics
/// When fewer come in time.
#[track_caller]
#[must_use]
pub fn exchange(address: &Address, bytes: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut client = Client::connect(address);
    let mut writer = client.writer.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).unwrap());
        client.replies(count)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn client_of(bytes: &'static [u8]) -> Client {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || theirs.write_all(bytes).unwrap());
        let writer = Stream::Unix(ours);
        Client {
            reader: BufReader::new(writer.try_clone().unwrap()),
            writer,
            limit: PATIENCE,
        }
    }

    #[test]
    fn every_type_is_one_reply() {
        let replies: &[&[u8]] = &[
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":-5\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            b"%1\r\n+k\r\n*1\r\n_\r\n",
            b"~1\r\n#t\r\n",
            b",1.5\r\n",
            b"(123\r\n",
            b"!5\r\nERR x\r\n",
            b"=5\r\ntxt:x\r\n",
            b"|1\r\n+ttl\r\n:1\r\n*1\r\n:2\r\n",
            b">2\r\n+message\r\n+x\r\n",
        ];
        let all: &'static [u8] = replies.concat().leak();
        let mut client = client_of(all);
        for reply in replies {
            assert_eq!(
                client.reply().escape_ascii().to_string(),
                reply.escape_ascii().to_string()
            );
        }
        assert_eq!(
            client.try_reply().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_line_has_words_with_and_without_quotes() {
        let words = words(r#"EVAL "a \"b\"\r\n\\" 0 "" "\x00\xffx" "#);
        let wanted: [&[u8]; 5] = [b"EVAL", b"a \"b\"\r\n\\", b"0", b"", b"\0\xffx"];
        assert_eq!(words, wanted);
    }

    #[test]
    fn what_is_no_reply_is_told() {
        assert_eq!(
            client_of(b"hello\r\n").try_reply().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            client_of(b"$5\r\nab").try_reply().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            client_of(b"*2\r\n:1\r\n").try_reply().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
