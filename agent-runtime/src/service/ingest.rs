//! Takes fragments in: one thread an agent, so that what is numbered is numbered in one place.
//!
//! What came over HTTP is journalled, made durable together with all else that waits, put into the book, and only then acknowledged. What came from
//! a stream stays there until it is settled, and needs no journal.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry::trace::SpanContext;
use tokio::sync::{mpsc, oneshot};

use super::book::{Durable, EntryId, Shared, Source};
use super::experience::{Encoded, Experience, u64_of};
use super::journal::{Journal, JournalError};
use super::producers::{OutOfOrder, Place};
use crate::env::Space;
use crate::fragments::{Refused, Size};

/// Requests that wait for the thread: beyond them there is back-pressure.
pub const INBOX: usize = 256;
/// Requests that are made durable together.
const GROUP: usize = 64;

/// What is sent to the thread.
#[derive(Debug)]
pub enum Message {
    /// Fragments over HTTP.
    Batch {
        /// Who sends them.
        producer: String,
        /// Its life.
        epoch: u64,
        /// The number of the first.
        seq: u64,
        /// They.
        fragments: Vec<Experience>,
        /// The context of the request.
        trace: Option<SpanContext>,
        /// Who waits for the answer.
        reply: oneshot::Sender<Result<Accepted, NotAccepted>>,
    },
    /// A fragment out of a stream.
    Entry {
        /// The entry.
        id: EntryId,
        /// It.
        fragment: Arc<Experience>,
        /// The context of the message.
        trace: Option<SpanContext>,
        /// Who waits for the answer.
        reply: oneshot::Sender<Result<Accepted, NotAccepted>>,
    },
}

/// What was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Transitions that are new.
    pub transitions: u64,
    /// Fragments that had been accepted before.
    pub duplicates: u64,
}

/// Why nothing of it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// There is no room now.
    #[error("{0}")]
    Full(String),
    /// It comes too early, or too late.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// It will never be accepted.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be made durable.
    #[error("experience cannot be made durable: {0}")]
    Disk(String),
    /// The agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// What the thread works with.
#[derive(Debug)]
pub struct Ingest {
    /// The agent's name.
    pub name: String,
    /// The book.
    pub shared: Arc<Shared>,
    /// What the agent sees.
    pub space: Space,
    /// Where the journal is.
    pub directory: PathBuf,
    /// Bytes that it may hold.
    pub most: u64,
    /// Records below this are not needed any more: said by the thread that writes checkpoints.
    pub floor: Arc<AtomicU64>,
    /// Bytes that the journal holds, for whoever wants to know.
    pub bytes: Arc<AtomicU64>,
    /// The disk refuses, and that was said.
    pub refusing: Cell<bool>,
}

impl Ingest {
    /// Reads what the journal holds that no checkpoint does, then takes in what comes, until nobody can send any more.
    ///
    /// # Errors
    /// If the journal cannot be used.
    pub fn run(
        self,
        mut inbox: mpsc::Receiver<Message>,
        durable: &Durable,
    ) -> Result<(), JournalError> {
        let mut room = Encoded::default();
        let mut journal = Journal::open(
            &self.directory,
            self.most,
            durable.journal_next,
            |number, record| {
                if !durable.is_settled(number) {
                    self.recover(number, record, &mut room);
                }
            },
        )?;
        self.shared.lock().recovered();
        let (mut arrived, mut waiting) = (Vec::new(), VecDeque::new());
        loop {
            if waiting.is_empty() {
                if inbox.blocking_recv_many(&mut arrived, GROUP) == 0 {
                    return Ok(());
                }
                waiting.extend(arrived.drain(..));
            }
            journal.trim(self.floor.load(Relaxed));
            self.group(&mut waiting, &mut journal, &mut room);
            self.bytes.store(journal.bytes(), Relaxed);
            // Half full: what was settled since the last checkpoint could go.
            if journal.bytes() > journal.most() / 2 {
                self.shared.lock().checkpoint_wanted = true;
                self.shared.ready.notify_all();
            }
        }
    }

    /// A record that was acknowledged and is in no checkpoint.
    fn recover(&self, number: u64, record: &[u8], room: &mut Encoded) {
        let Some(Record {
            producer,
            epoch,
            seq,
            experience,
        }) = Record::read(record)
        else {
            tracing::error!(
                number,
                "a record of the journal is none: it was written by another version"
            );
            return;
        };
        let sent = Sent {
            producer: &producer,
            epoch,
            seq,
        };
        self.put(
            Source::Journal(number),
            Some(&sent),
            &experience,
            room,
            None,
        );
    }

