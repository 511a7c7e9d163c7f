//! The arguments of the commands that read, claim and settle messages, as `t_stream.c` reads them.
//!
//! None means that the server will refuse the command: there is nothing to follow.

use super::scan::Span32;
use crate::trace::span::EntryId;

/// XREAD or XREADGROUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    /// Group and consumer of XREADGROUP.
    pub group: Option<(&'a [u8], &'a [u8])>,
    /// NOACK: delivered is settled.
    pub noack: bool,
    /// Index of the first key; as many IDs follow the keys.
    pub keys: usize,
    /// Number of keys.
    pub count: usize,
}

/// Reads `XREAD [COUNT n] [MAXCOUNT n] [MAXSIZE n] [BLOCK ms] STREAMS key … id …`, and XREADGROUP, which also has `GROUP g c`,
/// `CLAIM ms` and `NOACK`.
#[must_use]
pub fn read<'a>(buf: &'a [u8], args: &[Span32], grouped: bool) -> Option<Read<'a>> {
    let arg = |i: usize| args.get(i).map(|a| a.of(buf));
    let mut i = 1;
    let mut group = None;
    let mut noack = false;
    loop {
        let option = arg(i)?;
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        if is(b"STREAMS") {
            let keys = i + 1;
            let count = args.len().checked_sub(keys)?;
            if count == 0 || !count.is_multiple_of(2) || grouped != group.is_some() {
                return None;
            }
            return Some(Read {
                group,
                noack,
                keys,
                count: count / 2,
            });
        } else if is(b"GROUP") && grouped {
            group = Some((arg(i + 1)?, arg(i + 2)?));
            i += 3;
        } else if is(b"NOACK") && grouped {
            noack = true;
            i += 1;
        } else if is(b"COUNT")
            || is(b"MAXCOUNT")
            || is(b"MAXSIZE")
            || is(b"BLOCK")
            || (grouped && is(b"CLAIM"))
        {
            i += 2;
        } else {
            return None;
        }
    }
}

/// XCLAIM or XAUTOCLAIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The stream's key.
    pub key: &'a [u8],
    /// The group.
    pub group: &'a [u8],
    /// The consumer that takes over.
    pub consumer: &'a [u8],
    /// JUSTID: ids only, no delivery.
    pub justid: bool,
    /// RETRYCOUNT: the delivery count that XCLAIM sets.
    pub retry_count: Option<u32>,
}

/// Reads `XCLAIM key group consumer min-idle id … [option …]` or `XAUTOCLAIM key group consumer min-idle start [option …]`.
#[must_use]
pub fn claim<'a>(buf: &'a [u8], args: &[Span32]) -> Option<Claim<'a>> {
    let arg = |i: usize| args.get(i).map(|a| a.of(buf));
    let (key, group, consumer) = (arg(1)?, arg(2)?, arg(3)?);
    arg(5)?;
    let mut justid = false;
    let mut retry_count = None;
    let mut i = 5;
    while let Some(option) = arg(i) {
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        if is(b"JUSTID") {
            justid = true;
        } else if is(b"RETRYCOUNT") {
            i += 1;
            retry_count = std::str::from_utf8(arg(i)?).ok()?.parse().ok();
        } else if is(b"IDLE") || is(b"TIME") || is(b"LASTID") || is(b"COUNT") {
            i += 1;
        }
        i += 1;
    }
    Some(Claim {
        key,
        group,
        consumer,
        justid,
        retry_count,
    })
}

/// XACK, XACKDEL or XNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle<'a> {
    /// The stream's key.
    pub key: &'a [u8],
    /// The group.
    pub group: &'a [u8],
    /// The messages.
    pub ids: Vec<EntryId>,
    /// What becomes of them.
    pub how: How,
}

/// What a settling command says of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// XACK: the reply counts them.
    Ack,
    /// XACKDEL: the reply has a number for each.
    AckDel,
    /// XNACK SILENT: given back, no attempt counted.
    Release,
    /// XNACK FAIL.
    Fail,
    /// XNACK FATAL.
    Fatal,
}

/// Reads `XACK key group id …`.
#[must_use]
pub fn ack<'a>(buf: &'a [u8], args: &[Span32]) -> Option<Settle<'a>> {
    let arg = |i: usize| args.get(i).map(|a| a.of(buf));
    let ids = ids(buf, args.get(3..)?)?;
    Some(Settle {
        key: arg(1)?,
        group: arg(2)?,
        ids,
        how: How::Ack,
    })
}

/// Reads `XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id …`.
#[must_use]
pub fn ack_del<'a>(buf: &'a [u8], args: &[Span32]) -> Option<Settle<'a>> {
    settle_list(buf, args, 3, How::AckDel)
}

/// Reads `XNACK key group <SILENT|FAIL|FATAL> IDS n id … [RETRYCOUNT n] [FORCE]`.
#[must_use]
pub fn nack<'a>(buf: &'a [u8], args: &[Span32]) -> Option<Settle<'a>> {
    let mode = args.get(3)?.of(buf);
    let how = if mode.eq_ignore_ascii_case(b"SILENT") {
        How::Release
    } else if mode.eq_ignore_ascii_case(b"FAIL") {
        How::Fail
    } else if mode.eq_ignore_ascii_case(b"FATAL") {
        How::Fatal
    } else {
        return None;
    };
    settle_list(buf, args, 4, how)
}

