//! MULTI, and how it may end.

use tars_tests::dialogue::Dialogue;

const QUEUE: [&str; 6] = [
    "MULTI",
    "SET k v",
    "XADD s 1-1 f v",
    "GET k",
    "XRANGE s - +",
    "INCR k",
];

fn queued(then: &[&str]) -> Dialogue {
    Dialogue::new().commands(&[&QUEUE, then].concat())
}

#[test]
fn exec() {
    queued(&["EXEC", "GET k"]).check_all();
}

#[test]
fn exec_of_nothing() {
    Dialogue::new()
        .commands(&["MULTI", "EXEC", "PING"])
        .check_all();
}

#[test]
fn discard() {
    queued(&["DISCARD", "GET k", "XLEN s"]).check_all();
}

#[test]
fn an_error_in_the_queue_aborts() {
    queued(&["SET k", "NOSUCH", "EXEC", "GET k"]).check_all();
}

#[test]
fn a_watched_key_that_changed_gives_nil() {
    for hello in ["HELLO 2", "HELLO 3"] {
        Dialogue::new()
            .with_client_ids()
            .commands(&[hello, "SET k 0", "WATCH k"])
            .hear("+OK\r\n+OK\r\n")
            .meanwhile("SET k other")
            .commands(&QUEUE)
            .commands(&["EXEC", "GET k", "XLEN s"])
            .check_all();
    }
}

#[test]
fn a_second_multi_is_an_error_within_the_first() {
    queued(&["MULTI", "SET k w", "EXEC", "GET k"]).check_all();
}

#[test]
fn multi_exec_and_discard_with_arguments_or_without_multi() {
    let commands = [
        "EXEC",
        "DISCARD",
        "MULTI x",
        "EXEC",
        "MULTI",
        "EXEC x",
        "SET k v",
        "EXEC",
        "MULTI",
        "DISCARD x",
        "EXEC",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn select_and_blocking_reads_within() {
    let commands = [
        "MULTI",
        "SELECT 2",
        "XREAD BLOCK 0 STREAMS s $",
        "BLPOP list 0",
        "XGROUP CREATE s g 0 MKSTREAM",
        "XADD s 1-1 f v",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
        "XACK s g 1-1",
        "EXEC",
        "XLEN s",
        "SELECT 0",
        "XLEN s",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn reset_within() {
    queued(&["RESET", "GET k", "EXEC"]).check_all();
}

#[test]
fn subscribing_within_makes_a_raw_relay() {
    for hello in ["HELLO 2", "HELLO 3"] {
        let commands = [
            hello,
            "MULTI",
            "SET k v",
            "SUBSCRIBE a b",
            "GET k",
            "EXEC",
            "UNSUBSCRIBE",
        ];
        Dialogue::new()
            .with_client_ids()
            .commands(&commands)
            .turns_raw()
            .check_all();
    }
}

#[test]
fn unsubscribing_or_client_reply_within_makes_a_raw_relay() {
    Dialogue::new()
        .commands(&["MULTI", "UNSUBSCRIBE", "EXEC"])
        .turns_raw()
        .check_all();
    let commands = [
        "MULTI",
        "SET k v",
        "CLIENT REPLY OFF",
        "GET k",
        "EXEC",
        "CLIENT REPLY ON",
    ];
    Dialogue::new().commands(&commands).turns_raw().check_all();
}

#[test]
fn a_message_to_oneself_within() {
    let commands = [
        "HELLO 3",
        "SUBSCRIBE ch",
        "MULTI",
        "SET k v",
        "PUBLISH ch hello",
        "GET k",
        "XADD s 1-1 f v",
        "EXEC",
        "UNSUBSCRIBE",
    ];
    let dialogue = Dialogue::new().with_client_ids();
    dialogue.commands(&commands).check_all();
}

#[test]
fn every_type_within() {
    let types = [
        "string", "integer", "double", "null", "array", "set", "map", "attrib", "push", "verbatim",
        "true", "false", "bignum",
    ];
    for hello in ["HELLO 2", "HELLO 3"] {
        let shown = types.map(|kind| format!("DEBUG PROTOCOL {kind}"));
        let mut commands = vec![hello, "MULTI", "XADD s 1-1 f v"];
        commands.extend(shown.iter().map(String::as_str));
        commands.extend(["XADD s 2-1 f v", "EXEC"]);
        let dialogue = Dialogue::new().with_client_ids();
        dialogue.commands(&commands).check_all();
    }
}

#[test]
fn other_commands_of_the_connection_within() {
    let commands = [
        "MULTI",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "CLIENT NO-EVICT ON",
        "CLIENT TRACKING ON BCAST",
        "CLIENT TRACKING OFF",
        "WATCH k",
        "UNWATCH",
        "WAIT 9 0",
        "PUBLISH ch x",
        "SCRIPT FLUSH",
        "COMMAND COUNT",
        "XADD s 1-1 f v",
        "EXEC",
        "CLIENT GETNAME",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn scripts_within() {
    let script = "return{1,{2,{3,'x'}},redis.call('XADD','s','1-1','f','v')}";
    let commands = [
        "MULTI",
        &format!("EVAL {script} 0"),
        "XADD s 2-1 f v",
        "EXEC",
    ];
    // What a script adds carries no context, so that only the second is stripped.
    Dialogue::new().commands(&commands).check_all();
}