    /// Puts a fragment into the book, when there is room: it, and that it was sent, in one step.
    fn put(
        &self,
        source: Source,
        sent: Option<&Sent<'_>>,
        experience: &Experience,
        room: &mut Encoded,
        trace: Option<&SpanContext>,
    ) {
        let mut book = self.shared.lock();
        while let Err(refused) = book.push(source, experience, &self.space, room, trace) {
            if !matches!(refused, Refused::Full { .. }) || book.stopping {
                // What is stopping finds it in the journal again.
                if !book.stopping {
                    tracing::error!(%refused, "a fragment that was accepted does not fit any more");
                }
                return;
            }
            self.shared.ready.notify_all();
            book = self.shared.wait(&self.shared.room, book);
        }
        if let Some(Sent {
            producer,
            epoch,
            seq,
        }) = sent
        {
            // What a checkpoint counts as waiting, it also counts as sent.
            if !matches!(
                book.producers.place(producer, *epoch, *seq),
                Ok(Place::Duplicate)
            ) {
                book.producers.accepted(producer, *epoch, *seq);
            }
        }
        if book.fragments.is_ready() {
            self.shared.ready.notify_all();
        }
    }

    /// Takes in as many messages as can be made durable together.
    fn group(&self, waiting: &mut VecDeque<Message>, journal: &mut Journal, room: &mut Encoded) {
        let (mut admitted, mut ahead) = (Vec::new(), Size::default());
        let mut producers: Vec<String> = Vec::new();
        while let Some(message) = waiting.pop_front() {
            match message {
                Message::Entry {
                    id,
                    fragment,
                    trace,
                    reply,
                } => {
                    let judged = self.entry(id, &fragment, ahead, trace.as_ref(), room);
                    // Nobody waits for an answer any more: then it is read again.
                    let _ = reply.send(judged);
                }
                Message::Batch { ref producer, .. } if producers.contains(producer) => {
                    // What it may send depends on what is not yet durable.
                    waiting.push_front(message);
                    break;
                }
                Message::Batch {
                    producer,
                    epoch,
                    seq,
                    fragments,
                    trace,
                    reply,
                } => match self.write(&producer, epoch, seq, &fragments, &mut ahead, journal, room)
                {
                    Ok(records) => {
                        producers.push(producer.clone());
                        admitted.push((producer, epoch, seq, fragments, trace, reply, records));
                    }
                    Err(refused) => {
                        let _ = reply.send(Err(refused));
                    }
                },
            }
        }
        let committed = journal
            .commit()
            .map_err(|error| NotAccepted::Disk(error.to_string()));
        // What had been accepted before is written nowhere, and says nothing of the disk.
        if admitted.iter().any(|(.., records)| !records.is_empty()) {
            self.tell(&committed);
        }
        for (producer, epoch, seq, fragments, trace, reply, records) in admitted {
            let answer = committed.clone().map(|()| {
                let mut accepted = Accepted {
                    transitions: 0,
                    duplicates: (fragments.len() - records.len()) as u64,
                };
                let first = fragments.len() - records.len();
                for ((at, record), fragment) in (first..).zip(records).zip(&fragments[first..]) {
                    let sent = Sent {
                        producer: &producer,
                        epoch,
                        seq: seq + at as u64,
                    };
                    self.put(
                        Source::Journal(record),
                        Some(&sent),
                        fragment,
                        room,
                        trace.as_ref(),
                    );
                    accepted.transitions += fragment.transitions() as u64;
                }
                accepted
            });
            let _ = reply.send(answer);
        }
    }

    /// Says that the disk refuses, once, and that it does not any more.
    fn tell(&self, committed: &Result<(), NotAccepted>) {
        let refused = self.refusing.replace(committed.is_err());
        match committed {
            Err(error) if !refused => {
                tracing::error!(agent = self.name, %error, "nothing is accepted until it can be");
            }
            Ok(()) if refused => {
                tracing::info!(agent = self.name, "experience can be made durable again");
            }
            _ => {}
        }
    }

    /// Puts an entry of the stream into the book, unless it is there.
    fn entry(
        &self,
        id: EntryId,
        fragment: &Experience,
        mut ahead: Size,
        trace: Option<&SpanContext>,
        room: &mut Encoded,
    ) -> Result<Accepted, NotAccepted> {
        if self.shared.lock().knows(id) {
            return Ok(Accepted {
                transitions: 0,
                duplicates: 1,
            });
        }
        self.admit([fragment], 0, &mut ahead, room)?;
        self.put(Source::Entry(id), None, fragment, room, trace);
        Ok(Accepted {
            transitions: fragment.transitions() as u64,
            duplicates: 0,
        })
    }

