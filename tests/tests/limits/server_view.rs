//! What the server sees of a client.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

use tars_tests::address::{Address, Stream};
use tars_tests::otlp::{Collector, Span};
use tars_tests::port::Port;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{Client, End, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::wait::PATIENCE;

/// The value of `name` in a line of CLIENT LIST or INFO.
#[track_caller]
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split(' ').filter_map(|word| word.split_once('='));
    words.find(|(key, _)| *key == name).unwrap().1.trim_end()
}

/// What the server lists of the client called `me`.
#[track_caller]
fn listed(stage: &Stage) -> String {
    let list = stage.direct("CLIENT LIST");
    let line = list.lines().find(|line| line.contains(" name=me "));
    line.unwrap().to_owned()
}

/// A connection from another address of the loopback interface.
fn from_elsewhere(address: &Address) -> Client {
    let Address::Tcp(address) = address else {
        panic!("not TCP")
    };
    let address: SocketAddr = address.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    socket.bind(&elsewhere.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::over(Stream::Tcp(TcpStream::from(socket)))
}

#[test]
fn clients_that_are_listed() {
    for kind in Kind::ALL {
        // In protected mode some take 127.0.0.2 for a stranger.
        let open = ["--protected-mode", "no"];
        let server = Server::builder(kind).args(open).start();
        let stage = Stage::with(server, |proxy| proxy);
        stage.direct("ACL SETUSER u on nopass allkeys allchannels +@all");
        let mut client = from_elsewhere(stage.proxy.address());
        let id = client.call(&["CLIENT", "ID"]);
        client.call(&["AUTH", "u", "x"]);
        client.call(&["CLIENT", "SETNAME", "me"]);
        client.call(&["CLIENT", "SETINFO", "LIB-NAME", "lib"]);
        client.call(&["SELECT", "3"]);
        let line = listed(&stage);
        assert!(
            value(&line, "addr").starts_with("127.0.0.1:"),
            "{kind}: {line}"
        );
        assert_eq!(format!(":{}\r\n", value(&line, "id")), id);
        assert_eq!((value(&line, "db"), value(&line, "user")), ("3", "u"));
        if kind != Kind::Redis70 {
            assert_eq!(value(&line, "lib-name"), "lib");
        }
        let info = client.call(&["CLIENT", "INFO"]);
        assert_eq!(value(&info, "addr"), value(&line, "addr"));
        let mut monitor = stage.server.connect();
        monitor.call(&["MONITOR"]);
        client.call(&["GET", "k"]);
        let told = String::from_utf8(monitor.reply()).unwrap();
        let from = format!("[3 {}] \"GET\" \"k\"\r\n", value(&line, "addr"));
        assert!(told.ends_with(&from), "{kind}: {told}");
        // Firewall rules and the like, too, see the proxy's address; without it they saw the client's.
        let mut direct = from_elsewhere(stage.server.address());
        let info = direct.call(&["CLIENT", "INFO"]);
        assert!(value(&info, "addr").starts_with("127.0.0.2:"));
    }
}

#[test]
fn killed_by_address() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = from_elsewhere(stage.proxy.address());
        client.call(&["CLIENT", "SETNAME", "me"]);
        let kill = |how: &str| stage.direct(&format!("CLIENT KILL {how}"));
        let line = listed(&stage);
        let (_, port) = value(&line, "addr").split_once(':').unwrap();
        assert_eq!(kill(&format!("ADDR 127.0.0.2:{port}")), ":0\r\n");
        assert_eq!(kill(&format!("ADDR 127.0.0.1:{port}")), ":1\r\n", "{kind}");
        assert_eq!(client.read_until_closed().0, b"");
        let mut client = stage.connect();
        client.call(&["CLIENT", "SETNAME", "me"]);
        assert_eq!(
            kill(&format!("ID {}", value(&listed(&stage), "id"))),
            ":1\r\n"
        );
        assert_eq!(client.read_until_closed().0, b"");
    }
}

