//! What the application reads: keep, propagate, strip.

use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{OWN, bulks, ids, make_group, without_flags};

const RULES: &str = "
[[stream]]
pattern = \"strip*\"
deliver = \"strip\"
[[stream]]
pattern = \"propagate*\"
deliver = \"propagate\"
";

fn stage(kind: Kind) -> Stage {
    Stage::configured(kind, |proxy| proxy.config(RULES))
}

#[test]
fn keep_gives_what_is_stored() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        let mut client = stage.connect();
        client.call(&["XADD", "keep", "1-1", "f", "v"]);
        for command in [
            ["XRANGE", "keep", "-", "+"],
            ["XREAD", "STREAMS", "keep", "0"],
        ] {
            assert_eq!(
                client.call(&command),
                stage.direct(&command.join(" ")),
                "{kind}"
            );
        }
    }
}

#[test]
fn strip_gives_what_was_sent() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            // The same commands on a stream that a proxy never saw, under a key as long.
            let stage = stage(kind);
            let (mut proxied, mut direct) = (stage.connect(), stage.server.connect());
            let envelope = format!("{{\"traceparent\":\"{OWN}\",\"tracestate\":\"a=1\"}}");
            let mut both = |command: &str| {
                let (with, without) =
                    (command.replace('@', "strip"), command.replace('@', "plain"));
                let with: Vec<&str> = with.split(' ').collect();
                let without: Vec<&str> = without.split(' ').collect();
                let (got, expected) = (proxied.call(&with), direct.call(&without));
                if !command.starts_with("HELLO") {
                    assert_eq!(got.replace("strip", "plain"), expected, "{kind}: {command}");
                }
            };
            both(&format!("HELLO {hello}"));
            for id in ["1-1", "2-1", "3-1", "4-1"] {
                both(&format!("XADD @ {id} f v g w"));
            }
            both(&format!("XADD @ 5-1 f v _trace_context {envelope}"));
            both("XADD @ 6-1 a b c d e f g h i j k l");
            for command in [
                "XGROUP CREATE @ g 0",
                "XRANGE @ - +",
                "XREVRANGE @ + - COUNT 2",
                "XREAD COUNT 3 STREAMS @ none 0 0",
                "XREADGROUP GROUP g c COUNT 4 STREAMS @ >",
                "XREADGROUP GROUP g c STREAMS @ 0",
                "XCLAIM @ g d 0 1-1 2-1",
                "XAUTOCLAIM @ g e 0 0 COUNT 2",
                "XAUTOCLAIM @ g e 0 0 JUSTID",
                "MULTI",
                "XRANGE @ - +",
                "XREADGROUP GROUP g c STREAMS @ >",
                "EXEC",
                "XDEL @ 1-1",
                "XREADGROUP GROUP g e STREAMS @ 0",
            ] {
                both(command);
            }
            assert_eq!(stage.raw_relays(), 0.0);
        }
    }
}

#[test]
fn strip_leaves_a_message_of_nothing_else_and_what_is_not_at_the_end() {
    let stage = stage(Kind::Redis70);
    let mut client = stage.connect();
    client.call(&["XADD", "strip", "1-1", "traceparent", OWN]);
    client.call(&["XADD", "strip", "2-1", "traceparent", OWN, "f", "v"]);
    assert_eq!(
        client.call(&["XRANGE", "strip", "-", "+"]),
        stage.direct("XRANGE strip - +")
    );
    // A trailing one may have been the application's own: the documented limit.
    client.call(&[
        "XADD",
        "strip",
        "3-1",
        "f",
        "v",
        "traceparent",
        OWN,
        "tracestate",
        "a=1",
    ]);
    assert_eq!(
        bulks(&client.call(&["XRANGE", "strip", "3", "3"])),
        ["3-1", "f", "v"]
    );
}

