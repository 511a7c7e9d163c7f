//! Commands that change what follows: transactions, subscriptions, the protocol, and who gets replies at all.

use super::command::Kind;
use super::{Context, Raw, ReplyMode, Requests, is_full};
use crate::greeting::Stage;
use crate::inflight::{FIXED_BYTES, Op};

/// `HELLO 3 AUTH user password`: a HELLO with fewer arguments holds no password.
const HELLO_AUTH_ARGUMENTS: u32 = 5;

impl Requests {
    pub(super) fn state_command(
        &mut self,
        kind: Kind,
        argc: u32,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        // How these are answered while replies are off differs between versions: who does that is on his own.
        if kind.changes_state() && self.replies != ReplyMode::On {
            return Err(Raw("state_while_replies_off"));
        }
        if kind.changes_state() && is_full(cx, FIXED_BYTES) {
            return Err(Raw("pending_replies"));
        }
        // From Redis 7.2 on, a wrong password has no answer at all while there are replies to be sent before it.
        let password = kind == Kind::Auth || (kind == Kind::Hello && argc >= HELLO_AUTH_ARGUMENTS);
        if password && (self.multi || !cx.inflight.is_empty()) {
            return Err(Raw("password_in_pipeline"));
        }
        match kind {
            Kind::Multi => {
                self.multi |= argc == 1;
                cx.inflight.push(Op::Multi);
            }
            Kind::Exec => {
                self.multi &= argc != 1;
                cx.inflight.push(Op::Exec);
            }
            Kind::Discard => {
                self.multi &= argc != 1;
                cx.inflight.push(Op::Discard);
            }
            Kind::Reset => {
                self.multi &= argc != 1;
                self.database = cx.destination.database();
                if cx.destination.greeting.is_some() {
                    cx.greeting = Stage::Resetting;
                }
                cx.inflight.push(Op::Reset);
            }
            Kind::Hello => cx.inflight.push(Op::Hello),
            Kind::Auth => cx.inflight.push(Op::Auth),
            Kind::Subscribe(_) | Kind::Unsubscribe(_) if self.multi => {
                return Err(Raw("subscribe_in_multi"));
            }
            Kind::Subscribe(channels) => cx
                .inflight
                .push(Op::Subscribe(channels, argc.saturating_sub(1).max(1))),
            Kind::Unsubscribe(channels) => cx
                .inflight
                .push(Op::Unsubscribe(channels, argc.saturating_sub(1))),
            Kind::Monitor => return Err(Raw("monitor")),
            Kind::Replication => return Err(Raw("replication")),
            Kind::Http => return Err(Raw("http")),
            _ => self.expect_plain(cx),
        }
        Ok(())
    }

    /// CLIENT, of which CLIENT REPLY matters.
    pub(super) fn client(
        &mut self,
        subcommand: &[u8],
        mode: Option<&[u8]>,
        argc: usize,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let mode = mode.filter(|_| argc == 3 && subcommand.eq_ignore_ascii_case(b"REPLY"));
        let Some(mode) = mode else {
            self.expect_plain(cx);
            return Ok(());
        };
        if self.multi {
            return Err(Raw("client_reply_in_multi"));
        }
        if is_full(cx, FIXED_BYTES) {
            return Err(Raw("pending_replies"));
        }
        if mode.eq_ignore_ascii_case(b"ON") {
            // Its own reply comes in any case, also as the command that is skipped: but there versions differ.
            if self.replies == ReplyMode::SkipNext {
                return Err(Raw("client_reply_after_skip"));
            }
            self.replies = ReplyMode::On;
            cx.inflight.push_plain();
        } else if mode.eq_ignore_ascii_case(b"OFF") {
            if self.replies != ReplyMode::Off {
                cx.inflight.push(Op::ReplyOff);
            }
            self.replies = ReplyMode::Off;
        } else if mode.eq_ignore_ascii_case(b"SKIP") {
            // While replies are off it does nothing.
            match self.replies {
                ReplyMode::Off => {}
                ReplyMode::SkipNext => return Err(Raw("client_reply_after_skip")),
                ReplyMode::On => {
                    cx.inflight.push(Op::ReplySkip);
                    self.replies = ReplyMode::SkipNext;
                }
            }
        } else {
            self.expect_plain(cx);
        }
        Ok(())
    }

    /// CLUSTER, of which CLUSTER SYNCSLOTS matters: between two nodes of a Cluster that move a slot (Valkey 9, Redis 8.4). What
    /// follows is a stream of commands, as a replica gets it, that nobody answers; its messages are to arrive as they are.
    pub(super) fn cluster(&mut self, subcommand: &[u8], cx: &mut Context) -> Result<(), Raw> {
        if subcommand.eq_ignore_ascii_case(b"SYNCSLOTS") {
            return Err(Raw("replication"));
        }
        self.expect_plain(cx);
        Ok(())
    }
}
