//! What goes wrong, one thing after the other: each is done, lasts, and is undone.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tars_tests::address::Address;
use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::clients::Dice;
use crate::weather::Weather;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The server is killed and starts again from its append-only file.
    RestartServer,
    /// The server is stopped (SIGSTOP) for a while.
    PauseServer,
    /// The server closes all connections (CLIENT KILL).
    CloseClients,
    /// The replica takes over (FAILOVER).
    Failover,
    /// Another proxy takes over the listening socket, and this one drains.
    HandOver,
    /// The proxy is killed, and another one starts on the listening socket.
    KillProxy,
    /// The collector is gone for a while.
    NoCollector,
    /// The proxy has no descriptor left.
    NoDescriptors,
    /// Whatever clients and proxy say to each other is late.
    Late,
    /// Whatever proxy and server say to each other is late.
    LateServer,
    /// There is little room between clients and proxy.
    Narrow,
    /// Nothing passes between proxy and server for a while.
    Stall,
    /// All connections between clients and proxy are reset.
    CutClients,
    /// All connections between proxy and server are reset.
    CutServer,
    /// Packets are lost (iptables; only in a network namespace of its own).
    Loss,
}

impl Fault {
    /// All, but for what needs a namespace.
    pub(crate) const ANYWHERE: [Self; 14] = [
        Self::RestartServer,
        Self::PauseServer,
        Self::CloseClients,
        Self::Failover,
        Self::HandOver,
        Self::KillProxy,
        Self::NoCollector,
        Self::NoDescriptors,
        Self::Late,
        Self::LateServer,
        Self::Narrow,
        Self::Stall,
        Self::CutClients,
        Self::CutServer,
    ];
}

/// What the faults happen to.
#[derive(Debug)]
pub(crate) struct World {
    servers: [Server; 2],
    master: usize,
    /// The proxies' listening socket, which outlives them.
    socket: TcpListener,
    /// The proxy that serves now.
    pub(crate) proxy: Proxy,
    /// Between the proxy and whichever server is the master.
    pub(crate) to_server: Weather,
    /// Between some clients and the proxy.
    pub(crate) to_proxy: Weather,
    to_collector: Weather,
    /// Spans that proxies said they dropped, those that have ended included.
    dropped: f64,
    /// When a proxy was killed, in milliseconds since 1970.
    pub(crate) kills: Vec<u64>,
    /// Whatever made a raw relay.
    pub(crate) raw: Vec<String>,
}

