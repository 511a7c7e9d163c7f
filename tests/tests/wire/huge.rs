//! The largest values that a server takes, 512 MB: they pass through the proxy without being kept there.

use std::io::{BufRead, BufReader, Read, Write};

use tars_tests::address::{Address, Stream};
use tars_tests::resp::pipeline;
use tars_tests::server::Kind;
use tars_tests::stage::{self, Stage};
use tars_tests::wait::PATIENCE;

/// `proto-max-bulk-len` by default.
const HUGE: usize = 512 << 20;

/// The most memory that the proxy may have resident in all of this. It has about 13 MiB when it has forwarded nothing.
const MOST_RESIDENT_KB: u64 = 32 << 10;

const BLOCK: usize = 1 << 20;

/// One of the blocks of a huge value, each like no other.
fn block(number: usize) -> Vec<u8> {
    let mut block = vec![b'x'; BLOCK];
    block[..8].copy_from_slice(&number.to_be_bytes());
    block[BLOCK - 8..].copy_from_slice(&number.to_le_bytes());
    block
}

/// A connection that streams.
struct Wire {
    reader: BufReader<Stream>,
    writer: Stream,
}

impl Wire {
    fn to(address: &Address) -> Self {
        let writer = address.connect().unwrap();
        writer.set_timeout(PATIENCE).unwrap();
        let reader = BufReader::with_capacity(BLOCK, writer.try_clone().unwrap());
        Self { reader, writer }
    }

    /// Sends these arguments, and a huge one behind them.
    fn send(&mut self, args: &[&str]) {
        let header: Vec<String> = args
            .iter()
            .map(|arg| format!("${}\r\n{arg}\r\n", arg.len()))
            .collect();
        let header = format!("*{}\r\n{}${HUGE}\r\n", args.len() + 1, header.concat());
        self.writer.write_all(header.as_bytes()).unwrap();
        for number in 0..HUGE / BLOCK {
            self.writer.write_all(&block(number)).unwrap();
        }
        self.writer.write_all(b"\r\n").unwrap();
    }

    /// Reads a line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// Reads lines up to the length of a huge value, and that value; returns the lines.
    fn huge(&mut self) -> String {
        let mut lines = String::new();
        while !lines.ends_with(&format!("${HUGE}\r\n")) {
            lines.push_str(&self.line());
        }
        let mut got = vec![0; BLOCK];
        for number in 0..HUGE / BLOCK {
            self.reader.read_exact(&mut got).unwrap();
            assert!(got == block(number), "block {number} differs");
        }
        assert_eq!(self.line(), "\r\n");
        lines
    }

    fn commands(&mut self, commands: &[&str]) {
        self.writer.write_all(&pipeline(commands)).unwrap();
    }
}

/// The most memory that a process has had resident, in kB.
fn most_resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn values() {
    let stage = Stage::of(Kind::Redis82);
    let mut wire = Wire::to(stage.proxy.address());
    wire.send(&["SET", "k"]);
    assert_eq!(wire.line(), "+OK\r\n");
    wire.commands(&["GET k", "DEL k", "PING"]);
    wire.huge();
    assert_eq!(
        (wire.line(), wire.line()),
        (":1\r\n".into(), "+PONG\r\n".into())
    );
    let most = most_resident(stage.proxy.id());
    assert!(most < MOST_RESIDENT_KB, "{most} kB");
    assert_eq!(stage.raw_relays(), 0.0);
}

#[test]
fn messages() {
    let stage = Stage::of(Kind::Redis82);
    stage.direct("XGROUP CREATE s g $ MKSTREAM");
    let mut wire = Wire::to(stage.proxy.address());
    wire.send(&["XADD", "s", "1-1", "f"]);
    assert_eq!(
        (wire.line(), wire.line()),
        ("$3\r\n".into(), "1-1\r\n".into())
    );
    let reads = [
        "XRANGE s - +",
        "XREAD STREAMS s 0",
        "XREADGROUP GROUP g c STREAMS s >",
    ];
    for read in reads {
        wire.commands(&[read]);
        let before = wire.huge();
        // A context would be two fields more.
        assert!(
            before.ends_with(&format!("$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n${HUGE}\r\n")),
            "{before}"
        );
    }
    wire.commands(&["XACK s g 1-1", "DEL s"]);
    assert_eq!(
        (wire.line(), wire.line()),
        (":1\r\n".into(), ":1\r\n".into())
    );
    let most = most_resident(stage.proxy.id());
    assert!(most < MOST_RESIDENT_KB, "{most} kB");
    let skipped = [("reason", "too_large")];
    assert_eq!(
        stage
            .proxy
            .metric("tars_proxy_contexts_skipped_total", &skipped),
        1.0
    );
    assert_eq!(stage.raw_relays(), 0.0);
    let mut client = stage.connect();
    stage::prove(&mut client, "proof");
    stage.wait_spans(|spans| stage::proved(spans, "proof"));
}
