//! The proxy's death and return, and connections that lead nowhere.

use std::io::ErrorKind;

use tars_tests::address::Address;
use tars_tests::pod::{self, PROXY_PORT};
use tars_tests::resp::Client;
use tars_tests::server::Kind;
use tars_tests::wait::PATIENCE;

use crate::{Stage, original, redirect, strays};

#[test]
fn the_proxy_dies_and_returns() {
    pod::run("life::the_proxy_dies_and_returns", |pod| {
        let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let mut stage = Stage::new();
        redirect("6379");
        let mut client = node.connect();
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");

        stage.proxy.kill();
        // Neither hangs: the one is closed, the other refused.
        client.read_until_closed();
        let error = Client::open(node.address(), PATIENCE).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        stage.proxy.start_again();
        let mut client = node.connect();
        assert_eq!(
            client.call(&["XADD", "orders", "1-1", "item", "1"]),
            "$3\r\n1-1\r\n"
        );
        assert_eq!(stage.spans(1)[0].attr("server.address"), "10.44.0.11");
    });
}

#[test]
fn a_drain_lets_replies_come() {
    pod::run("life::a_drain_lets_replies_come", |pod| {
        let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let mut stage = Stage::new();
        redirect("6379");
        let mut client = node.connect();
        client.command(&["BLPOP", "list", "1"]);
        stage
            .proxy
            .wait_metric("tars_proxy_commands_total", &[], |n| n == 1.0);
        stage.proxy.drain();
        assert_eq!(client.reply(), b"*-1\r\n");
    });
}

#[test]
fn a_server_that_is_not_there() {
    pod::run("life::a_server_that_is_not_there", |_| {
        let mut stage = Stage::new();
        redirect("6379");
        for _ in 0..3 {
            let mut client = Client::connect(&Address::Tcp("10.44.0.11:6379".to_owned()));
            client.read_until_closed();
        }
        stage.proxy.wait_log("server cannot be reached");
        let told = stage
            .proxy
            .stderr()
            .matches("server cannot be reached")
            .count();
        assert_eq!(told, 1, "{}", stage.proxy.stderr());
        // It is nobody's fault here.
        assert_eq!(stage.proxy.get("/ready").status, 200);
    });
}

#[test]
fn who_connects_to_the_listener_itself_is_refused() {
    pod::run(
        "life::who_connects_to_the_listener_itself_is_refused",
        |_| {
            let mut stage = Stage::new();
            let refused = |listener: &str| {
                let address = Address::Tcp(format!("{listener}:{PROXY_PORT}"));
                Client::connect(&address).read_until_closed();
            };
            // Without connection tracking, and with it.
            refused("127.0.0.1");
            redirect("6379");
            refused("127.0.0.1");
            refused("[::1]");
            assert_eq!(stage.strays("not_redirected"), 3.0);
            stage
                .proxy
                .wait_log("a client connected to this listener itself");
            let text = "connected to this listener itself";
            assert_eq!(stage.proxy.stderr().matches(text).count(), 1);
        },
    );
}

/// A proxy whose user is not excepted is redirected to itself.
fn no_loop(workers: &str, clients: u32) {
    let mut proxy = original().args(["--workers", workers]).start();
    redirect("6379");
    for _ in 0..clients {
        let mut client = Client::connect(&Address::Tcp("10.44.0.11:6379".to_owned()));
        client.read_until_closed();
    }
    proxy.wait_log("a connection that this proxy made was redirected back to it");
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 0.0);
    assert_eq!(strays(&proxy, "own_connection"), f64::from(clients));
    let all = proxy.metric("tars_proxy_connections_total", &[]);
    match workers {
        "1" => assert_eq!(all, f64::from(2 * clients)),
        // Another thread may have been quicker, and gone round once more.
        _ => assert!(all < f64::from(4 * clients), "{all}"),
    }
}

#[test]
fn a_proxy_that_is_redirected_to_itself() {
    pod::run("life::a_proxy_that_is_redirected_to_itself", |_| {
        no_loop("1", 20);
    });
}

#[test]
fn a_proxy_of_many_threads_that_is_redirected_to_itself() {
    let test = "life::a_proxy_of_many_threads_that_is_redirected_to_itself";
    pod::run(test, |_| no_loop("4", 100));
}
