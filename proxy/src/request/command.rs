//! What a command is, as far as framing and traces go.

/// Commands that change how replies are framed or that carry messages; all others are [`Kind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One command, one reply, no meaning here.
    Other,
    /// XADD
    Xadd,
    /// XREAD
    Xread,
    /// XREADGROUP
    Xreadgroup,
    /// XCLAIM
    Xclaim,
    /// XAUTOCLAIM
    Xautoclaim,
    /// XRANGE, XREVRANGE
    Xrange,
    /// XACK
    Xack,
    /// XACKDEL
    Xackdel,
    /// XNACK
    Xnack,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE
    Subscribe(Channels),
    /// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE
    Unsubscribe(Channels),
    /// HELLO
    Hello,
    /// AUTH
    Auth,
    /// RESET
    Reset,
    /// SELECT
    Select,
    /// CLIENT, of which only CLIENT REPLY matters
    Client,
    /// CLUSTER, of which only CLUSTER SYNCSLOTS matters
    Cluster,
    /// MONITOR: from here on the server speaks when it likes
    Monitor,
    /// SYNC, PSYNC, REPLCONF: a replica
    Replication,
    /// `POST`, `Host:`: the server takes it for an attack and closes
    Http,
}

/// The three kinds of subscriptions, which are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// SUBSCRIBE
    Plain,
    /// PSUBSCRIBE
    Pattern,
    /// SSUBSCRIBE
    Shard,
}

impl Kind {
    /// Classifies a command's name, in any case.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        // The common ones first: a GET is told from all others by its length and first letter.
        let Some(first) = name.first().map(u8::to_ascii_uppercase) else {
            return Self::Other;
        };
        // Without the bit that tells the cases apart, a byte equals a capital letter only if it is that letter.
        let differ = |(byte, letter): (&u8, &u8)| (byte ^ letter) & !0x20;
        let is = |word: &[u8]| {
            if let (Ok(name), Ok(word)) = (<[u8; 4]>::try_from(name), <[u8; 4]>::try_from(word)) {
                let differ = u32::from_ne_bytes(name) ^ u32::from_ne_bytes(word);
                return differ & !0x2020_2020 == 0;
            }
            name.iter()
                .zip(word)
                .map(differ)
                .fold(0, |all, one| all | one)
                == 0
        };
        match (first, name.len()) {
            (b'X', 4) if is(b"XADD") => Self::Xadd,
            (b'X', 4) if is(b"XACK") => Self::Xack,
            (b'X', 5) if is(b"XREAD") => Self::Xread,
            (b'X', 5) if is(b"XNACK") => Self::Xnack,
            (b'X', 6) if is(b"XCLAIM") => Self::Xclaim,
            (b'X', 6) if is(b"XRANGE") => Self::Xrange,
            (b'X', 7) if is(b"XACKDEL") => Self::Xackdel,
            (b'X', 9) if is(b"XREVRANGE") => Self::Xrange,
            (b'X', 10) if is(b"XREADGROUP") => Self::Xreadgroup,
            (b'X', 10) if is(b"XAUTOCLAIM") => Self::Xautoclaim,
            (b'A', 4) if is(b"AUTH") => Self::Auth,
            (b'C', 6) if is(b"CLIENT") => Self::Client,
            (b'C', 7) if is(b"CLUSTER") => Self::Cluster,
            (b'D', 7) if is(b"DISCARD") => Self::Discard,
            (b'E', 4) if is(b"EXEC") => Self::Exec,
            (b'H', 5) if is(b"HELLO") => Self::Hello,
            (b'H', 5) if name.eq_ignore_ascii_case(b"HOST:") => Self::Http,
            (b'M', 5) if is(b"MULTI") => Self::Multi,
            (b'M', 7) if is(b"MONITOR") => Self::Monitor,
            (b'P', 4) if is(b"POST") => Self::Http,
            (b'P', 5) if is(b"PSYNC") => Self::Replication,
            (b'P', 10) if is(b"PSUBSCRIBE") => Self::Subscribe(Channels::Pattern),
            (b'P', 12) if is(b"PUNSUBSCRIBE") => Self::Unsubscribe(Channels::Pattern),
            (b'R', 5) if is(b"RESET") => Self::Reset,
            (b'R', 8) if is(b"REPLCONF") => Self::Replication,
            (b'S', 4) if is(b"SYNC") => Self::Replication,
            (b'S', 6) if is(b"SELECT") => Self::Select,
            (b'S', 9) if is(b"SUBSCRIBE") => Self::Subscribe(Channels::Plain),
            (b'S', 10) if is(b"SSUBSCRIBE") => Self::Subscribe(Channels::Shard),
            (b'S', 12) if is(b"SUNSUBSCRIBE") => Self::Unsubscribe(Channels::Shard),
            (b'U', 11) if is(b"UNSUBSCRIBE") => Self::Unsubscribe(Channels::Plain),
            _ => Self::Other,
        }
    }

    /// Whether the arguments must be seen, and the command therefore held until it is whole.
    #[inline]
    #[must_use]
    pub fn needs_arguments(self) -> bool {
        matches!(
            self,
            Self::Xadd
                | Self::Xread
                | Self::Xreadgroup
                | Self::Xclaim
                | Self::Xautoclaim
                | Self::Xrange
                | Self::Xack
                | Self::Xackdel
                | Self::Xnack
                | Self::Select
                | Self::Client
                | Self::Cluster
        )
    }

    /// Whether the command changes the framing of replies or the state of the connection.
    #[must_use]
    pub fn changes_state(self) -> bool {
        matches!(
            self,
            Self::Multi
                | Self::Exec
                | Self::Discard
                | Self::Subscribe(_)
                | Self::Unsubscribe(_)
                | Self::Hello
                | Self::Auth
                | Self::Reset
                | Self::Select
        )
    }

    /// The family that it is counted in.
    #[inline]
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Other | Self::Http | Self::Cluster => Family::Other,
            Self::Xadd => Family::Xadd,
            Self::Xread => Family::Xread,
            Self::Xreadgroup => Family::Xreadgroup,
            Self::Xclaim => Family::Xclaim,
            Self::Xautoclaim => Family::Xautoclaim,
            Self::Xrange => Family::Xrange,
            Self::Xack => Family::Xack,
            Self::Xackdel => Family::Xackdel,
            Self::Xnack => Family::Xnack,
            Self::Multi | Self::Exec | Self::Discard => Family::Transaction,
            Self::Subscribe(_) | Self::Unsubscribe(_) => Family::Pubsub,
            Self::Hello | Self::Auth | Self::Reset | Self::Select | Self::Client => {
                Family::Connection
            }
            Self::Monitor => Family::Monitor,
            Self::Replication => Family::Replication,
        }
    }
}

