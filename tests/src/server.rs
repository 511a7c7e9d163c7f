//! Real Redis and Valkey servers, each private to the test that starts it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::address::Address;
use crate::parts;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::resp::Client;
use crate::wait::PATIENCE;

/// How long one PING may take before the next try, while the server starts.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// A server the project is tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis 7.0, as Debian 12 has it.
    Redis70,
    /// Valkey 9.1.
    Valkey,
    /// Redis 8.2.
    Redis82,
}

impl Kind {
    /// Every kind: what must hold, holds on each.
    pub const ALL: [Self; 3] = [Self::Redis70, Self::Valkey, Self::Redis82];

    /// Its executable.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn binary(self) -> PathBuf {
        match self {
            Self::Redis70 => parts::in_path("TARS_REDIS70", "REDIS70_VERSION", "redis-server"),
            Self::Valkey => {
                parts::cached("TARS_VALKEY", "valkey", "VALKEY_VERSION", "valkey-server")
            }
            Self::Redis82 => {
                parts::cached("TARS_REDIS82", "redis", "REDIS82_VERSION", "redis-server")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis70 => "Redis 7.0",
            Self::Valkey => "Valkey 9.1",
            Self::Redis82 => "Redis 8.2",
        })
    }
}

/// What a server is started with.
#[derive(Debug)]
pub struct Builder {
    kind: Kind,
    args: Vec<String>,
    unix: bool,
}

impl Builder {
    /// Adds arguments, such as `["--requirepass", "secret"]`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Listens on a Unix socket instead of on a port.
    #[must_use]
    pub fn unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Starts it and waits until it answers PING.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = (!self.unix).then(Port::claim);
        let address = match &port {
            Some(port) => Address::Tcp(port.addr()),
            None => Address::Unix(dir.path().join("redis.sock")),
        };
        let mut server = Server {
            kind: self.kind,
            args: self.args,
            address,
            process: None,
            dir,
            _port: port,
        };
        server.start();
        server
    }
}

/// A running server: empty, without persistence unless its arguments say so, `DEBUG` allowed.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    args: Vec<String>,
    address: Address,
    // Declared before the folder it lives in, so that it ends first.
    process: Option<Process>,
    dir: TempDir,
    _port: Option<Port>,
}

impl Server {
    /// A server of this kind, to be configured and started.
    #[must_use]
    pub fn builder(kind: Kind) -> Builder {
        Builder {
            kind,
            args: Vec::new(),
            unix: false,
        }
    }

    /// A running server of this kind.
    #[track_caller]
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self::builder(kind).start()
    }

    /// A running Redis 7.0.
    #[track_caller]
    #[must_use]
    pub fn redis70() -> Self {
        Self::of(Kind::Redis70)
    }

    /// A running Valkey.
    #[track_caller]
    #[must_use]
    pub fn valkey() -> Self {
        Self::of(Kind::Valkey)
    }

    /// A running Redis 8.2.
    #[track_caller]
    #[must_use]
    pub fn redis82() -> Self {
        Self::of(Kind::Redis82)
    }

    /// One running server of every kind.
    #[track_caller]
    #[must_use]
    pub fn all() -> Vec<Self> {
        Kind::ALL.into_iter().map(Self::of).collect()
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where it listens, as `--upstream` takes it: `redis://127.0.0.1:N` or `unix:/path`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(addr) => format!("redis://{addr}"),
            Address::Unix(_) => self.address.to_string(),
        }
    }

    /// A connection that sees bytes.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// A connection of the `redis` crate.
    ///
    /// # Panics
    /// When there is none to be had.
    #[track_caller]
    #[must_use]
    pub fn redis(&self) -> redis::Connection {
        redis_connection(&self.address)
    }

    /// Starts it again after [`Self::stop`], at the same address.
    ///
    /// # Panics
    /// When it does not answer PING, or runs already.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.kind);
        let mut process = Process::start(&self.kind.binary(), |command| {
            command.current_dir(self.dir.path());
            command.args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--loglevel",
                "notice",
                "--enable-debug-command",
                "yes",
            ]);
            match &self.address {
                Address::Tcp(addr) => {
                    command.args(["--port", addr.rsplit(':').next().unwrap_or_default()])
                }
                Address::Unix(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
            };
            command.args(&self.args);
        });
        process.wait_until("it answers PING", PATIENCE, |_| {
            answers(&self.address).then_some(())
        });
        self.process = Some(process);
    }

    /// Kills it: connections break, later ones are refused, what was not persisted is gone.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it and starts it again at the same address.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Stops its process (SIGSTOP): connections stay and get no answer.
    #[track_caller]
    pub fn pause(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// Lets it go on after [`Self::pause`].
    #[track_caller]
    pub fn resume(&mut self) {
        self.running().signal(Signal::CONT);
    }

    #[track_caller]
    fn running(&mut self) -> &mut Process {
        let kind = self.kind;
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("{kind} was stopped"))
    }
}

/// A connection of the `redis` crate to a server or to a proxy.
///
/// # Panics
/// When there is none to be had.
#[track_caller]
#[must_use]
pub fn redis_connection(address: &Address) -> redis::Connection {
    let url = match address {
        Address::Tcp(addr) => format!("redis://{addr}"),
        Address::Unix(path) => format!("redis+unix://{}", path.display()),
    };
    let client = redis::Client::open(url).unwrap();
    client
        .get_connection()
        .unwrap_or_else(|e| panic!("no connection to {address}: {e}"))
}

/// Whether it has loaded its data and serves; a server that wants a password says so instead of PONG.
fn answers(address: &Address) -> bool {
    let ping = || {
        let mut client = Client::open(address, PING_LIMIT)?;
        client.try_send(b"PING\r\n")?;
        client.try_reply()
    };
    ping().is_ok_and(|reply| reply == b"+PONG\r\n" || reply.starts_with(b"-NOAUTH"))
}
