//! `check-live` and `await-clients`: what runs in a container that has no shell, as the kubelet runs it.

use std::process::ExitStatus;

use tars_tests::port::Port;
use tars_tests::proxy::{Proxy, run_to_end, run_to_end_with};
use tars_tests::server::Server;

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap()
}

#[test]
fn check_live_asks_the_proxy_of_the_same_configuration() {
    // Whether Redis is there does not matter.
    let nobody = Port::claim();
    let mut proxy = Proxy::to_url(&format!("redis://{}", nobody.addr())).start_unready();
    let admin = proxy.admin().to_string();
    let (status, out, err) = run_to_end(&["check-live", "--admin", &admin]);
    assert_eq!((code(status), err.as_str()), (0, ""));
    assert_eq!(out, format!("live: {admin} answers\n"));
    // As in a pod: by variables, and listening on all addresses.
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    let env = [("TARS_ADMIN".to_owned(), everywhere)];
    assert_eq!(
        code(run_to_end_with(&["check-live", "--wait", "60s"], &env).0),
        0
    );
    proxy.kill();
    let (status, out, err) = run_to_end(&["check-live", "--admin", &admin]);
    assert_eq!((code(status), out.as_str()), (1, ""));
    assert_eq!(
        err,
        format!("not live: {admin}: Connection refused (os error 111)\n")
    );
    let (status, _, err) = run_to_end(&["check-live", "--admin", "nowhere"]);
    assert_eq!(code(status), 64);
    assert!(err.starts_with("--admin: "), "{err}");
}

#[test]
fn check_live_waits_for_a_proxy_that_is_to_come() {
    let admin = Port::claim();
    std::thread::scope(|scope| {
        let asked =
            scope.spawn(|| run_to_end(&["check-live", "--wait", "30s", "--admin", &admin.addr()]));
        let _proxy = Proxy::to_url("redis://127.0.0.1:1")
            .env("TARS_CONFIG_INLINE", "")
            .admin(&admin.addr())
            .spawn();
        assert_eq!(code(asked.join().unwrap().0), 0);
    });
}

#[test]
fn await_clients_returns_when_nobody_is_connected_or_the_time_is_over() {
    let server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    let admin = proxy.admin().to_string();
    let wait = |time: &str| run_to_end(&["await-clients", "--wait", time, "--admin", &admin]);
    let mut client = proxy.connect();
    assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    let (status, out, _) = wait("1s");
    assert_eq!(code(status), 0);
    assert_eq!(out, "the time is over; clients connected: 1\n");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait("30s"));
        // It may still say something.
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
        drop(client);
        let (status, out, _) = waiting.join().unwrap();
        assert_eq!(
            (code(status), out.as_str()),
            (0, "no client is connected\n")
        );
    });
    proxy.kill();
    let (status, _, err) = wait("30s");
    assert_eq!(code(status), 1);
    assert!(err.starts_with("no answer: "), "{err}");
}
