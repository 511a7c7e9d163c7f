//! The load generator: one thread, plain sockets and epoll, so that it costs little and the same for every contender.
//!
//! Closed loop: each connection sends its next batch when the one before has been answered; it shows the throughput. Open loop:
//! batches are due at fixed times whatever was answered, and a latency counts from the time when the batch was due: a contender
//! that stalls is charged for all that came due meanwhile (no coordinated omission).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use serde::{Deserialize, Serialize};

use crate::http;
use crate::replies::{Refused, Replies};
use crate::workload::{Script, Workload};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An answer was no success.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// More replies than commands.
    #[error("a reply came that nothing was sent for")]
    Unasked,
    /// A connection was closed.
    #[error("a connection was closed")]
    Closed,
    /// Nothing was answered for so long.
    #[error("nothing was answered for {0:?}")]
    Silence(Duration),
    /// The open loop asks for more than the contender can do.
    #[error("over {0} batches wait on a connection: the rate is too high")]
    Overrun(usize),
}

/// Longer than any batch takes on a machine that works.
const SILENCE: Duration = Duration::from_secs(10);

/// With so many batches due on one connection the open loop is given up.
const OVERRUN: usize = 100_000;

/// Latencies are kept from 1 us to this, with three digits.
const LONGEST_MICROS: u64 = 60_000_000;

/// When batches are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// When the one before is answered.
    Closed,
    /// So many a second, over all connections.
    Open(f64),
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Speech {
    /// Commands of Redis.
    Redis {
        /// Which.
        workload: Workload,
        /// Bytes of a value.
        value: usize,
        /// Commands of a batch.
        pipeline: u32,
    },
    /// This request of HTTP/1.1, over and over.
    Http(Arc<[u8]>),
}

/// What load is made.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is sent.
    pub speech: Speech,
    /// Connections.
    pub connections: usize,
    /// When batches are sent.
    pub pace: Pace,
    /// How long before anything counts; zero: all that is sent counts.
    pub warm_up: Duration,
    /// How long it is measured at most.
    pub duration: Duration,
    /// How many requests are sent at most (closed loop), and measured at most.
    pub requests: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests answered in the measured time.
    pub requests: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Bytes of all replies in it.
    pub received: u64,
    /// Of batches, in microseconds.
    pub latency: Histogram<u64>,
}

/// What a connection says, and how it counts what it hears.
enum Speaker {
    Redis(Script, Replies),
    Http(Arc<[u8]>, http::Answers),
}

impl Speaker {
    fn new(speech: &Speech) -> Self {
        match speech {
            Speech::Redis {
                workload,
                value,
                pipeline,
            } => Self::Redis(
                Script::new(*workload, *value, *pipeline),
                Replies::default(),
            ),
            Speech::Http(request) => Self::Http(request.clone(), http::Answers::default()),
        }
    }

    /// What must have been answered before the first batch, and by how many replies.
    fn prepare(&self) -> (Vec<u8>, u32) {
        match self {
            Self::Redis(script, _) => script.prepare(),
            Self::Http(request, _) => (request.to_vec(), 1),
        }
    }

    /// Appends the next batch to `out`; returns how many replies it will have, and how many requests they complete.
    fn next(&mut self, out: &mut Vec<u8>) -> (u32, u32) {
        match self {
            Self::Redis(script, _) => script.next(out),
            Self::Http(request, _) => {
                out.extend_from_slice(request);
                (1, 1)
            }
        }
    }

    /// Takes what was read, and says how many replies ended in it.
    fn take(&mut self, bytes: &[u8]) -> Result<u32, Refused> {
        match self {
            Self::Redis(_, replies) => replies.take(bytes),
            Self::Http(_, answers) => answers.take(bytes),
        }
    }
}

struct Connection {
    stream: TcpStream,
    number: u64,
    speaker: Speaker,
    /// What the socket has not taken yet.
    out: Vec<u8>,
    written: usize,
    /// Sent and not answered: when it was due, the replies it still waits for, the requests it completes.
    waiting: VecDeque<(Instant, u32, u32)>,
    wants_write: bool,
}

