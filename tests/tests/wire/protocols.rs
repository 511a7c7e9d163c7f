//! RESP2 and RESP3, and the change from one to the other.

use tars_tests::dialogue::Dialogue;

fn dialogue() -> Dialogue {
    Dialogue::new().with_client_ids()
}

#[test]
fn hello_within_a_pipeline() {
    let read = "XREADGROUP GROUP g c STREAMS s >";
    let commands = [
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XADD s 3-1 f v",
        "XGROUP CREATE s g 0",
        "HSET h f v",
        "HELLO 3",
        "HGETALL h",
        "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
        "HELLO 2",
        "HGETALL h",
        "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
        "HELLO",
        "HELLO 3 SETNAME me",
        read,
        read,
    ];
    dialogue().commands(&commands).check_all();
}

#[test]
fn hello_that_fails_changes_nothing() {
    for before in ["HELLO 2", "HELLO 3"] {
        let commands = [
            before,
            "HSET h f v",
            "HELLO 4",
            "HELLO x",
            "HELLO 3 SETNAME",
            "HELLO 2 WHAT",
            "HGETALL h",
            "GET none",
        ];
        dialogue().commands(&commands).check_all();
    }
}

#[test]
fn hello_within_multi() {
    let commands = [
        "HSET h f v",
        "MULTI",
        "HGETALL h",
        "HELLO 3",
        "HGETALL h",
        "EXEC",
        "HGETALL h",
    ];
    dialogue().commands(&commands).check_all();
    let commands = [
        "HELLO 3",
        "HSET h f v",
        "MULTI",
        "HGETALL h",
        "HELLO 2",
        "GET none",
        "EXEC",
        "HGETALL h",
    ];
    dialogue().commands(&commands).check_all();
}

#[test]
fn every_type_that_a_server_can_show() {
    let types = [
        "string", "integer", "double", "null", "array", "set", "map", "attrib", "push", "verbatim",
        "true", "false", "bignum",
    ];
    for hello in ["HELLO 2", "HELLO 3"] {
        // Only RESP3 has attributes and pushes: asking for them in RESP2 is an error.
        let shown = types.iter().map(|kind| format!("DEBUG PROTOCOL {kind}"));
        let commands: Vec<String> = [hello.to_owned(), "PING".to_owned()]
            .into_iter()
            .chain(shown)
            .collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        dialogue().commands(&commands).check_all();
    }
}

#[test]
fn resp3_types_of_ordinary_commands() {
    let commands = [
        "HELLO 3",
        "SADD set a",
        "SMEMBERS set",
        "ZADD z 1.5 a",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZSCORE z a",
        "CONFIG GET maxmemory",
        "XADD s 1-1 f v",
        "XREAD STREAMS s none 0 0",
        "GET none",
        "MULTI",
        "SMEMBERS set",
        "ZSCORE z a",
        "EXEC",
    ];
    dialogue().commands(&commands).check_all();
}

#[test]
fn attributes_and_pushes_within_exec() {
    let commands = [
        "HELLO 3",
        "MULTI",
        "DEBUG PROTOCOL attrib",
        "DEBUG PROTOCOL map",
        "XADD s 1-1 f v",
        "EXEC",
    ];
    dialogue().commands(&commands).check_all();
}

#[test]
fn invalidations_between_replies() {
    dialogue()
        .prepare("SET k v")
        .commands(&["HELLO 3", "CLIENT TRACKING ON", "GET k"])
        .hear("$1\r\nv\r\n")
        .meanwhile("SET k w")
        .hear("$1\r\nk\r\n")
        .commands(&[
            "GET k",
            "SET k x",
            "XADD k2 1-1 f v",
            "GET k",
            "MULTI",
            "GET k",
            "SET k y",
            "XADD k2 2-1 f v",
            "EXEC",
            "PING",
        ])
        .check_all();
}

#[test]
fn invalidations_of_a_broadcast_within_exec() {
    // These are sent when the server has done all that it has read.
    dialogue()
        .commands(&[
            "HELLO 3",
            "CLIENT TRACKING ON BCAST",
            "MULTI",
            "SET k v",
            "XADD s 1-1 f v",
            "GET k",
            "EXEC",
        ])
        .hear("$1\r\nk\r\n$1\r\ns\r\n")
        .commands(&["CLIENT TRACKING OFF"])
        .check_all();
}

#[test]
fn reset_goes_back_to_resp2() {
    let commands = [
        "HELLO 3",
        "SELECT 1",
        "HSET h f v",
        "HGETALL h",
        "RESET",
        "SELECT 1",
        "HGETALL h",
        "GET none",
    ];
    dialogue().commands(&commands).check_all();
}
