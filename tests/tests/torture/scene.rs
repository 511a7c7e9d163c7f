//! Where an attack takes place: a real server, the proxy, a receiver of its spans, and a bystander.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tars_proxy::config::Limits;
use tars_tests::address::Address;
use tars_tests::liar::Liar;
use tars_tests::otlp::Span;
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::resp::{Client, End};
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

/// What the bystander waits between two messages: it is to be there all the time, and not to fill the queue of spans.
const PACE: Duration = Duration::from_millis(5);

/// What the proxy may take besides what an attacker makes it hold: the buffers of its threads, tables that the bystander
/// fills, and what the allocator keeps of what was given back.
pub(crate) const ALLOWANCE: usize = 12 << 20;

/// What a connection may make the proxy hold in one direction, with the defaults.
pub(crate) const DIRECTION: usize = Limits::DEFAULT.direction_bytes();

/// Threads of the proxy: an attacker and the bystander may be on the same one or not.
pub(crate) const WORKERS: usize = 2;

/// See the module.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    /// What stands between the proxy and the server, if lies are to be told.
    liar: Option<Liar>,
    bystander: Bystander,
    /// Resident memory of the proxy before the attack.
    before: usize,
}

impl Scene {
    /// Before a server of this kind.
    #[track_caller]
    pub(crate) fn of(kind: Kind) -> Self {
        Self::with(Server::of(kind), |proxy| proxy)
    }

    /// Before this server; `configure` adds to the proxy's settings.
    #[track_caller]
    pub(crate) fn with(server: Server, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::set(Stage::with(server, |proxy| configure(unflooded(proxy))))
    }

    /// Before a server that lies where it is told to.
    #[track_caller]
    pub(crate) fn of_lies() -> Self {
        let server = Server::redis82();
        let liar = Liar::before(server.address());
        let stage = Stage::with(server, |proxy| unflooded(proxy).upstream(&liar.url()));
        Self {
            liar: Some(liar),
            ..Self::set(stage)
        }
    }

    #[track_caller]
    fn set(stage: Stage) -> Self {
        stage.direct("XGROUP CREATE bystander g $ MKSTREAM");
        let bystander = Bystander::at(stage.proxy.address());
        bystander.wait_rounds(3);
        let before = stage.proxy.memory().now;
        stage.proxy.forget_peak();
        Self {
            stage,
            liar: None,
            bystander,
            before,
        }
    }

    /// A connection through the proxy.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        self.stage.connect()
    }

    /// A connection through the proxy to a server that lies.
    #[track_caller]
    pub(crate) fn connect_to(&self, lie: impl FnOnce(Client) + Send + 'static) -> Client {
        let liar = self.liar.as_ref().expect("a scene of lies");
        liar.next(lie);
        self.connect()
    }

    /// See [`same`].
    #[track_caller]
    pub(crate) fn same(&self, what: &str, attack: impl Fn(&mut Client)) {
        same(&self.stage, what, attack);
    }

    /// Waits until the attackers' connections to the server are closed.
    #[track_caller]
    pub(crate) fn wait_alone(&self) {
        self.wait_alone_but(0);
    }

    /// Waits until the server has as many connections, besides the bystander's and the one that asks.
    #[track_caller]
    pub(crate) fn wait_alone_but(&self, others: usize) {
        let wanted = format!("connected_clients:{}\r", others + 2);
        wait::until("the server's connections are closed", PATIENCE, || {
            let clients = self.stage.direct("INFO clients");
            clients.contains(&wanted).then_some(())
        });
    }

    /// How much more memory the proxy has had at most than before the attack.
    #[track_caller]
    pub(crate) fn growth(&self) -> usize {
        self.stage.proxy.memory().peak.saturating_sub(self.before)
    }

    /// The attack is over, and the proxy has held no more than `bytes` for it: it lives, has not panicked, and the bystander was
    /// served all along.
    #[track_caller]
    pub(crate) fn over(mut self, bytes: usize) {
        let kind = self.stage.server.kind();
        let rounds = self.bystander.stop();
        let spans = self.stage.wait_spans(|spans| {
            spans
                .iter()
                .rev()
                .any(|span| is_of(span, "process", rounds))
        });
        for round in 1..=rounds {
            let of = |operation| spans.iter().find(|span| is_of(span, operation, round));
            match (of("send"), of("process")) {
                (Some(send), Some(process)) if process.is_child_of(send) => {
                    assert!(process.attr("tars.outcome").is_null(), "{process:?}");
                }
                both => panic!("{kind}: the bystander's message {round}: {both:?}"),
            }
        }
        let growth = self.growth();
        assert!(
            growth <= bytes + ALLOWANCE,
            "{kind}: the proxy took {growth} bytes, more than {bytes} and {ALLOWANCE}"
        );
        alive(&mut self.stage.proxy);
    }
}

/// A flood of spans would drown the bystander's, and rightly so.
fn unflooded(proxy: Builder) -> Builder {
    let workers = WORKERS.to_string();
    proxy.args(["--workers", &workers, "--sample", "flood*=0"])
}

/// The proxy runs, and nothing in it has panicked.
#[track_caller]
pub(crate) fn alive(proxy: &mut Proxy) {
    let log = proxy.stderr();
    assert_eq!(proxy.exited(), None, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// Has both the server and the proxy attacked; each must answer the same, and end the connection in the same way.
#[track_caller]
pub(crate) fn same(stage: &Stage, what: &str, attack: impl Fn(&mut Client)) {
    let expected = answer(stage.server.address(), &attack);
    let got = answer(stage.proxy.address(), &attack);
    assert_eq!(got, expected, "{}: {what}", stage.server.kind());
}

/// What a client gets that does this, and then says that no more comes.
#[track_caller]
pub(crate) fn answer(address: &Address, attack: impl Fn(&mut Client)) -> (String, End) {
    let mut client = Client::connect(address);
    attack(&mut client);
    client.try_half_close();
    let (bytes, end) = client.read_until_closed();
    (bytes.escape_ascii().to_string(), end)
}

/// A client that sends, reads and acknowledges one message after the other.
struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    fn at(address: &Address) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count) = (stop.clone(), rounds.clone());
        let mut client = Client::connect(address);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let round = count.load(Ordering::Relaxed) + 1;
                let id = format!("{round}-1");
                let answer = client.call(&["XADD", "bystander", &id, "f", "v"]);
                assert_eq!(answer, format!("${}\r\n{id}\r\n", id.len()));
                let read = ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "bystander", ">"];
                let answer = client.call(&read);
                assert!(answer.contains(&format!("\r\n{id}\r\n")), "{answer}");
                assert!(answer.contains("\r\ntraceparent\r\n"), "{answer}");
                assert_eq!(client.call(&["XACK", "bystander", "g", &id]), ":1\r\n");
                count.store(round, Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        Self {
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    /// Waits for as many rounds more.
    #[track_caller]
    fn wait_rounds(&self, more: u64) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait::until("the bystander is served", PATIENCE, || {
            let done = self.rounds.load(Ordering::Relaxed) >= before + more;
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            (done || ended).then_some(())
        });
    }

    /// Waits until it has been served after all that was, and ends it. Returns how many messages there were.
    #[track_caller]
    fn stop(&mut self) -> u64 {
        self.wait_rounds(2);
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the bystander was served");
        }
        self.rounds.load(Ordering::Relaxed)
    }
}

fn is_of(span: &Span, operation: &str, round: u64) -> bool {
    span.name.strip_suffix(" bystander") == Some(operation)
        && span.attr("messaging.message.id") == format!("{round}-1").as_str()
}