impl World {
    /// A master, its replica, and a proxy, with all between them.
    pub(crate) fn start(collector: SocketAddr) -> Self {
        let server = || {
            let durable = ["--appendonly", "yes", "--appendfsync", "always"];
            let quick = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "10"];
            Server::builder(Kind::Redis70)
                .args(durable)
                .args(quick)
                .start()
        };
        let servers = [server(), server()];
        let to_server = Weather::before(at(servers[0].address()));
        let to_collector = Weather::before(collector);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = proxy(&socket, &to_server, &to_collector);
        let to_proxy = Weather::before(socket.local_addr().unwrap());
        let world = Self {
            servers,
            master: 0,
            socket,
            proxy,
            to_server,
            to_proxy,
            to_collector,
            dropped: 0.0,
            kills: Vec::new(),
            raw: Vec::new(),
        };
        world.follow();
        world
    }

    /// Where clients find the proxy: directly, and over the weather.
    pub(crate) fn doors(&self) -> Vec<Address> {
        let of = |address: SocketAddr| Address::Tcp(address.to_string());
        vec![
            of(self.socket.local_addr().unwrap()),
            of(self.to_proxy.address()),
        ]
    }

    /// A connection straight to the master.
    pub(crate) fn master(&self) -> Client {
        self.servers[self.master].connect()
    }

    /// Makes the other server a replica, and waits until it has everything.
    fn follow(&self) {
        let Address::Tcp(master) = self.servers[self.master].address() else {
            return;
        };
        let (host, port) = master.split_once(':').unwrap();
        let mut replica = self.servers[1 - self.master].connect();
        replica.call(&["REPLICAOF", host, port]);
        self.wait_replica();
    }

    fn wait_replica(&self) {
        let mut master = self.master();
        let says = |master: &mut Client, section: &str, what: &str| {
            master.call(&["INFO", section]).contains(what)
        };
        wait::until("the replica follows", PATIENCE, || {
            says(&mut master, "replication", "state=online").then_some(())
        });
    }

    /// Waits until what is in the files of the master is all that it holds.
    fn wait_durable(&self) {
        let mut master = self.master();
        wait::until("the append-only file is whole", PATIENCE, || {
            let info = master.call(&["INFO", "persistence"]);
            let whole = info.contains("aof_enabled:1")
                && info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0");
            whole.then_some(())
        });
    }

    /// Keeps what a proxy counted, before it ends.
    fn remember(&mut self) {
        let metrics = self.proxy.metrics();
        self.dropped += metrics.sum("tars_proxy_spans_dropped_total", &[]);
        for sample in &metrics.samples {
            if sample.name == "tars_proxy_raw_relays_total" && sample.value > 0.0 {
                self.raw
                    .push(format!("{:?} {}", sample.labels, sample.value));
            }
        }
    }

    /// Spans that were dropped so far.
    pub(crate) fn dropped(&self) -> f64 {
        self.dropped + self.proxy.metric("tars_proxy_spans_dropped_total", &[])
    }

    fn replace(&mut self) -> Proxy {
        let next = proxy(&self.socket, &self.to_server, &self.to_collector);
        std::mem::replace(&mut self.proxy, next)
    }

    /// Ends the proxy in order, and starts another one.
    pub(crate) fn hand_over(&mut self) {
        self.remember();
        self.replace().drain();
    }

    /// Does a fault, and undoes it.
    pub(crate) fn suffer(&mut self, fault: Fault, dice: &mut Dice) {
        let long = Duration::from_millis(300 + dice.below(1_700));
        let lasts = || thread::sleep(long);
        match fault {
            Fault::RestartServer => {
                self.wait_durable();
                let server = &mut self.servers[self.master];
                server.stop();
                lasts();
                server.start();
                self.wait_replica();
            }
            Fault::PauseServer => {
                self.servers[self.master].pause();
                lasts();
                self.servers[self.master].resume();
            }
            Fault::CloseClients => {
                let mut master = self.master();
                master.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                master.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            Fault::Failover => {
                self.wait_replica();
                self.wait_durable();
                let answer = self.master().call(&["FAILOVER"]);
                assert_eq!(answer, "+OK\r\n", "FAILOVER");
                let mut next = self.servers[1 - self.master].connect();
                wait::until("the replica is the master", PATIENCE, || {
                    next.call(&["ROLE"]).contains("master").then_some(())
                });
                self.master = 1 - self.master;
                self.to_server
                    .retarget(at(self.servers[self.master].address()));
                self.wait_replica();
            }
            Fault::HandOver => self.hand_over(),
            Fault::KillProxy => {
                self.remember();
                self.kills.push(now());
                let socket = self.socket.try_clone().unwrap();
                self.proxy.kill();
                lasts();
                self.proxy = proxy(&socket, &self.to_server, &self.to_collector);
            }
            Fault::NoCollector => {
                self.to_collector.absent(true);
                lasts();
                self.to_collector.absent(false);
            }
            Fault::NoDescriptors => self.without_descriptors(lasts),
            Fault::Late => during(|by| self.to_proxy.delay(by), lasts),
            Fault::LateServer => during(|by| self.to_server.delay(by), lasts),
            Fault::Narrow => {
                self.to_proxy.room(50_000);
                lasts();
                self.to_proxy.room(0);
            }
            Fault::Stall => {
                self.to_server.stall(true);
                lasts();
                self.to_server.stall(false);
            }
            Fault::CutClients => self.to_proxy.cut(),
            Fault::CutServer => self.to_server.cut(),
            Fault::Loss => {
                let ports = [self.socket.local_addr().unwrap(), self.to_server.address()];
                let rules = |change: &str| {
                    for port in ports.map(|address| address.port().to_string()) {
                        // But no reset: nobody sends one again, and whoever waits for it notices only by keepalive, after minutes.
                        let lost = [
                            "--tcp-flags",
                            "RST",
                            "NONE",
                            "-m",
                            "statistic",
                            "--mode",
                            "random",
                            "--probability",
                            "0.02",
                        ];
                        let status = Command::new("iptables")
                            .args([change, "INPUT", "-i", "lo", "-p", "tcp", "--dport", &port])
                            .args(lost)
                            .args(["-j", "DROP"])
                            .status();
                        assert!(
                            status.is_ok_and(|status| status.success()),
                            "iptables {change}"
                        );
                    }
                };
                rules("-A");
                lasts();
                rules("-D");
            }
        }
    }

    fn without_descriptors(&self, lasts: impl Fn()) {
        let pid = Pid::from_raw(self.proxy.id().cast_signed());
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.proxy.id()))
            .unwrap()
            .count();
        let few = Rlimit {
            current: Some(open as u64),
            maximum: None,
        };
        // Only the soft limit is lowered, so that it may be raised again.
        let before = rustix::process::getrlimit(Resource::Nofile);
        let few = Rlimit {
            maximum: before.maximum,
            ..few
        };
        prlimit(pid, Resource::Nofile, few).unwrap();
        self.to_proxy.cut();
        lasts();
        prlimit(pid, Resource::Nofile, before).unwrap();
    }
}

fn during(delay: impl Fn(Duration), lasts: impl Fn()) {
    delay(Duration::from_millis(20));
    lasts();
    delay(Duration::ZERO);
}

fn proxy(socket: &TcpListener, to_server: &Weather, to_collector: &Weather) -> Proxy {
    Proxy::to_url(&format!("redis://{}", to_server.address()))
        .listen(Address::Tcp(socket.local_addr().unwrap().to_string()))
        .inherit(socket)
        .args(["--deliver", "strip*=strip", "--drain-timeout", "5s"])
        .otlp_grpc(&format!("http://{}", to_collector.address()))
        // Room for what comes while the collector is away.
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "65536")
        .start()
}

fn at(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => address.parse().unwrap(),
        Address::Unix(_) => unreachable!("no server was asked for a Unix socket"),
    }
}

/// In milliseconds since 1970, as ids of messages have it.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