/// Finds `IDS n id …` at or after `from`.
fn settle_list<'a>(buf: &'a [u8], args: &[Span32], from: usize, how: How) -> Option<Settle<'a>> {
    let arg = |i: usize| args.get(i).map(|a| a.of(buf));
    let at =
        (from..args.len()).find(|i| arg(*i).is_some_and(|a| a.eq_ignore_ascii_case(b"IDS")))?;
    let count: usize = std::str::from_utf8(arg(at + 1)?).ok()?.parse().ok()?;
    let list = args.get(at + 2..(at + 2).checked_add(count)?)?;
    Some(Settle {
        key: arg(1)?,
        group: arg(2)?,
        ids: ids(buf, list)?,
        how,
    })
}

fn ids(buf: &[u8], args: &[Span32]) -> Option<Vec<EntryId>> {
    if args.is_empty() {
        return None;
    }
    args.iter().map(|id| EntryId::parse(id.of(buf))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with<T>(line: &str, parse: impl Fn(&[u8], &[Span32]) -> T) -> T {
        let mut spans = Vec::new();
        let mut at = 0;
        for word in line.split(' ') {
            let end = at + u32::try_from(word.len()).unwrap();
            spans.push(Span32 { start: at, end });
            at = end + 1;
        }
        parse(line.as_bytes(), &spans)
    }

    #[test]
    fn reads_know_group_noack_and_keys() {
        let parsed = |line: &str, grouped| {
            with(line, |b, a| {
                read(b, a, grouped).map(|r| (r.group.is_some(), r.noack, r.keys, r.count))
            })
        };
        assert_eq!(
            parsed("XREAD COUNT 2 BLOCK 0 STREAMS a b 0 $", false),
            Some((false, false, 6, 2))
        );
        assert_eq!(
            parsed("xreadgroup group g c count 1 noack streams s >", true),
            Some((true, true, 8, 1))
        );
        assert_eq!(
            parsed("XREAD COUNT 1 MAXCOUNT 2 maxsize 9 STREAMS a b 0 0", false),
            Some((false, false, 8, 2))
        );
        // Names that look like options.
        assert_eq!(
            parsed("XREADGROUP GROUP STREAMS NOACK STREAMS s >", true),
            Some((true, false, 5, 1))
        );
        assert_eq!(
            parsed(
                "XREADGROUP GROUP g c CLAIM 5 MAXCOUNT 3 MAXSIZE 9 STREAMS s >",
                true
            ),
            Some((true, false, 11, 1))
        );
        for (line, grouped) in [
            ("XREAD STREAMS a", false),
            ("XREAD STREAMS a b 0", false),
            ("XREAD COUNT 1", false),
            ("XREAD NOACK STREAMS a 0", false),
            ("XREAD CLAIM 1 STREAMS a 0", false),
            ("XREAD GROUP g c STREAMS a 0", false),
            ("XREADGROUP STREAMS a >", true),
            ("XREADGROUP GROUP g STREAMS a >", true),
            ("XREADGROUP GROUP g c WHAT STREAMS a >", true),
        ] {
            assert_eq!(parsed(line, grouped), None, "{line}");
        }
    }

    #[test]
    fn claims_know_justid_and_retrycount() {
        let parsed = |line: &str| with(line, |b, a| claim(b, a).map(|c| (c.justid, c.retry_count)));
        assert_eq!(parsed("XCLAIM s g c 0 1-1 2-2"), Some((false, None)));
        assert_eq!(
            parsed("XCLAIM s g c 0 1-1 IDLE 5 RETRYCOUNT 7 FORCE JUSTID"),
            Some((true, Some(7)))
        );
        assert_eq!(
            parsed("XAUTOCLAIM s g c 0 0-0 COUNT 5 justid"),
            Some((true, None))
        );
        assert_eq!(parsed("XCLAIM s g c 0"), None);
    }

    #[test]
    fn settlements_list_their_ids() {
        let id = |ms, seq| EntryId { ms, seq };
        assert_eq!(
            with("XACK s g 1-1 2", |b, a| ack(b, a).unwrap().ids),
            [id(1, 1), id(2, 0)]
        );
        assert_eq!(
            with("XACKDEL s g DELREF IDS 2 1-1 2-2", |b, a| ack_del(b, a)
                .unwrap()
                .ids),
            [id(1, 1), id(2, 2)]
        );
        let nacked = with("XNACK s g fatal IDS 1 1-1 RETRYCOUNT 3 FORCE", |b, a| {
            nack(b, a).map(|n| (n.ids, n.how))
        });
        assert_eq!(nacked, Some((vec![id(1, 1)], How::Fatal)));
        assert!(with("XACK s g", |b, a| ack(b, a).is_none()));
        assert!(with("XACK s g x-1", |b, a| ack(b, a).is_none()));
        assert!(with("XACKDEL s g IDS 3 1-1 2-2", |b, a| ack_del(b, a).is_none()));
        assert!(with("XNACK s g LOUD IDS 1 1-1", |b, a| nack(b, a).is_none()));
    }
}