/// Makes the load; `at_edges` is called when the measured time begins and when it ends.
///
/// # Errors
/// If a connection fails, an answer is an error, or answers stay away.
pub fn run(at: SocketAddr, load: &Load, mut at_edges: impl FnMut()) -> Result<Outcome, Error> {
    // The kernel may wake a sleeper late by this; 50 us by default, as long as what is measured.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(io::Error::from)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut connections = Vec::with_capacity(load.connections);
    for number in 0..load.connections {
        let connection = Connection::open(at, load, number)?;
        let data = epoll::EventData::new_u64(connection.number);
        epoll::add(&epoll, &connection.stream, data, epoll::EventFlags::IN)
            .map_err(io::Error::from)?;
        connections.push(connection);
    }
    let mut latency = Histogram::new_with_max(LONGEST_MICROS, 3).map_err(io::Error::other)?;
    let started = Instant::now();
    let begins = started + load.warm_up;
    let ends = begins + load.duration;
    let (mut measuring, mut measured_from) = (false, begins);
    let (mut sent, mut requests, mut received) = (0, 0, 0);
    let mut due = started;
    let mut turn = 0;
    let mut last_answer = started;
    if load.warm_up.is_zero() {
        at_edges();
        (measuring, measured_from) = (true, Instant::now());
    }
    if load.pace == Pace::Closed {
        for connection in &mut connections {
            if !measuring || sent < load.requests {
                sent += connection.send_next(Instant::now(), &epoll)?;
            }
        }
    }
    let mut events = Vec::with_capacity(load.connections.clamp(16, 1024));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let now = Instant::now();
        if !measuring && now >= begins {
            at_edges();
            (measuring, measured_from) = (true, Instant::now());
            (sent, requests, received, last_answer) = (0, 0, 0, measured_from);
        }
        if now >= ends || (measuring && requests >= load.requests) {
            let elapsed = measured_from.elapsed();
            at_edges();
            return Ok(Outcome {
                requests,
                elapsed,
                received,
                latency,
            });
        }
        if now > last_answer + SILENCE {
            return Err(Error::Silence(SILENCE));
        }
        let mut wake = if measuring { ends } else { begins };
        if let Pace::Open(rate) = load.pace {
            while due <= now {
                if let Some(connection) = connections.get_mut(turn) {
                    connection.send_next(due, &epoll)?;
                }
                turn = (turn + 1) % load.connections;
                due += Duration::from_secs_f64(1.0 / rate);
            }
            wake = wake.min(due);
        }
        let timeout = Timespec::try_from(wake.saturating_duration_since(Instant::now()))
            .map_err(io::Error::other)?;
        events.clear();
        match epoll::wait(
            &epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        for event in &events {
            let (number, flags) = (event.data.u64(), event.flags);
            let Some(connection) = usize::try_from(number)
                .ok()
                .and_then(|number| connections.get_mut(number))
            else {
                continue;
            };
            if flags.contains(epoll::EventFlags::OUT) {
                connection.flush(&epoll)?;
            }
            if flags == epoll::EventFlags::OUT {
                continue;
            }
            let completed = connection.receive(&mut buffer, |due, now| {
                if measuring {
                    let micros = now.duration_since(due).as_micros();
                    // What is longer counts as the longest.
                    latency.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            })?;
            if completed.bytes > 0 {
                last_answer = Instant::now();
                received += completed.bytes as u64;
            }
            if completed.batches > 0 {
                requests += u64::from(completed.requests);
                if load.pace == Pace::Closed && (!measuring || sent < load.requests) {
                    sent += connection.send_next(last_answer, &epoll)?;
                }
            }
        }
    }
}

/// What one read completed.
#[derive(Default)]
struct Completed {
    bytes: usize,
    batches: u32,
    requests: u32,
}

impl Connection {
    fn open(at: SocketAddr, load: &Load, number: usize) -> Result<Self, Error> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut speaker = Speaker::new(&load.speech);
        let (prepare, mut awaited) = speaker.prepare();
        stream.write_all(&prepare)?;
        let mut buffer = [0; 4096];
        while awaited > 0 {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(Error::Closed);
            }
            awaited -= speaker.take(buffer.get(..n).unwrap_or_default())?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            number: number as u64,
            speaker,
            out: Vec::new(),
            written: 0,
            waiting: VecDeque::new(),
            wants_write: false,
        })
    }

    /// Sends a batch, and says how many requests it completes.
    fn send_next(&mut self, due: Instant, epoll: &OwnedFd) -> Result<u64, Error> {
        if self.waiting.len() > OVERRUN {
            return Err(Error::Overrun(OVERRUN));
        }
        let (replies, requests) = self.speaker.next(&mut self.out);
        self.waiting.push_back((due, replies, requests));
        self.flush(epoll)?;
        Ok(u64::from(requests))
    }

    /// Writes what there is room for, and asks to be told of more room where some is left.
    fn flush(&mut self, epoll: &OwnedFd) -> Result<(), Error> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let wants_write = self.written < self.out.len();
        if !wants_write {
            self.out.clear();
            self.written = 0;
        }
        if std::mem::replace(&mut self.wants_write, wants_write) != wants_write {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wants_write);
            let data = epoll::EventData::new_u64(self.number);
            epoll::modify(epoll, &self.stream, data, flags).map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Reads once. `answered` is told when each batch that is whole now was due, and the time.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        mut answered: impl FnMut(Instant, Instant),
    ) -> Result<Completed, Error> {
        let n = match self.stream.read(buffer) {
            Ok(0) => return Err(Error::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        let mut ended = self.speaker.take(buffer.get(..n).unwrap_or_default())?;
        let mut completed = Completed {
            bytes: n,
            ..Completed::default()
        };
        while ended > 0 {
            let (due, replies, requests) = self.waiting.front_mut().ok_or(Error::Unasked)?;
            if *replies > ended {
                *replies -= ended;
                break;
            }
            ended -= *replies;
            completed.batches += 1;
            completed.requests += *requests;
            answered(*due, now);
            self.waiting.pop_front();
        }
        Ok(completed)
    }
}
