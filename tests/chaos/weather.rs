//! A relay whose connections suffer what networks do: delay, little room, silence, resets; and, to prove that the checker sees
//! it, a reply that is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What a stalled direction does until it may go on: look again.
const LOOK: Duration = Duration::from_millis(5);

/// How much is written at once where there is little room.
const PIECE: usize = 512;

/// Bytes read at once.
const READ: usize = 64 * 1024;

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    delay_ms: AtomicU64,
    bytes_per_second: AtomicU64,
    stalled: AtomicBool,
    absent: AtomicBool,
    /// So many replies are swallowed.
    swallow: AtomicU32,
    /// Its number grows when all connections are to be reset.
    cut: watch::Sender<u64>,
}

/// A relay to a target that may change. It runs until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    state: Arc<State>,
    address: SocketAddr,
}

impl Weather {
    /// Starts it before `target`.
    pub(crate) fn before(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::new(target),
            delay_ms: AtomicU64::new(0),
            bytes_per_second: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            swallow: AtomicU32::new(0),
            cut: watch::Sender::new(0),
        });
        let shared = state.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    // Out of descriptors: the next one may find some.
                    let Ok((client, _)) = listener.accept().await else {
                        sleep(LOOK).await;
                        continue;
                    };
                    tokio::spawn(relay(client, shared.clone()));
                }
            });
        });
        Self { state, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections go there from now on; those that are open are reset.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        *self
            .state
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = target;
        self.cut();
    }

    /// Resets all connections.
    pub(crate) fn cut(&self) {
        self.state.cut.send_modify(|cut| *cut += 1);
    }

    /// Whatever is read goes on only so much later.
    pub(crate) fn delay(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(0);
        self.state.delay_ms.store(by, Relaxed);
    }

    /// So many bytes a second and connection go on; 0 is as many as there are.
    pub(crate) fn room(&self, bytes_per_second: u64) {
        self.state.bytes_per_second.store(bytes_per_second, Relaxed);
    }

    /// Nothing goes on while it is stalled.
    pub(crate) fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Relaxed);
    }

    /// Nobody is there: connections are reset, new ones too.
    pub(crate) fn absent(&self, absent: bool) {
        self.state.absent.store(absent, Relaxed);
        self.cut();
    }

    /// The next replies from the target get lost, so many reads of them.
    pub(crate) fn swallow(&self, replies: u32) {
        self.state.swallow.store(replies, Relaxed);
    }
}

async fn relay(client: TcpStream, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    let target = *state.target.lock().unwrap_or_else(PoisonError::into_inner);
    let server = match TcpStream::connect(target).await {
        Ok(server) if !state.absent.load(Relaxed) => server,
        _ => return reset(&client),
    };
    for stream in [&client, &server] {
        // A connection that is broken already shows it when it is read.
        let _ = stream.set_nodelay(true);
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        _ = cut.changed() => {
            reset(client_read.as_ref());
            reset(server_read.as_ref());
        }
        ends = async {
            tokio::try_join!(
                pass(&client_read, &server_write, &state, false),
                pass(&server_read, &client_write, &state, true),
            )
        } => {
            if ends.is_err() {
                reset(client_read.as_ref());
                reset(server_read.as_ref());
            }
        }
    }
}

fn reset(stream: &TcpStream) {
    // One that is dead already needs no more.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn pass(
    from: &OwnedReadHalf,
    to: &OwnedWriteHalf,
    state: &State,
    replies: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        from.readable().await?;
        let n = match from.try_read(&mut buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if n == 0 {
            return SockRef::from(to.as_ref()).shutdown(std::net::Shutdown::Write);
        }
        let delay = state.delay_ms.load(Relaxed);
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
        while state.stalled.load(Relaxed) {
            sleep(LOOK).await;
        }
        if replies
            && state
                .swallow
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
        {
            continue;
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let room = state.bytes_per_second.load(Relaxed);
            let piece = if room == 0 {
                rest
            } else {
                &rest[..rest.len().min(PIECE)]
            };
            if room > 0 {
                sleep(Duration::from_secs_f64(piece.len() as f64 / room as f64)).await;
            }
            to.writable().await?;
            match to.try_write(piece) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
