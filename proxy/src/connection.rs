//! One client's connection and the one to the server that belongs to it: two pumps in one task.
//!
//! Each pump reads into the thread's buffer, has the bytes understood ([`Requests`], [`Replies`]) and writes them on from
//! where they are. What the other side does not take yet is kept, and nothing more is read before it is gone: that is the
//! flow control. A connection that waits holds no buffer.

mod pump;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use crate::budget::Account;
use crate::chunk::Chunk;
use crate::error::{Error, Side};
use crate::greeting::{Greeting, Stage};
use crate::inflight::{Inflight, Op};
use crate::request::{Context, Raw, Requests};
use crate::response::Replies;
use crate::socket::Socket;
use crate::tls;
use crate::upstream::Connected;
use crate::worker::{Count, Destination, Listener, Moment, Worker};
use pump::{End, Pump};

pub(crate) use pump::READ_BYTES;

/// So often a connection reads from one side until it is the turn of the others.
const READS_AT_A_TURN: u32 = 16;

/// A raw relay that is drained is closed when nothing has been said for so long, the server last. Whoever waits in a
/// blocking command spoke last himself.
const RAW_QUIET: Duration = Duration::from_secs(1);

/// During a drain a connection is kept for so long whose client has not said anything yet: it was accepted a moment ago, and
/// its first command is on the way.
const FIRST_COMMAND: Duration = Duration::from_secs(1);

/// A connection under way.
pub struct Connection {
    client: Socket,
    server: Socket,
    up: Pump,
    down: Pump,
    telemetry: Telemetry,
    /// Whether the client has sent anything.
    spoken: bool,
    quiet: Quiet,
    /// How the server broke the connection off, where that was noticed by writing to it: reading then shows a mere end.
    broken: Option<Error>,
    /// Until the server has closed: a client that does not look at its socket must not make it seem to be there.
    connected: Option<Connected>,
}

/// What is known of a connection that is not understood: who spoke last, and since when nobody has.
#[derive(Debug, Default)]
struct Quiet {
    client_spoke: bool,
    since: Option<Instant>,
}

impl Quiet {
    fn lasts(&self, long: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= long)
    }
}

/// What is understood of a connection.
struct Telemetry {
    requests: Requests,
    replies: Replies,
    /// What is read is not understood any more, in this direction.
    raw_up: bool,
    raw_down: bool,
    cx: Context,
    waker: Option<usize>,
}

