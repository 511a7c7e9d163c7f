//! Commands after which the server speaks when it likes, or no more.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::pipeline;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

#[test]
fn monitor_makes_a_raw_relay() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.command(&["SET", "k", "v"]);
        client.command(&["MONITOR"]);
        assert_eq!(client.replies(2), [b"+OK\r\n", b"+OK\r\n"]);
        stage.direct("GET k");
        assert!(String::from_utf8_lossy(&client.reply()).ends_with("\"GET\" \"k\"\r\n"));
        let raw = stage
            .proxy
            .metric("tars_proxy_raw_relays_total", &[("reason", "monitor")]);
        assert_eq!(raw, 1.0, "{kind}");
        client.command(&["RESET"]);
        assert_eq!(client.read_until_ends_with(b"+RESET\r\n"), b"+RESET\r\n");
        assert_eq!(client.call(&["GET", "k"]), "$1\r\nv\r\n");
    }
}

#[test]
fn a_replica_makes_a_raw_relay() {
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--repl-diskless-sync", "no"])
            .start();
        let stage = Stage::with(server, |proxy| proxy);
        let mut client = stage.connect();
        assert_eq!(client.call(&["REPLCONF", "listening-port", "1"]), "+OK\r\n");
        assert_eq!(client.call(&["REPLCONF", "capa", "psync2"]), "+OK\r\n");
        client.command(&["PSYNC", "?", "-1"]);
        assert!(client.reply().starts_with(b"+FULLRESYNC "), "{kind}");
        stage.direct("SET replicated v");
        client.read_until_ends_with(b"replicated\r\n$1\r\nv\r\n");
        assert_eq!(
            stage
                .proxy
                .metric("tars_proxy_raw_relays_total", &[("reason", "replication")]),
            1.0
        );
    }
}

#[test]
fn slots_that_move_make_a_raw_relay() {
    // Where the server knows the command, and takes it for one of a node's.
    Dialogue::new()
        .commands(&["SET k v", "CLUSTER SYNCSLOTS x", "GET k"])
        .turns_raw()
        .check_all();
}

#[test]
fn a_script_that_is_debugged() {
    // The server speaks of every line, and its last word is no answer to a command. It reads as a program reads a terminal:
    // what is said to the debugger is not cut.
    let debug = "SCRIPT DEBUG YES";
    let script = "EVAL return{1,2} 0";
    Dialogue::new()
        .commands(&[debug])
        .hear("+OK\r\n")
        .commands(&[script])
        .hear("return{1,2}\r\n")
        .commands(&["print"])
        .hear("context.\r\n")
        .commands(&["continue"])
        .cut_up_to(pipeline(&[debug, script]).len())
        .closes()
        .check_all();
}

#[test]
fn quit_is_answered_and_closes() {
    Dialogue::new()
        .commands(&["SET k v", "XADD s 1-1 f v", "QUIT", "GET k"])
        .closes()
        .check_all();
    Dialogue::new()
        .commands(&["SUBSCRIBE a", "QUIT"])
        .closes()
        .check_all();
    Dialogue::new()
        .commands(&["MULTI", "SET k v", "QUIT"])
        .closes()
        .check_all();
}

#[test]
fn a_client_that_is_killed_is_closed() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        let id = client.call(&["CLIENT", "ID"]);
        stage.direct(&format!(
            "CLIENT KILL ID {}",
            id.trim_start_matches(':').trim_end()
        ));
        assert_eq!(client.read_until_closed().0, b"");
    }
}
