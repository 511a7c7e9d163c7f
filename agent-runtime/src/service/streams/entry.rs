//! Entries of a stream, out of the reply to XREADGROUP, one at a time: the next is read when this one has been dealt with.

use std::time::Duration;

use opentelemetry::trace::SpanContext;

use super::connection::{Connection, Error, PATIENCE, refused};
use super::context::{self, MOST_TRACEPARENT, MOST_TRACESTATE};
use super::resp::Token;
use crate::service::book::EntryId;

/// The longest id: two numbers of 64 bits.
const MOST_ID: usize = 41;
/// The longest name of a field that means something here.
const MOST_FIELD: usize = 16;
/// The longest name of a stream is longer: it is known anyway.
const IGNORED: usize = 0;

/// An entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// What it holds.
    pub body: Body,
    /// The context that its fields say.
    pub context: Option<SpanContext>,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The value of its field `fragment`.
    Fragment(Vec<u8>),
    /// That value has so many bytes, more than one may have.
    Oversized(u64),
    /// There is no such field, or there are two.
    Missing,
    /// It was deleted, or trimmed away, after it had been delivered.
    Gone,
}

const COMMAND: &str = "XREADGROUP";

/// Reads the head of a reply: how many entries follow. The first bytes may take as long as `block` longer than usual.
///
/// # Errors
/// If it is another reply, or none.
pub async fn begin(connection: &mut Connection, block: Duration) -> Result<u64, Error> {
    match connection.token(IGNORED, block + PATIENCE).await? {
        Token::Null | Token::Array(0) => return Ok(0),
        Token::Array(1) => {}
        Token::Error(said) => return Err(refused(said)),
        _ => return Err(Error::Unexpected(COMMAND)),
    }
    if next(connection, IGNORED).await? != Token::Array(2) {
        return Err(Error::Unexpected(COMMAND));
    }
    // The name of the stream.
    if !matches!(
        next(connection, IGNORED).await?,
        Token::Bulk(_) | Token::Oversized(_)
    ) {
        return Err(Error::Unexpected(COMMAND));
    }
    match next(connection, IGNORED).await? {
        Token::Array(entries) => Ok(entries),
        Token::Null => Ok(0),
        _ => Err(Error::Unexpected(COMMAND)),
    }
}

/// Reads the next entry, whose fragment is kept if it has at most `most` bytes.
///
/// # Errors
/// If there is none.
pub async fn read(connection: &mut Connection, most: usize) -> Result<Entry, Error> {
    if next(connection, IGNORED).await? != Token::Array(2) {
        return Err(Error::Unexpected(COMMAND));
    }
    let Token::Bulk(id) = next(connection, MOST_ID).await? else {
        return Err(Error::Unexpected(COMMAND));
    };
    let id = String::from_utf8(id)
        .ok()
        .and_then(|id| EntryId::try_from(id).ok())
        .ok_or(Error::Unexpected(COMMAND))?;
    let parts = match next(connection, IGNORED).await? {
        Token::Null => {
            return Ok(Entry {
                id,
                body: Body::Gone,
                context: None,
            });
        }
        Token::Array(parts) if parts % 2 == 0 => parts,
        _ => return Err(Error::Unexpected(COMMAND)),
    };
    let (mut body, mut parent, mut state) = (None, None, None);
    for _ in 0..parts / 2 {
        let name = match next(connection, MOST_FIELD).await? {
            Token::Bulk(name) => name,
            Token::Oversized(_) => Vec::new(),
            _ => return Err(Error::Unexpected(COMMAND)),
        };
        let limit = match &*name {
            // What there are two of is none, and need not be held.
            b"fragment" if body.is_none() => most,
            b"traceparent" => MOST_TRACEPARENT,
            b"tracestate" => MOST_TRACESTATE,
            _ => IGNORED,
        };
        let value = match next(connection, limit).await? {
            Token::Bulk(value) => Body::Fragment(value),
            Token::Oversized(bytes) => Body::Oversized(bytes),
            _ => return Err(Error::Unexpected(COMMAND)),
        };
        match &*name {
            b"fragment" if body.is_some() => body = Some(Body::Missing),
            b"fragment" => body = Some(value),
            // Of two contexts nobody knows which is meant: see what tars-proxy does with them.
            b"traceparent" if parent.is_some() => parent = Some(Body::Missing),
            b"traceparent" => parent = Some(value),
            b"tracestate" => state = Some(value),
            _ => {}
        }
    }
    let context = match (&parent, &state) {
        (Some(Body::Fragment(parent)), Some(Body::Fragment(state))) => {
            context::read(parent, Some(state))
        }
        (Some(Body::Fragment(parent)), _) => context::read(parent, None),
        _ => None,
    };
    Ok(Entry {
        id,
        body: body.unwrap_or(Body::Missing),
        context,
    })
}

