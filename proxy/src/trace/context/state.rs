//! `tracestate`: what tracing systems tell each other about a trace, as an ordered list of `key=value`.
//!
//! A list that breaks the grammar is discarded whole; the `traceparent` beside it stays valid. Two things are no faults:
//! empty members, which carry nothing and are dropped, and a key that comes again. Level 2 makes unique keys the duty of
//! whoever writes the list, and lets those who pass it on drop the repetition; we keep the first, which is the latest.

use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// List members at most, by the grammar.
const MAX_MEMBERS: usize = 32;
/// Characters of a key at most, and of a value, by the grammar.
const MAX_CHARACTERS: usize = 256;
/// Characters that we pass on at most: what the standard asks everyone to carry at least. It also bounds what a stored
/// context holds in memory.
const MAX_PROPAGATED: usize = 512;
/// When a list is too long to be passed on, members longer than this go first.
const LONG_MEMBER: usize = 128;
/// Bytes that are looked at, at most: twice what the longest list (32 members of 513 characters) can fill. What is
/// longer consists of white space and empty members, and was not made by a tracing system.
const MAX_READ: usize = 32 * 1024;

/// A valid `tracestate`, short enough to be passed on, without white space around its members. Cheap to clone, and free
/// when empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// Nothing to write.
    pub const NONE: Self = Self(None);

    /// The value of the field; empty if there is none to write.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a member at the front, or moves it there with its new value; the last of 32 others drops off. False, and
    /// nothing is changed, if key or value break the grammar.
    ///
    /// The proxy adds no member of its own. This is for tracing systems that do, and for the table test that shows the
    /// standard's rules for changing a list to hold.
    pub fn insert(&mut self, key: &str, value: &str) -> bool {
        let added = format!("{key}={value}");
        let mut list = List::default();
        // A value that ends in a space would be read back without it, so it is not accepted here either.
        if value.ends_with(' ') || list.push(added.as_bytes()).is_none() {
            return false;
        }
        let others = self
            .as_str()
            .split(',')
            .filter(|member| !has_key(member, key));
        for member in others.take(MAX_MEMBERS - 1) {
            // Fails for an empty state only, whose one "member" is empty.
            list.push(member.as_bytes());
        }
        *self = list.finish();
        true
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Reads a `tracestate` from one value or several, joined in their order. Empty if there is none, or if it is invalid.
///
/// Without a valid `traceparent` beside it a `tracestate` means nothing and must not be read.
#[must_use]
pub fn parse_tracestate<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> TraceState {
    let mut list = List::default();
    let mut read = 0;
    for value in values {
        read += value.len();
        if read > MAX_READ {
            return TraceState::default();
        }
        for member in value.split(|&byte| byte == b',').map(trim) {
            if !member.is_empty() && list.push(member).is_none() {
                return TraceState::default();
            }
        }
    }
    list.finish()
}

/// The members of a list while it is put together.
#[derive(Default)]
struct List<'a> {
    members: Vec<&'a str>,
    /// Members that repeat a key: not kept, but they count.
    repeated: usize,
}

impl<'a> List<'a> {
    /// Adds a member at the end, unless its key is there. `None` if it breaks the grammar, or if the list is full.
    fn push(&mut self, member: &'a [u8]) -> Option<()> {
        let member = str::from_utf8(member).ok()?;
        let (key, value) = member.split_once('=')?;
        let full = self.members.len() + self.repeated == MAX_MEMBERS;
        if full || !is_key(key.as_bytes()) || !is_value(value.as_bytes()) {
            return None;
        }
        if self.members.iter().any(|other| has_key(other, key)) {
            self.repeated += 1;
        } else {
            self.members.push(member);
        }
        Some(())
    }

    /// The list as it is passed on.
    fn finish(mut self) -> TraceState {
        // Each member with a comma; the last comma is not written.
        let mut length: usize = self.members.iter().map(|member| member.len() + 1).sum();
        while length > MAX_PROPAGATED + 1 {
            let last_long = self
                .members
                .iter()
                .rposition(|member| member.len() > LONG_MEMBER);
            // The list is not empty: it is too long.
            let dropped = self
                .members
                .remove(last_long.unwrap_or(self.members.len() - 1));
            length -= dropped.len() + 1;
        }
        TraceState((!self.members.is_empty()).then(|| self.members.join(",").into()))
    }
}

fn has_key(member: &str, key: &str) -> bool {
    member
        .strip_prefix(key)
        .is_some_and(|rest| rest.starts_with('='))
}

/// Without the optional white space around it: spaces and tabs, nothing else.
fn trim(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

fn is_key(key: &[u8]) -> bool {
    matches!(key, [b'a'..=b'z' | b'0'..=b'9', ..])
        && key.len() <= MAX_CHARACTERS
        && key.iter().all(
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'),
        )
}

/// Trailing spaces have been trimmed off.
fn is_value(value: &[u8]) -> bool {
    (1..=MAX_CHARACTERS).contains(&value.len())
        && value
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
}