/// A label of `tars_proxy_commands_total`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Other,
    Xadd,
    Xread,
    Xreadgroup,
    Xclaim,
    Xautoclaim,
    Xrange,
    Xack,
    Xackdel,
    Xnack,
    Transaction,
    Pubsub,
    Connection,
    Monitor,
    Replication,
}

impl Family {
    /// The labels, in the order of the families.
    pub const LABELS: [&str; 15] = [
        "other",
        "xadd",
        "xread",
        "xreadgroup",
        "xclaim",
        "xautoclaim",
        "xrange",
        "xack",
        "xackdel",
        "xnack",
        "transaction",
        "pubsub",
        "connection",
        "monitor",
        "replication",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_nothing_else_is() {
        assert_eq!(Kind::of(b"xAdD"), Kind::Xadd);
        assert_eq!(Kind::of(b"XREADGROUP"), Kind::Xreadgroup);
        assert_eq!(Kind::of(b"psubscribe"), Kind::Subscribe(Channels::Pattern));
        assert_eq!(
            Kind::of(b"sunsubscribe"),
            Kind::Unsubscribe(Channels::Shard)
        );
        for other in [
            &b""[..],
            b"GET",
            b"XADDX",
            b"XAD",
            b"XDEL",
            b"\0\0\0\0",
            b"SELECTS",
            b"XAD\x24",
            b"HOST\x1a",
        ] {
            assert_eq!(Kind::of(other), Kind::Other, "{other:?}");
        }
    }
}