#[test]
fn propagate_gives_the_delivery_s_own_context() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let stage = stage(kind);
            make_group(&stage, "propagate");
            let mut client = stage.connect();
            client.call(&["HELLO", hello]);
            client.call(&["XADD", "propagate", "1-1", "f", "v"]);
            let read = client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "propagate", ">"]);
            client.call(&["XACK", "propagate", "g", "1-1"]);
            let span = stage.wait_span("process propagate", "1-1");
            let fields = bulks(&read);
            assert_eq!(
                without_flags(fields.last().unwrap()),
                ids(&span),
                "{kind}: {read}"
            );
            assert!(fields.last().unwrap().ends_with("-03"));
            let sent = stage.wait_span("send propagate", "1-1");
            assert!(span.is_child_of(&sent));
            // Only the value differs, and only for a group.
            let stored = stage.direct("XRANGE propagate - +");
            assert_eq!(without_flags(bulks(&stored).last().unwrap()), ids(&sent));
            for command in [
                ["XRANGE", "propagate", "-", "+"],
                ["XREAD", "STREAMS", "propagate", "0"],
            ] {
                assert_eq!(
                    bulks(&client.call(&command)),
                    bulks(&stage.direct(&command.join(" ")))
                );
            }
        }
    }
}

#[test]
fn what_an_application_continues_from_what_it_read_is_in_the_trace() {
    let stage = stage(Kind::Redis82);
    make_group(&stage, "propagate");
    let mut client = stage.connect();
    client.call(&["XADD", "propagate", "1-1", "f", "v"]);
    let read = bulks(&client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "propagate", ">"]));
    let mut copy = vec!["XADD", "next", "2-1"];
    copy.extend(read[2..].iter().map(String::as_str));
    client.call(&copy);
    client.call(&["XACK", "propagate", "g", "1-1"]);
    let process = stage.wait_span("process propagate", "1-1");
    assert!(stage.wait_span("send next", "2-1").is_child_of(&process));
}

#[test]
fn propagate_leaves_what_has_no_place_for_it() {
    let stage = stage(Kind::Redis82);
    make_group(&stage, "propagate");
    let later = OWN.replacen("00-", "01-", 1) + "-more";
    stage.direct("XADD propagate 1-1 f v");
    stage.direct(&format!("XADD propagate 2-1 traceparent {later}"));
    let mut client = stage.connect();
    let read = client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "propagate", ">"]);
    assert_eq!(
        bulks(&read),
        ["propagate", "1-1", "f", "v", "2-1", "traceparent", &later]
    );
}

#[test]
fn flags_go_over_rules() {
    let flags = ["--deliver", "strip*=keep"];
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.config(RULES).args(flags));
    let mut client = stage.connect();
    client.call(&["XADD", "strip", "1-1", "f", "v"]);
    assert_eq!(
        client.call(&["XRANGE", "strip", "-", "+"]),
        stage.direct("XRANGE strip - +")
    );
}

#[test]
fn entries_of_many_reads_are_stripped_and_propagated_too() {
    let large = "x".repeat(300_000);
    for kind in Kind::ALL {
        let stage = stage(kind);
        let (mut proxied, mut direct) = (stage.connect(), stage.server.connect());
        for id in ["1-1", "2-1", "3-1"] {
            proxied.call(&["XADD", "strip", id, "f", &large, "g", "w"]);
            direct.call(&["XADD", "plain", id, "f", &large, "g", "w"]);
        }
        let got = proxied.call(&["XRANGE", "strip", "-", "+"]);
        assert!(
            got == direct.call(&["XRANGE", "plain", "-", "+"]),
            "{kind}: the replies differ"
        );

        make_group(&stage, "propagate");
        proxied.call(&["XADD", "propagate", "1-1", "f", &large, "g", "w"]);
        let read =
            bulks(&proxied.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "propagate", ">"]));
        proxied.call(&["XACK", "propagate", "g", "1-1"]);
        let process = stage.wait_span("process propagate", "1-1");
        assert_eq!(without_flags(read.last().unwrap()), ids(&process), "{kind}");
    }
}