async fn next(connection: &mut Connection, most: usize) -> Result<Token, Error> {
    connection.token(most, PATIENCE).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const MOST: usize = 32;
    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn bulk(value: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
    }

    type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

    fn reply(entries: &[Option<Fields<'_>>]) -> Vec<u8> {
        let mut reply = format!("*1\r\n*2\r\n$6\r\nstream\r\n*{}\r\n", entries.len()).into_bytes();
        for (at, fields) in entries.iter().enumerate() {
            reply.extend(b"*2\r\n");
            reply.extend(bulk(format!("7-{at}").as_bytes()));
            match fields {
                None => reply.extend(b"*-1\r\n"),
                Some(fields) => {
                    reply.extend(format!("*{}\r\n", fields.len() * 2).bytes());
                    for (name, value) in fields {
                        reply.extend(bulk(name));
                        reply.extend(bulk(value));
                    }
                }
            }
        }
        reply
    }

    /// What is read of a reply that comes in pieces of this size, and whether all of it was.
    fn walk(reply: &[u8], piece: usize) -> (Vec<Entry>, Option<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (mut server, client) = tokio::io::duplex(piece);
            let mut connection = Connection::over(client);
            let mut entries = Vec::new();
            let reads = async {
                let count = begin(&mut connection, Duration::ZERO).await?;
                for _ in 0..count {
                    entries.push(read(&mut connection, MOST).await?);
                }
                Ok::<_, Error>(())
            };
            let writes = async move {
                // Refused once the reader has seen enough.
                let _ = server.write_all(reply).await;
                drop(server);
                std::future::pending::<()>().await;
            };
            let read = tokio::select! { read = reads => read, () = writes => Ok(()) };
            (entries, read.err().map(|error| error.to_string()))
        })
    }

    #[test]
    fn entries_are_read_one_after_the_other() {
        let big = [b'x'; MOST + 1];
        let reply = reply(&[
            Some(vec![
                (b"fragment", b"{}"),
                (b"traceparent", PARENT),
                (b"tracestate", b"a=1"),
            ]),
            Some(vec![(b"other", &big), (b"fragment", &big)]),
            None,
            Some(vec![]),
            Some(vec![(b"fragment", b"1"), (b"fragment", b"2")]),
            Some(vec![
                (b"fragment", b"1"),
                (b"traceparent", PARENT),
                (b"traceparent", PARENT),
            ]),
        ]);
        for piece in [1, 3, 7, 1 << 16] {
            let (entries, error) = walk(&reply, piece);
            assert_eq!(error, None);
            let bodies: Vec<&Body> = entries.iter().map(|entry| &entry.body).collect();
            let one = |text: &str| Body::Fragment(text.as_bytes().to_vec());
            assert_eq!(
                bodies,
                [
                    &one("{}"),
                    &Body::Oversized(MOST as u64 + 1),
                    &Body::Gone,
                    &Body::Missing,
                    &Body::Missing,
                    &one("1")
                ]
            );
            assert_eq!(
                entries[5].id,
                EntryId::try_from("7-5".to_owned()).expect("an id")
            );
            let context = entries[0].context.as_ref().expect("a context");
            assert_eq!(context.trace_state().header(), "a=1");
            assert_eq!(entries[5].context, None);
        }
    }

    #[test]
    fn nothing_and_refusals() {
        assert_eq!(walk(b"*-1\r\n", 9), (Vec::new(), None));
        assert_eq!(
            walk(b"*1\r\n*2\r\n$1\r\ns\r\n*0\r\n", 9),
            (Vec::new(), None)
        );
        let (_, error) = walk(b"-NOGROUP No such key\r\n", 9);
        assert_eq!(error.as_deref(), Some("Redis answers: NOGROUP No such key"));
        let (_, error) = walk(b"*2\r\n*2\r\n", 9);
        assert_eq!(error.as_deref(), Some("an unexpected reply to XREADGROUP"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_equals_the_whole(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 0_usize..400, piece in 1_usize..40,
        ) {
            let entries: Vec<_> = values.iter().map(|value| Some(vec![(&b"fragment"[..], &**value)])).collect();
            let whole = reply(&entries);
            // Also what breaks off.
            let part = whole.get(..cut).unwrap_or(&whole);
            prop_assert_eq!(walk(part, piece), walk(part, 1 << 16));
        }
    }
}
