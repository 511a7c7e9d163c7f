//! What a short reply says of the request it answers.

use super::settlement::{refused_settlement, settled};
use super::{Replies, Subscriptions};
use crate::greeting::Stage;
use crate::inflight::Op;
use crate::request::Context;
use crate::request::scan::number_line;
use crate::streams::Stream;
use crate::trace::span::{EntryId, Outcome};

impl Replies {
    /// Any answer but an error shows that the server takes commands from this connection; `-NOAUTH` that it would not
    /// from a new one.
    pub(super) fn prove(&mut self, buf: &[u8], cx: &mut Context) {
        if cx.authenticated {
            return;
        }
        if buf.starts_with(b"-NOAUTH") || buf.starts_with(b"-ERR Protocol error: unauth") {
            cx.destination.upstream.set_open(false);
        } else if buf.first() != Some(&b'-')
            && !matches!(
                cx.inflight.front(),
                None | Some(Op::Reset | Op::ReplyOff | Op::ReplySkip | Op::Raw(_))
            )
        {
            cx.authenticated = true;
            // A message was taken, and nobody had authenticated: a server that is not watched is known by that alone.
            if matches!(cx.inflight.front(), Some(Op::Send(_) | Op::Count(_))) {
                cx.destination.upstream.set_open(true);
            }
        }
    }

    /// A short reply is whole.
    pub(super) fn answered(&mut self, op: Op, reply: &[u8], cx: &mut Context) {
        let error = error_code(reply);
        match op {
            Op::Send(mut send) => {
                send.span.end = cx.now.get().max(send.span.start);
                send.span.outcome = match (error, bulk_id(reply)) {
                    (Some(code), _) => Outcome::Error(code.into()),
                    (None, Some(id)) => {
                        send.span.message = Some(id);
                        send.stream.sent.inc();
                        Outcome::Done
                    }
                    (None, None) => Outcome::NotSent,
                };
                cx.worker.finish(send.span);
            }
            Op::Count(stream) => accepted(&stream, reply),
            Op::Settle(settle) if error.is_none() => settled(&settle, reply, cx),
            Op::Settle(settle) => refused_settlement(&settle, cx),
            Op::Auth => cx.authenticated |= error.is_none(),
            Op::Multi if error.is_none() => self.transaction = Some(Box::default()),
            Op::Discard if error.is_none() => self.end_transaction(cx),
            Op::Select(database) if error.is_none() => cx.database = database,
            Op::Reset if error.is_none() => {
                self.end_transaction(cx);
                self.resp3 = false;
                self.subscriptions = Subscriptions::default();
                cx.database = 0;
                cx.authenticated = false;
                if cx.greeting == Stage::Resetting {
                    cx.greeting = Stage::Due;
                }
            }
            Op::Reset if cx.greeting == Stage::Resetting => cx.greeting = Stage::Agreed,
            _ => {}
        }
    }
}

/// Counts a message that is in the stream now: an id says so, and no nil.
#[inline]
pub(super) fn accepted(stream: &Stream, reply: &[u8]) {
    if matches!(reply, [b'$', b'0'..=b'9', ..]) {
        stream.sent.inc();
    }
}

/// Whether an error says that the command itself was refused, and not that it failed; none while that cannot be told.
pub(super) fn refused(buf: &[u8]) -> Option<bool> {
    pub(super) const REFUSALS: [&[u8]; 9] = [
        b"-NOPERM",
        b"-NOAUTH",
        b"-ERR unknown",
        // Of a RESP2 connection with subscriptions.
        b"-ERR Can't execute",
        // Valkey's, of a transaction that a refused DISCARD has not ended.
        b"-ERR Command 'client|reply' not allowed",
        b"-ERR Command not allowed inside",
        b"-BUSY",
        b"-LOADING",
        b"-MASTERDOWN",
    ];
    if REFUSALS.iter().any(|start| buf.starts_with(start)) {
        return Some(true);
    }
    let incomplete = REFUSALS.iter().any(|start| start.starts_with(buf));
    (!incomplete).then_some(false)
}

/// The error code, `WRONGTYPE` of `-WRONGTYPE Operation against …`, if the reply is an error.
pub(crate) fn error_code(reply: &[u8]) -> Option<&str> {
    let text = match reply.split_first()? {
        (b'-', text) => text,
        (b'!', text) => text.get(memchr::memchr(b'\n', text)? + 1..)?,
        _ => return None,
    };
    /// Codes are short words; a longer one is not a code.
    pub(super) const MAX_CODE_BYTES: usize = 32;
    let end = text
        .iter()
        .position(|b| !b.is_ascii_uppercase() && !b.is_ascii_digit() && *b != b'_')?;
    Some(
        text.get(..end)
            .filter(|code| !code.is_empty() && code.len() <= MAX_CODE_BYTES)
            .and_then(|code| std::str::from_utf8(code).ok())
            .unwrap_or("ERR"),
    )
}

/// The ID in a reply to XADD.
pub(super) fn bulk_id(reply: &[u8]) -> Option<EntryId> {
    let (length, line) = number_line(reply, b'$').ok()??;
    EntryId::parse(reply.get(line..line + usize::try_from(length).ok()?)?)
}
