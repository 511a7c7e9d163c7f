//! What the features are written with.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fmt::{self, Debug};
use std::future::Future;
use std::panic::Location;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::TypedCommands;

/// Features in the order in which they run.
pub(crate) type Features = Vec<(&'static str, fn() -> Outcome)>;

/// What a feature came to.
pub(crate) type Outcome = Result<Option<Remark>, Failure>;

/// What is said of a feature that did not fail.
pub(crate) enum Remark {
    /// [`SENT_AGAIN`] or [`FAILS`].
    Note(&'static str),
    /// The library has no such feature, but this instead.
    Lacks(&'static str),
}

/// What becomes of the command whose reply was awaited when its connection was killed, as the programs in other languages say it.
pub(crate) const SENT_AGAIN: &str = "sent again over a new connection";
pub(crate) const FAILS: &str = "fails; later commands go over a new connection";

/// Why a feature does not hold, and where that was seen.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        failure(error.to_string())
    }
}

#[track_caller]
pub(crate) fn failure(why: impl fmt::Display) -> Failure {
    let place = Location::caller();
    Failure(format!("{why} ({}:{})", place.file(), place.line()))
}

/// Longer values are not worth a line of that length.
const SHOWN: usize = 100;

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what is compared is made in the call"
)]
pub(crate) fn equal<G, W>(what: &str, got: G, wanted: W) -> Result<(), Failure>
where
    G: PartialEq<W> + Debug,
    W: Debug,
{
    if got == wanted {
        return Ok(());
    }
    let [got, wanted] = [format!("{got:?}"), format!("{wanted:?}")].map(|text| {
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    });
    Err(failure(format!("{what}: {got} instead of {wanted}")))
}

/// The fields of a message.
pub(crate) type Fields = HashMap<String, Vec<u8>>;

pub(crate) fn fields<const N: usize>(of: [(&str, &[u8]); N]) -> Fields {
    of.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect()
}

/// Every field as it was sent; the proxy may have added a trace's context, and nothing else.
#[track_caller]
pub(crate) fn same_fields(what: &str, mut got: Fields, sent: &Fields) -> Result<(), Failure> {
    for added in ["traceparent", "tracestate"] {
        if !sent.contains_key(added) {
            got.remove(added);
        }
    }
    equal(what, &got, sent)
}

pub(crate) fn key(name: &str) -> String {
    format!("{}:{name}", env::var("PREFIX").unwrap_or_default())
}

/// A name for a function, which takes letters, digits and `_`.
pub(crate) fn identifier(name: &str) -> String {
    let letter = |c: char| if c.is_alphanumeric() { c } else { '_' };
    key(name).chars().map(letter).collect()
}

pub(crate) fn url() -> String {
    env::var("REDIS_URL").unwrap_or_default()
}

/// The same server's database `number`.
pub(crate) fn url_of_database(number: u8) -> String {
    let url = url();
    let base = url.trim_end_matches(|c: char| c.is_ascii_digit());
    // A URL may end with its port instead.
    if base.ends_with('/') {
        format!("{base}{number}")
    } else {
        format!("{url}/{number}")
    }
}

/// Another client, past the proxy.
pub(crate) fn control() -> Result<redis::Connection, Failure> {
    let url = env::var("CONTROL_URL").unwrap_or_default();
    Ok(redis::Client::open(url)?.get_connection()?)
}

/// What is asked again and again may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn until(
    what: &str,
    mut holds: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    while !holds()? {
        if began.elapsed() > PATIENCE {
            return Err(failure(format!("{what}: not within {PATIENCE:?}")));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

pub(crate) async fn until_async(
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    while !holds().await? {
        if began.elapsed() > PATIENCE {
            return Err(failure(format!("{what}: not within {PATIENCE:?}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// In a thread: waits until the server holds the connection `id` in a blocking command, and acts then.
pub(crate) fn when_blocked(
    id: i64,
    act: impl FnOnce(&mut redis::Connection) -> redis::RedisResult<()> + Send + 'static,
) -> JoinHandle<Result<(), Failure>> {
    thread::spawn(move || {
        let mut control = control()?;
        until("a blocked client", || {
            let list: String = redis::cmd("CLIENT")
                .arg("LIST")
                .arg("ID")
                .arg(id)
                .query(&mut control)?;
            Ok(list.contains(" flags=b"))
        })?;
        Ok(act(&mut control)?)
    })
}

/// Kills the connection `id` while it is blocked. If its command is sent again, it finds `x` in the list.
pub(crate) fn kill_when_blocked(id: i64, list: String) -> JoinHandle<Result<(), Failure>> {
    when_blocked(id, move |control| {
        kill(control, id)?;
        control.rpush(list, "x").map(drop)
    })
}

pub(crate) fn kill(control: &mut redis::Connection, id: i64) -> redis::RedisResult<()> {
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("ID")
        .arg(id)
        .exec(control)
}

pub(crate) fn joined(thread: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    thread
        .join()
        .unwrap_or_else(|_| Err(failure("a thread panicked")))
}

pub(crate) fn block_on(feature: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(feature)
}