impl Connection {
    /// Joins a client to a server.
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        listener: Arc<Listener>,
        destination: Arc<Destination>,
        client: Socket,
        server: Socket,
        connected: Connected,
    ) -> Self {
        let raw = !worker.shared.config.trace;
        let greeting = destination.greeting.as_ref();
        let up = Pump {
            pending: greeting.map_or_else(Vec::new, |greeting| greeting.bytes().to_vec()),
            ..Pump::default()
        };
        Self {
            client,
            server,
            up,
            down: Pump::default(),
            telemetry: Telemetry {
                requests: Requests::new(&destination),
                replies: Replies::default(),
                raw_up: raw,
                raw_down: raw,
                cx: Context {
                    greeting: greeting.map(Greeting::said).unwrap_or_default(),
                    connection: worker.next_connection(),
                    inflight: Inflight::new(worker.shared.pending.clone()),
                    held_up: Account::of(worker.shared.held.clone()),
                    held_down: Account::of(worker.shared.held.clone()),
                    worker,
                    listener,
                    destination,
                    inference: Default::default(),
                    authenticated: false,
                    database: 0,
                    now: Moment::default(),
                },
                waker: None,
            },
            spoken: false,
            quiet: Quiet::default(),
            broken: None,
            connected: Some(connected),
        }
    }

    /// From the client to the server, until one of them has to be waited for.
    fn poll_up(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        let Self {
            client,
            server,
            up,
            spoken,
            telemetry:
                Telemetry {
                    requests,
                    raw_up,
                    cx,
                    ..
                },
            quiet,
            ..
        } = self;
        if up.rests(server) && !client.is_readable() {
            return Poll::Pending;
        }
        for _ in 0..READS_AT_A_TURN {
            ready!(up.poll_flush(server, task)).map_err(Error::of(Side::Server))?;
            cx.held_up.set(up.held());
            match up.end {
                End::Open => {}
                End::Read => {
                    ready!(server.poll_shutdown(task))
                        .or_else(ignore_not_connected)
                        .map_err(Error::of(Side::Server))?;
                    up.end = End::Told;
                    return Poll::Ready(Ok(()));
                }
                End::Told => return Poll::Ready(Ok(())),
            }
            if cx.greeting != Stage::Over {
                let held = up.poll_hold(client, task);
                cx.held_up.set(up.held());
                match ready!(held).map_err(Error::of(Side::Client))? {
                    true => continue,
                    // What the server answers wakes this task.
                    false => return Poll::Pending,
                }
            }
            let pumped = ready!(up.poll_pump(client, server, task, |chunk, consumed| {
                if *raw_up {
                    *consumed = chunk.bytes().len();
                    return;
                }
                cx.now.pass();
                if let Err(Raw(reason)) = requests.process(chunk, cx, consumed) {
                    if *consumed == 0 && tls::is_record(chunk.bytes()) {
                        cx.listener.hears_tls();
                    }
                    *raw_up = true;
                    *consumed = chunk.bytes().len();
                    // Counted here: the server may close instead of answering.
                    cx.worker.shared.metrics.raw_relay(reason);
                    cx.inflight.push(Op::Raw(reason));
                }
            }))?;
            *spoken = true;
            cx.worker.counters.add(Count::BytesUp, pumped.bytes);
            pumped.observe(&cx.worker.shared.metrics.added_up);
            cx.worker.flush_many();
            *quiet = Quiet {
                client_spoke: true,
                since: None,
            };
            if up.rests(server) {
                cx.held_up.set(up.held());
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// From the server to the client, until one of them has to be waited for.
    fn poll_down(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        let Self {
            client,
            server,
            up,
            down,
            telemetry,
            quiet,
            broken,
            connected,
            ..
        } = self;
        let Telemetry {
            replies,
            raw_up,
            raw_down,
            cx,
            ..
        } = telemetry;
        if down.rests(client) && !server.is_readable() {
            return Poll::Pending;
        }
        for _ in 0..READS_AT_A_TURN {
            ready!(down.poll_flush(client, task)).map_err(Error::of(Side::Client))?;
            written(down, replies, cx);
            match down.end {
                End::Open => {}
                End::Read => {
                    if let Some(error) = broken.take() {
                        return Poll::Ready(Err(error));
                    }
                    ready!(client.poll_shutdown(task))
                        .or_else(ignore_not_connected)
                        .map_err(Error::of(Side::Client))?;
                    down.end = End::Told;
                    *connected = None;
                    return Poll::Ready(Ok(()));
                }
                End::Told => return Poll::Ready(Ok(())),
            }
            let pumped = ready!(down.poll_pump(server, client, task, |chunk, consumed| {
                if cx.greeting != Stage::Over && greeted(chunk, cx, consumed) {
                    return;
                }
                if *raw_down {
                    *consumed = chunk.bytes().len();
                    return;
                }
                cx.now.pass();
                if let Err(Raw(reason)) = replies.process(chunk, cx, consumed) {
                    // Where the requests became raw first, that has been counted.
                    if !std::mem::replace(raw_up, true) {
                        cx.worker.shared.metrics.raw_relay(reason);
                    }
                    *raw_down = true;
                    *consumed = chunk.bytes().len();
                    replies.abandon(cx);
                }
            }))
            .map_err(Error::swapped)?;
            cx.worker.counters.add(Count::BytesDown, pumped.bytes);
            pumped.observe(&cx.worker.shared.metrics.added_down);
            cx.destination.upstream.heard();
            cx.worker.flush_many();
            *quiet = Quiet::default();
            if cx.greeting != Stage::Over {
                go_on(up, down, *raw_up, cx, task);
            }
            if down.rests(client) {
                written(down, replies, cx);
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// The connection is at rest: nothing is awaited, nothing is half done. Where that cannot be known, because it is a
    /// raw relay, it is taken to be so when the server had the last word and nothing was said for a while.
    fn is_at_rest(&self) -> bool {
        let Telemetry {
            requests,
            replies,
            cx,
            raw_up,
            ..
        } = &self.telemetry;
        let understood =
            requests.is_between() && replies.is_between() && cx.inflight.awaits_nothing();
        // A subscriber waits for messages as who blocks in a read does.
        let understood = understood && !replies.is_subscribed();
        let rests = if *raw_up {
            self.quiet.lasts(RAW_QUIET) && !self.quiet.client_spoke
        } else {
            understood && (self.spoken || self.quiet.lasts(FIRST_COMMAND))
        };
        rests && self.up.is_at_rest(&self.server) && self.down.is_at_rest(&self.client)
    }
}

impl Connection {
    /// No reply is half said, as far as can be known. Whoever waits for one that has not begun is told by the end of the connection.
    fn may_be_ended(&self) -> bool {
        let Telemetry {
            replies, raw_down, ..
        } = &self.telemetry;
        let said = if *raw_down {
            self.quiet.lasts(RAW_QUIET)
        } else {
            replies.is_between()
        };
        said && self.down.is_at_rest(&self.client)
    }
}

/// Whether what the server says is its answer to the greeting.
#[cold]
fn greeted(chunk: &mut Chunk<'_>, cx: &mut Context, consumed: &mut usize) -> bool {
    let destination = cx.destination.clone();
    match (&destination.greeting, cx.greeting) {
        (Some(greeting), Stage::Said(_)) => {
            greeting.hear(chunk, cx, consumed);
            true
        }
        _ => false,
    }
}

/// Takes the next step of the greeting, after what the server has said.
#[cold]
fn go_on(up: &mut Pump, down: &mut Pump, raw: bool, cx: &mut Context, task: &TaskContext<'_>) {
    match cx.greeting {
        Stage::Over | Stage::Said(_) => return,
        // Of a connection that is not understood any more, nobody sees RESET answered.
        Stage::Resetting if !raw => return,
        // The server has been told that nothing more comes.
        Stage::Due if up.end != End::Open => cx.greeting = Stage::Over,
        Stage::Due => {
            if let Some(greeting) = &cx.destination.greeting {
                up.pending.extend_from_slice(greeting.bytes());
                cx.greeting = greeting.said();
            }
        }
        Stage::Resetting | Stage::Agreed => {
            cx.greeting = Stage::Over;
            up.again = true;
            up.waits = false;
        }
        Stage::Refused => {
            up.end = End::Told;
            up.waits = false;
            // As if the server had closed.
            down.end = End::Read;
            down.waits = false;
        }
    }
    task.waker().wake_by_ref();
}

/// What was understood has been written to the client.
#[inline]
fn written(down: &Pump, replies: &mut Replies, cx: &mut Context) {
    cx.held_down.set(down.held() + replies.held());
    if replies.awaits_client() {
        let (id, listener) = (cx.connection, cx.listener.clone());
        for latest in replies.reached_client() {
            cx.inference.delivered(id, &listener.inference, latest);
        }
    }
}

/// The other side may be gone already when it is told.
fn ignore_not_connected(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected {
        Ok(())
    } else {
        Err(error)
    }
}

impl Future for Connection {
    type Output = Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.telemetry.waker.is_none() {
            this.telemetry.waker = Some(this.telemetry.cx.worker.register(task.waker()));
        }
        let up = match this.poll_up(task) {
            // What the server still had to say before it closed comes first; then its end is passed on.
            Poll::Ready(Err(error)) if error.side == Side::Server => {
                this.up.end = End::Told;
                this.up.pending = Vec::new();
                this.broken = (!error.is_end()).then_some(error);
                Poll::Ready(Ok(()))
            }
            up => up,
        };
        let down = this.poll_down(task);
        let Context {
            worker, greeting, ..
        } = &this.telemetry.cx;
        worker.polled();
        if this.down.end == End::Told && *greeting != Stage::Over {
            // The server has gone without agreeing, and nothing of the client's may pass any more.
            return Poll::Ready(Ok(()));
        }
        match (up, down) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ if worker.is_draining() => {
                let overdue = worker.is_overdue();
                this.quiet.since.get_or_insert_with(Instant::now);
                if this.is_at_rest() || (overdue && this.may_be_ended()) {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
            _ => Poll::Pending,
        }
    }
}

impl Connection {
    /// Whether the server has refused what it was told first. What the client has sent by then is read by nobody.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.telemetry.cx.greeting == Stage::Refused
    }

    /// Closes as the other side did: a reset is passed on as a reset. What is left is the client's socket.
    #[must_use]
    pub fn close(self, result: &Result<(), Error>) -> Socket {
        if let Err(error) = result
            && error.is_reset()
        {
            match error.side {
                Side::Client => self.server.reset_on_close(),
                Side::Server => self.client.reset_on_close(),
            }
        }
        self.client
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let Self {
            replies, cx, waker, ..
        } = self;
        cx.now.pass();
        replies.abandon(cx);
        cx.listener.inference.closed(cx.connection);
        cx.worker.flush();
        if let Some(waker) = waker {
            cx.worker.unregister(*waker);
        }
    }
}

#[cfg(test)]
mod tests;
