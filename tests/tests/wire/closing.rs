//! Ends of connections, passed on as they came.

use tars_tests::resp::{End, pipeline};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

/// Waits until the server has no connection but the one this asks on.
fn wait_alone(stage: &Stage) {
    wait::until("the server's connections are closed", PATIENCE, || {
        stage
            .direct("INFO clients")
            .contains("connected_clients:1\r")
            .then_some(())
    });
}

#[test]
fn a_half_close_is_passed_on_behind_what_was_sent() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        for end in [b"".as_slice(), b"*2\r\n$3\r\nGET\r\n$1", b"XADD s 2-1 f"] {
            let mut client = stage.connect();
            client.send([&pipeline(&["XADD s * f v", "SET k v"]), end].concat());
            client.half_close();
            let (bytes, how) = client.read_until_closed();
            let got = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                got.starts_with('$') && got.ends_with("+OK\r\n"),
                "{kind}: {got}"
            );
            assert_eq!(how, End::Closed);
        }
        wait_alone(&stage);
        stage.wait_named("send s", 3);
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn a_reset_by_the_client_ends_the_server_s_connection() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.call(&["SUBSCRIBE", "a"]);
        client.reset();
        wait_alone(&stage);
    }
}

#[test]
fn half_a_message_is_no_message() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.send("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$5\r\nva");
    client.half_close();
    assert_eq!(client.read_until_closed(), (Vec::new(), End::Closed));
    assert_eq!(stage.direct("EXISTS s"), ":0\r\n");
    assert_eq!(stage.settle_spans().len(), 1);
}
