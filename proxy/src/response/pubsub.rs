//! Subscriptions: what the server says of them, and how many there are.

use crate::request::command::Channels;
use crate::request::scan::{Foreign, number_line};

/// What the server says of a subscription, in RESP2 as an array, in RESP3 as a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// `message`, `pmessage`, `smessage`
    Message,
    /// `subscribe`, `unsubscribe` and their kin.
    Acknowledge {
        /// Of which kind.
        channels: Channels,
        /// Or unsubscribed.
        subscribed: bool,
    },
    /// Something else: in RESP3 an invalidation, in RESP2 a reply.
    Other,
}

/// Looks at the first element of an array or a push. None while it is incomplete.
///
/// # Errors
/// [`Foreign`] for bytes that are not RESP.
pub fn classify(buf: &[u8]) -> Result<Option<Push>, Foreign> {
    /// `punsubscribe`
    const MAX_WORD: usize = 12;
    let Some(&marker) = buf.first() else {
        return Ok(None);
    };
    let Some((count, line)) = number_line(buf, marker)? else {
        return Ok(None);
    };
    let rest = buf.get(line..).unwrap_or_default();
    if count < 3 {
        return Ok(Some(Push::Other));
    }
    match rest.first() {
        None => return Ok(None),
        Some(b'$') => {}
        Some(_) => return Ok(Some(Push::Other)),
    }
    let Some((length, start)) = number_line(rest, b'$')? else {
        return Ok(None);
    };
    let Some(length) = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_WORD)
    else {
        return Ok(Some(Push::Other));
    };
    let Some(word) = rest.get(start..start + length) else {
        return Ok(None);
    };
    let acknowledge = |channels, subscribed| Push::Acknowledge {
        channels,
        subscribed,
    };
    Ok(Some(match word {
        b"message" | b"pmessage" | b"smessage" => Push::Message,
        b"subscribe" => acknowledge(Channels::Plain, true),
        b"psubscribe" => acknowledge(Channels::Pattern, true),
        b"ssubscribe" => acknowledge(Channels::Shard, true),
        b"unsubscribe" => acknowledge(Channels::Plain, false),
        b"punsubscribe" => acknowledge(Channels::Pattern, false),
        b"sunsubscribe" => acknowledge(Channels::Shard, false),
        _ => Push::Other,
    }))
}

/// The number at the end of an acknowledgement.
#[must_use]
pub fn count(reply: &[u8]) -> Option<u64> {
    let start = reply.iter().rposition(|b| *b == b':')?;
    let (count, _) = number_line(reply.get(start..)?, b':').ok()??;
    u64::try_from(count).ok()
}

/// How many subscriptions a connection has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscriptions {
    plain: u64,
    pattern: u64,
    shard: u64,
}

impl Subscriptions {
    /// Whether there is any: then a RESP2 connection hears messages between its replies.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.plain + self.pattern + self.shard > 0
    }

    /// Of this kind.
    #[must_use]
    pub fn of(&self, channels: Channels) -> u64 {
        match channels {
            Channels::Plain => self.plain,
            Channels::Pattern => self.pattern,
            Channels::Shard => self.shard,
        }
    }

    /// An acknowledgement told the count: of channels and patterns together, or of shard channels.
    pub fn update(&mut self, channels: Channels, count: u64) {
        match channels {
            Channels::Plain => self.plain = count.saturating_sub(self.pattern),
            Channels::Pattern => self.pattern = count.saturating_sub(self.plain),
            Channels::Shard => self.shard = count,
        }
    }
}
