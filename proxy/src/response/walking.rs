//! A reply with entries, on the way through it.

use std::sync::Arc;

use super::entries::{self, Step, Walk};
use super::{Replies, Stage};
use crate::chunk::Chunk;
use crate::infer::Latest;
use crate::inflight::{Again, Deliver, Reader};
use crate::request::{Context, Raw};

impl Replies {
    /// Goes on in a reply with entries. False if more bytes are needed.
    pub(super) fn walk(
        &mut self,
        mut deliver: Box<Deliver>,
        mut walk: Walk,
        chunk: &Chunk<'_>,
        consumed: &mut usize,
        cx: &mut Context,
    ) -> Result<bool, Raw> {
        let buf = chunk.bytes().get(*consumed..).unwrap_or_default();
        match walk.step(buf)? {
            Step::More => {
                let limit = cx.worker.shared.config.limits.max_message_bytes;
                if buf.len() > limit || !cx.held_down.covers(buf.len()) {
                    // A key as long as that: the reply passes unread.
                    self.skim.start_many(walk.remaining());
                    self.stage = Stage::Rest(deliver);
                    return Ok(true);
                }
                self.stage = Stage::Walk(deliver, walk);
                return Ok(false);
            }
            Step::Pass(n) => {
                *consumed += n;
                self.stage = Stage::Walk(deliver, walk);
            }
            Step::Key(n, key) => {
                if deliver.shape == entries::Shape::Streams {
                    self.close_batch(&mut deliver, cx);
                    let key = buf.get(key).unwrap_or_default();
                    deliver.stream = Some((key.into(), cx.worker.streams.get(key)));
                }
                *consumed += n;
                self.stage = Stage::Walk(deliver, walk);
            }
            Step::Entry => {
                self.skim.start();
                self.stage = Stage::Entry(deliver, walk);
            }
            Step::Finish(0) => self.walked(&mut deliver, cx),
            Step::Finish(left) => {
                self.skim.start_many(left);
                self.stage = Stage::Rest(deliver);
            }
        }
        Ok(true)
    }

    /// A reply with entries is over.
    pub(super) fn walked(&mut self, deliver: &mut Deliver, cx: &mut Context) {
        self.close_batch(deliver, cx);
        if let Some(latest) = deliver.seen.take() {
            let count = deliver.messages;
            self.delivered.push(Latest { count, ..latest });
        }
    }
}

/// Whether a message was delivered before, as far as the request tells.
pub(crate) fn in_history(again: &Again, key: &[u8]) -> bool {
    match again {
        Again::New { history } => history.iter().any(|read| **read == *key),
        Again::Claimed(_) => true,
    }
}

/// A group, or its absence, as the metrics name it.
pub(crate) fn group_label(reader: &Reader) -> Arc<str> {
    match reader {
        Reader::Process(member, _) | Reader::Receive(Some(member)) => member.group_name.clone(),
        Reader::Receive(None) | Reader::Range => "".into(),
    }
}
