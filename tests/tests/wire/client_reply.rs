//! CLIENT REPLY: requests without replies.

use tars_tests::dialogue::Dialogue;

#[test]
fn off_and_on() {
    let commands = [
        "CLIENT REPLY ON",
        "CLIENT REPLY OFF",
        "SET k v",
        "NOSUCH",
        "XADD s 1-1 f v",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY ON",
        "GET k",
        "XLEN s",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn skip() {
    let commands = [
        "CLIENT REPLY SKIP",
        "SET k v",
        "GET k",
        "client reply skip",
        "XADD s 1-1 f v",
        "XLEN s",
        "CLIENT REPLY SKIP",
        "GET k",
        "CLIENT REPLY SKIP",
        "GET k",
        "GET k",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn skip_of_a_command_that_fails() {
    let commands = [
        "SET k v",
        "CLIENT REPLY SKIP",
        "LPUSH k x",
        "GET k",
        "CLIENT REPLY SKIP",
        "NOSUCH",
        "LPUSH k x",
        "GET k",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn malformed_is_an_error_and_changes_nothing() {
    let commands = [
        "CLIENT REPLY",
        "CLIENT REPLY WHAT",
        "CLIENT REPLY ON OFF",
        "CLIENT",
        "GET none",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn in_resp3_pushes_stay() {
    // 7.0 sends pushes while replies are off, as documented; what a server does, the proxy passes on.
    Dialogue::new()
        .with_client_ids()
        .commands(&[
            "HELLO 3",
            "SUBSCRIBE ch",
            "CLIENT REPLY OFF",
            "SET k v",
            "PUBLISH ch self",
            "CLIENT REPLY ON",
            "GET k",
        ])
        .check_all();
}

#[test]
fn refused_by_acl_makes_a_raw_relay() {
    for mode in ["OFF", "SKIP"] {
        Dialogue::new()
            .prepare("ACL SETUSER u on nopass allkeys allchannels +@all -client|reply")
            .commands(&[
                "AUTH u x",
                &format!("CLIENT REPLY {mode}"),
                "SET k v",
                "GET k",
            ])
            .turns_raw()
            .check_all();
    }
}

#[test]
fn changes_of_state_while_replies_are_off_make_a_raw_relay() {
    for (command, then) in [
        ("MULTI", "EXEC"),
        ("HELLO 3", "PING"),
        ("SELECT 1", "PING"),
        ("RESET", "PING"),
    ] {
        Dialogue::new()
            .commands(&[
                "CLIENT REPLY OFF",
                command,
                "SET k v",
                then,
                "CLIENT REPLY ON",
                "GET k",
            ])
            .turns_raw()
            .with_client_ids()
            .check_all();
    }
}

#[test]
fn an_empty_command_after_skip_makes_a_raw_relay() {
    for empty in ["*0\r\n", "*-5\r\n", "\r\n"] {
        Dialogue::new()
            .commands(&["SET k v", "CLIENT REPLY SKIP"])
            .bytes(empty)
            .commands(&["GET k", "GET k"])
            .turns_raw()
            .check_all();
    }
}

#[test]
fn on_or_skip_after_skip_makes_a_raw_relay() {
    for mode in ["ON", "SKIP"] {
        let commands = [
            "SET k v",
            "CLIENT REPLY SKIP",
            &format!("CLIENT REPLY {mode}"),
            "GET k",
            "GET k",
        ];
        Dialogue::new().commands(&commands).turns_raw().check_all();
    }
}
