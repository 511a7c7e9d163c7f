//! What the proxy says to a server first, for clients that were given a URL without user, password and database: AUTH and
//! SELECT (ADR 0013), at the beginning of a connection and again after RESET.
//!
//! Until the server has agreed nothing of the client's passes, so that nothing is ever done with other rights, or in another
//! database, than the URL says. Its answers are kept from the client, but for a refusal: that is the last thing the client hears.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::Chunk;
use crate::config::Login;
use crate::error::Outbreak;
use crate::request::Context;

/// An answer to AUTH or SELECT is a short line. What is longer is none.
const MAX_ANSWER: usize = 4096;

/// Of Redis and Valkey whose default user needs no password: who comes with one is that user all the same.
const NEEDLESS: &[u8] = b"-ERR AUTH <password> called without any password";

/// What is said on each connection of a listener.
pub struct Greeting {
    bytes: Box<[u8]>,
    /// Whether the first command is AUTH.
    auth: bool,
    /// The database of SELECT, which comes last.
    database: u32,
    refused: Outbreak,
    needless: AtomicBool,
}

/// How far a connection has got with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is nothing to say, or the server has agreed to it.
    #[default]
    Over,
    /// RESET was sent, and has no answer yet.
    Resetting,
    /// It is to be said now.
    Due,
    /// So many answers are still to come.
    Said(u8),
    /// The last answer has just come: what the client has sent meanwhile may pass.
    Agreed,
    /// The server does not agree.
    Refused,
}

impl Greeting {
    /// None if there is nothing to say: nobody to authenticate, and the database is that of a new connection.
    #[must_use]
    pub fn new(login: &Login) -> Option<Self> {
        let mut bytes = Vec::new();
        if let Some(password) = &login.password {
            match login.user.as_slice() {
                b"" => command(&mut bytes, &[b"AUTH", password]),
                user => command(&mut bytes, &[b"AUTH", user, password]),
            }
        }
        if login.database != 0 {
            command(
                &mut bytes,
                &[b"SELECT", login.database.to_string().as_bytes()],
            );
        }
        (!bytes.is_empty()).then(|| Self {
            bytes: bytes.into(),
            auth: login.password.is_some(),
            database: login.database,
            refused: Outbreak::new(),
            needless: AtomicBool::new(false),
        })
    }

    /// What is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The database that a connection is in afterwards.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    /// Where a connection is when this has been sent.
    #[must_use]
    pub fn said(&self) -> Stage {
        Stage::Said(u8::from(self.auth) + u8::from(self.database != 0))
    }

    /// Takes the answers out of what the server says.
    pub fn hear(&self, chunk: &mut Chunk<'_>, cx: &mut Context, consumed: &mut usize) {
        *consumed = 0;
        while let Stage::Said(left) = cx.greeting {
            let rest = chunk.bytes().get(*consumed..).unwrap_or_default();
            let line = memchr::memchr(b'\n', rest).map(|end| end + 1);
            let is_auth = self.auth && self.said() == cx.greeting;
            let agreed = match (rest.first(), line) {
                (None, _) => return,
                (Some(b'+'), Some(_)) => true,
                (Some(b'-'), Some(end)) if is_auth => {
                    self.is_needless(rest.get(..end).unwrap_or_default(), cx)
                }
                (Some(b'+' | b'-'), None) if rest.len() < MAX_ANSWER => return,
                _ => false,
            };
            let end = line.map_or(rest.len(), |end| end) + *consumed;
            if !agreed {
                self.refuse(rest, is_auth, cx);
                // Of all that follows, nothing is for the client.
                let all = chunk.bytes().len();
                chunk.splice(end..all, b"");
                *consumed = all;
                cx.greeting = Stage::Refused;
                return;
            }
            match is_auth {
                true => cx.authenticated = true,
                false => cx.database = self.database,
            }
            chunk.splice(*consumed..end, b"");
            *consumed = end;
            cx.greeting = match left {
                0 | 1 => Stage::Agreed,
                left => Stage::Said(left - 1),
            };
        }
    }

    fn is_needless(&self, answer: &[u8], cx: &Context) -> bool {
        let needless = answer.starts_with(NEEDLESS);
        if needless && !self.needless.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                upstream = cx.destination.upstream.name(), listen = %cx.listener.address,
                "the URL has a password, and the server wants none; it is used without"
            );
        }
        needless
    }

    #[cold]
    fn refuse(&self, answer: &[u8], is_auth: bool, cx: &Context) {
        cx.worker.shared.metrics.error("server");
        if self.refused.begins() {
            let command = if is_auth { "AUTH" } else { "SELECT" };
            // Not the whole sentence: in it there may be the user's name.
            let error = crate::response::error_code(answer).unwrap_or("no answer of Redis");
            tracing::warn!(
                upstream = cx.destination.upstream.name(), listen = %cx.listener.address, command, error,
                "the server refuses what the URL says; its clients are told so, and closed, until it agrees"
            );
        }
    }
}

fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{}\r\n", args.len());
    for arg in args {
        let _ = write!(out, "${}\r\n", arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
