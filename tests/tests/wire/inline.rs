//! Commands as lines, and commands that are none.

use tars_tests::dialogue::Dialogue;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

#[test]
fn lines_of_all_shapes() {
    let lines =
        "PING\r\nSET k v\nget k\r\n  SET   k  \"a b\\x41\\n\\\"\"  \r\nGET k\r\nSET k 'it''s'\r\n";
    Dialogue::new()
        .bytes("SET k 'it\\'s'\r\nGET k\r\nECHO \"\"\r\n\tPING\tx\r\n")
        .check_all();
    let whole = &lines[..lines.rfind("SET").unwrap()];
    Dialogue::new().bytes(whole).check_all();
}

#[test]
fn lines_and_arrays_mixed_with_empty_commands() {
    Dialogue::new()
        .bytes("\r\n*0\r\nPING\r\n\n*-5\r\n   \r\n*1\r\n$4\r\nPING\r\n*-1\r\n")
        .commands(&["SET k v"])
        .bytes("GET k\r\n")
        .check_all();
}

#[test]
fn state_changes_as_lines() {
    Dialogue::new()
        .bytes("MULTI\r\nSET k v\r\nXADD s 1-1 f v\r\nEXEC\r\nSELECT 1\r\nGET k\r\nSELECT 0\r\nCLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n")
        .check_all();
    Dialogue::new()
        .bytes("SUBSCRIBE a b\r\nPING x\r\nUNSUBSCRIBE\r\nRESET\r\nGET none\r\n")
        .check_all();
    Dialogue::new()
        .with_client_ids()
        .bytes("HELLO 3\r\nGET none\r\nHELLO 2\r\nGET none\r\n")
        .check_all();
}

#[test]
fn messages_as_lines_are_sent_as_they_are() {
    Dialogue::new()
        .bytes("XADD s 1-1 f v\r\nXGROUP CREATE s g 0\r\nXREADGROUP GROUP g c STREAMS s >\r\nXACK s g 1-1\r\nXRANGE s - +\r\n")
        .check_all();
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.send("XADD s 1-1 f v\r\n");
    assert_eq!(client.reply(), b"$3\r\n1-1\r\n");
    assert_eq!(
        stage.direct("XRANGE s - +"),
        "*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    );
    assert_eq!(
        stage
            .proxy
            .metric("tars_proxy_contexts_skipped_total", &[("reason", "inline")]),
        1.0
    );
    // The delivery of such a message begins a trace of its own.
    client.send("XREAD STREAMS s 0\r\n");
    client.reply();
    assert_eq!(stage.wait_span("receive s", "1-1").parent, None);
}

#[test]
fn unbalanced_quotes_close() {
    Dialogue::new()
        .bytes("PING\r\nSET k \"a\r\nPING\r\n")
        .cut_up_to("PING\r\nSET k \"a\r\n".len())
        .turns_raw()
        .closes()
        .check_all();
    // Valkey takes this for one argument.
    let dialogue = Dialogue::new().bytes("SET k 'a'b\r\n").turns_raw();
    for kind in [Kind::Redis70, Kind::Redis82] {
        dialogue.clone().closes().check(Server::of(kind));
    }
    dialogue.check(Server::of(Kind::Valkey));
}

#[test]
fn a_line_without_end_closes() {
    Dialogue::new()
        .bytes(vec![b'a'; 70_000])
        .uncut()
        .turns_raw()
        .closes()
        .check_all();
}