#[test]
fn a_server_under_two_names() {
    let (server, collector, port) = (Server::redis82(), Collector::start(), Port::claim());
    let listen = Address::Tcp(port.addr());
    let localhost = server.url().replace("127.0.0.1", "localhost");
    let proxy = Proxy::to(&server)
        .listener(listen.clone(), &localhost)
        .args(["--process-timeout", "1s"])
        .otlp_grpc(&collector.grpc())
        .start();
    let mut client = proxy.connect();
    client.send(pipeline(&[
        "XGROUP CREATE s g 0 MKSTREAM",
        "XADD s 1-1 f v",
        "XREADGROUP GROUP g c STREAMS s >",
    ]));
    client.replies(3);
    assert_eq!(
        Client::connect(&listen).call(&["XACK", "s", "g", "1-1"]),
        ":1\r\n"
    );
    let ended = |spans: &[Span]| spans.iter().any(|span| span.name == "process s");
    let spans = collector.wait_for(PATIENCE, ended);
    let process = spans.iter().find(|span| span.name == "process s").unwrap();
    assert_eq!(process.attr("error.type"), "timeout");
}

/// An address of this machine that is not the loopback interface's, if it has one. Nothing is sent to find it.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => Some(*address.ip()).filter(|ip| !ip.is_loopback()),
        SocketAddr::V6(_) => None,
    }
}

/// Says that the test runs where it has made itself an address.
const IN_NAMESPACE: &str = "TARS_TESTS_NAMESPACE";

/// A network namespace with a loopback interface that has one address more, and in it the program that follows.
const NAMESPACE: &str =
    r#"ip link set lo up && ip address add 192.0.2.1/32 dev lo && exec "$0" "$@""#;

/// Runs this test in a network namespace of its own, where it has an address. Without the right to make one it says so.
fn in_a_namespace(test: &str) {
    assert!(std::env::var_os(IN_NAMESPACE).is_none(), "no address");
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
        command
    };
    match unshare().args(["ip link set lo up"]).output() {
        Ok(tried) if tried.status.success() => {}
        tried => {
            println!("skipped: no address but the loopback's, and no network namespace: {tried:?}");
            return;
        }
    }
    let ran = unshare()
        .arg(NAMESPACE)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output()
        .unwrap();
    let printed = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let [out, err] = &printed;
    assert!(
        ran.status.success() && out.contains("1 passed"),
        "{out}{err}"
    );
}

#[test]
fn protected_mode() {
    let Some(own) = own_address() else {
        return in_a_namespace("server_view::protected_mode");
    };
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--bind", "0.0.0.0", "--enable-debug-command", "local"])
            .start();
        let Address::Tcp(address) = server.address() else {
            panic!("not TCP")
        };
        let (_, number) = address.split_once(':').unwrap();
        let mut stranger = Client::connect(&Address::Tcp(format!("{own}:{number}")));
        let refused = stranger.read_until_closed().0;
        assert!(
            refused.starts_with(b"-DENIED "),
            "{kind}: {}",
            refused.escape_ascii()
        );
        let port = Port::claim();
        let everywhere = Address::Tcp(format!("0.0.0.0:{}", port.number()));
        let _proxy = Proxy::to(&server).listen(everywhere).start();
        let mut stranger = Client::connect(&Address::Tcp(format!("{own}:{}", port.number())));
        assert_eq!(stranger.call(&["PING"]), "+PONG\r\n");
        assert_eq!(stranger.call(&["DEBUG", "SLEEP", "0"]), "+OK\r\n");
    }
}

#[test]
fn a_server_that_is_down() {
    let mut server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    server.stop();
    proxy.wait_unready();
    let mut client = proxy.connect();
    assert_eq!(client.read_until_closed(), (Vec::new(), End::Reset));
}

#[test]
fn what_it_counts() {
    for kind in Kind::ALL {
        let server = Server::of(kind);
        let mut direct = server.connect();
        // How often each command was called, but for this one.
        let mut calls = || -> BTreeMap<String, u64> {
            let stats = direct.call(&["INFO", "commandstats"]);
            let counted = stats
                .lines()
                .filter_map(|line| line.strip_prefix("cmdstat_"));
            let counted = counted.filter_map(|line| line.split_once(":calls="));
            let call = |(name, after): (&str, &str)| {
                let (calls, _) = after.split_once(',').unwrap();
                (name.to_owned(), calls.parse().unwrap())
            };
            counted
                .map(call)
                .filter(|(name, _)| name != "info")
                .collect()
        };
        let before = calls();
        let _proxy = Proxy::to(&server).start();
        let mut after = calls();
        let pings = after.get_mut("ping").unwrap();
        assert!(*pings > before["ping"], "{kind}");
        *pings = before["ping"];
        assert_eq!(after, before, "{kind}");
    }
}
