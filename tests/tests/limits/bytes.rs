//! Bytes added, and what trimming makes of them.

use tars_tests::resp::{Client, encode};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

/// A number that the server tells, behind `name` and a colon or as the element that follows it.
#[track_caller]
fn number(text: &str, name: &str) -> u64 {
    let (_, after) = text
        .split_once(name)
        .unwrap_or_else(|| panic!("{name}: {text}"));
    let digits = after.trim_start_matches(['\r', '\n', ':']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// Bytes that the server has read when `client` has sent this and has its answer.
fn read_by_server(stage: &Stage, client: &mut Client, args: &[&str]) -> u64 {
    let total = || number(&stage.direct("INFO stats"), "total_net_input_bytes");
    // Asking is counted, too: it is the same every time.
    let before = total();
    client.send(encode(args));
    client.reply();
    total() - before
}

#[test]
fn on_the_wire() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let (mut through, mut direct) = (stage.connect(), stage.server.connect());
        through.call(&["PING"]);
        let mut added = |args: &[&str]| {
            let direct = read_by_server(&stage, &mut direct, args);
            read_by_server(&stage, &mut through, args) - direct
        };
        assert_eq!(added(&["XADD", "s", "*", "f", "v"]), 80, "{kind}");
        assert_eq!(added(&["XADD", "s", "*", "f", "v", "f", "v"]), 80);
        // Nine arguments become eleven.
        assert_eq!(added(&["XADD", "s", "*", "f", "v", "f", "v", "f", "v"]), 81);
    }
}

#[test]
fn names_and_values() {
    let stage = Stage::of(Kind::Redis82);
    stage.connect().call(&["XADD", "s", "1-1", "f", "v"]);
    let stored = stage.direct("XRANGE s - +");
    let (_, added) = stored.split_once("$1\r\nv\r\n").unwrap();
    let parts: Vec<&str> = added.split("\r\n").collect();
    assert_eq!((parts[1].len(), parts[3].len()), (11, 55));
    assert_eq!(parts.len(), 5, "nothing else: {added}");
}

/// The same messages on `with`, through the proxy, and on `without`, past it; each entry is added with these options.
fn fill(stage: &Stage, count: u32, options: &str) {
    let (mut through, mut direct) = (stage.connect(), stage.server.connect());
    for n in 1..=count {
        let id = format!("{n}-1");
        for (client, key) in [(&mut through, "with"), (&mut direct, "without")] {
            let mut args = vec!["XADD", key];
            args.extend(options.split_whitespace());
            args.extend([id.as_str(), "f", "v"]);
            assert!(client.call(&args).starts_with('$'));
        }
    }
}

#[test]
fn more_nodes_and_memory() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        fill(&stage, 1_000, "");
        let memory = |key: &str| {
            let usage = stage.direct(&format!("MEMORY USAGE {key} SAMPLES 0"));
            number(&usage, ":")
        };
        let nodes = |key: &str| {
            let info = stage.direct(&format!("XINFO STREAM {key}"));
            number(&info, "radix-tree-keys")
        };
        assert!(memory("with") > memory("without"), "{kind}");
        assert!(nodes("with") > nodes("without"), "{kind}");
    }
}

#[test]
fn about_so_many() {
    for kind in Kind::ALL {
        for option in ["MAXLEN ~ 150", "MINID ~ 851"] {
            let stage = Stage::of(kind);
            fill(&stage, 1_000, "");
            let length = |key: &str| {
                stage.direct(&format!("XTRIM {key} {option}"));
                number(&stage.direct(&format!("XLEN {key}")), ":")
            };
            let (with, without) = (length("with"), length("without"));
            assert!(
                150 <= with && with < without,
                "{kind}: {option}: {with}, {without}"
            );
        }
    }
}

#[test]
fn exactly_so_many() {
    for kind in Kind::ALL {
        for option in ["MAXLEN = 150", "MINID = 151"] {
            let stage = Stage::of(kind);
            fill(&stage, 300, option);
            let ids = |key: &str| -> Vec<String> {
                let range = stage.direct(&format!("XRANGE {key} - +"));
                range
                    .lines()
                    .filter(|line| line.ends_with("-1"))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(ids("with").len(), 150, "{kind}");
            assert_eq!(ids("with"), ids("without"), "{kind}");
        }
    }
}