    /// Appends the new ones of these fragments to the journal, all or none, and gives their records.
    #[allow(
        clippy::too_many_arguments,
        reason = "a request and what it is written with"
    )]
    fn write(
        &self,
        producer: &str,
        epoch: u64,
        seq: u64,
        fragments: &[Experience],
        ahead: &mut Size,
        journal: &mut Journal,
        room: &mut Encoded,
    ) -> Result<Vec<u64>, NotAccepted> {
        let known = self.known(producer, epoch, seq, fragments.len())?;
        self.admit(&fragments[known..], known, ahead, room)?;
        let mark = journal.mark();
        let mut records = Vec::with_capacity(fragments.len() - known);
        for (at, fragment) in fragments.iter().enumerate().skip(known) {
            let appended =
                journal.append(|to| Record::write(to, producer, epoch, seq + at as u64, fragment));
            match appended {
                Ok(record) => records.push(record),
                Err(full) => {
                    journal.rewind(mark);
                    return Err(NotAccepted::Full(full.to_string()));
                }
            }
        }
        Ok(records)
    }

    /// How many of these, from the first on, were accepted before.
    fn known(
        &self,
        producer: &str,
        epoch: u64,
        seq: u64,
        count: usize,
    ) -> Result<usize, NotAccepted> {
        let book = self.shared.lock();
        for at in 0..count {
            let number = seq
                .checked_add(at as u64)
                .filter(|number| *number < u64::MAX)
                .ok_or_else(|| {
                    NotAccepted::Invalid(
                        "seq: expected a number that can be counted on from".to_owned(),
                    )
                })?;
            if book.producers.place(producer, epoch, number)? == Place::Next {
                return Ok(at);
            }
        }
        Ok(count)
    }

    /// Whether there is room for these behind what was admitted before them, which `ahead` is the size of.
    fn admit<'a>(
        &self,
        fragments: impl IntoIterator<Item = &'a Experience>,
        first: usize,
        ahead: &mut Size,
        room: &mut Encoded,
    ) -> Result<(), NotAccepted> {
        let mut book = self.shared.lock();
        if let Some(why) = book.closed.as_ref().or(book.guarded.as_ref()) {
            return Err(NotAccepted::Full(why.clone()));
        }
        if book.stopping {
            return Err(NotAccepted::Ending);
        }
        let mut size = *ahead;
        for (at, fragment) in fragments.into_iter().enumerate() {
            if fragment.version > book.version {
                return Err(NotAccepted::Invalid(format!(
                    "fragments[{}].policy_version: expected at most {}, the latest that was published, found {}",
                    first + at,
                    book.version,
                    fragment.version
                )));
            }
            let admitted = book
                .fragments
                .admits(size, &fragment.fragment(0, &self.space, room));
            size = size.plus(admitted.map_err(|refused| match refused {
                Refused::Full { .. } => {
                    // What waits may be all there is room for, and enough for an update then.
                    self.shared.ready.notify_all();
                    NotAccepted::Full(refused.to_string())
                }
                _ => NotAccepted::Invalid(format!("fragments[{}]: {refused}", first + at)),
            })?);
        }
        *ahead = size;
        Ok(())
    }
}

/// Who sent a fragment, and which of his it is.
struct Sent<'a> {
    producer: &'a str,
    epoch: u64,
    seq: u64,
}

/// A record of the journal: who sent it, and what.
struct Record {
    producer: String,
    epoch: u64,
    seq: u64,
    experience: Experience,
}

impl Record {
    fn write(to: &mut Vec<u8>, producer: &str, epoch: u64, seq: u64, experience: &Experience) {
        for number in [epoch, seq, producer.len() as u64] {
            to.extend(number.to_le_bytes());
        }
        to.extend(producer.as_bytes());
        experience.write(to);
    }

    fn read(mut from: &[u8]) -> Option<Self> {
        let (epoch, seq, length) = (u64_of(&mut from)?, u64_of(&mut from)?, u64_of(&mut from)?);
        let (producer, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Self {
            producer: String::from_utf8(producer.to_vec()).ok()?,
            epoch,
            seq,
            experience: Experience::read(rest)?,
        })
    }
}
