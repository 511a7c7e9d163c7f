//! Reading what a request brings, within bounds of size, of time, and of all requests together.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::{Problem, Reason};
use crate::service::object::Object;

/// What a body may have without being counted: as many of these as there may be connections are little.
pub const SMALL: usize = 16 << 10;
/// A body of more is read by another thread than those that act: a megabyte takes milliseconds.
const INLINE: usize = 64 << 10;
/// So many of these threads at once, however many large bodies there are.
const PARSERS: usize = 2;
/// The semaphore counts in these: it cannot count more than 2^29 or so on 32 bits, and need not be exact.
const UNIT: usize = 1 << 10;
/// A body comes within this, or not at all.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A large one besides comes at so many bytes a second ...
const LEAST_RATE: u32 = 1 << 20;
/// ... after this: whoever trickles has its place for no longer.
const GRACE: Duration = Duration::from_secs(1);

/// What bounds bodies, all of them together.
#[derive(Debug)]
pub struct Bodies {
    /// Bytes of one.
    most: usize,
    /// Bytes of all that are large, as read or being worked on.
    large: Arc<Semaphore>,
    total: usize,
    parsers: Arc<Semaphore>,
    aside: Handle,
}

/// A body, and its place among all of them: to be held until it is answered.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

/// A large body, from when it has its place.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    /// Bytes that had come then.
    from: usize,
}

impl Pace {
    /// When more must have come than so many bytes in all.
    fn until(self, bytes: usize) -> Instant {
        let bytes = bytes.saturating_sub(self.from) as f64;
        self.since + GRACE + Duration::from_secs_f64(bytes / f64::from(LEAST_RATE))
    }
}

/// What is said of a body that does not come in time.
fn slow(trickles: bool) -> Problem {
    let text = if trickles {
        let seconds = GRACE.as_secs();
        format!(
            "expected a body of more than {SMALL} bytes at {LEAST_RATE} bytes a second, after {seconds} second"
        )
    } else {
        let seconds = READ_TIMEOUT.as_secs();
        format!("expected the whole body within {seconds} seconds")
    };
    Problem::new(Reason::Slow, text)
}

impl Bodies {
    /// Bodies of at most `most` bytes; large ones share as many, so that what is under way stays bounded whoever sends. Threads of `aside` work on
    /// them.
    #[must_use]
    pub fn new(most: usize, aside: Handle) -> Self {
        let total = most.max(SMALL).div_ceil(UNIT);
        Self {
            most,
            large: Arc::new(Semaphore::new(total)),
            total,
            parsers: Arc::new(Semaphore::new(PARSERS)),
            aside,
        }
    }

    /// Bytes that large bodies hold now.
    #[must_use]
    pub fn held(&self) -> usize {
        (self.total - self.large.available_permits()) * UNIT
    }

    /// Reads a body of JSON.
    ///
    /// # Errors
    /// If it is said to be something else, is too large, or does not come in time.
    pub async fn json(&self, headers: &HeaderMap, body: Incoming) -> Result<Held, Problem> {
        if !is_json(headers) {
            return Err(Problem::new(
                Reason::MediaType,
                "expected a body of JSON, and Content-Type: application/json",
            ));
        }
        self.read(headers, body).await
    }

    async fn read(&self, headers: &HeaderMap, mut body: Incoming) -> Result<Held, Problem> {
        let too_large = || {
            let most = self.most;
            let text = format!("expected a body of at most {most} bytes");
            Problem::new(Reason::TooLarge, text)
        };
        let told = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        let told: Option<usize> = told.and_then(|v| v.parse().ok());
        if told.is_some_and(|told| told > self.most) {
            return Err(too_large());
        }
        let mut held = Held::default();
        let (mut end, mut pace) = (Instant::now() + READ_TIMEOUT, None);
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let until = pace.map_or(end, |pace: Pace| end.min(pace.until(held.bytes.len())));
            let Ok(frame) = timeout_at(until, frame).await else {
                return Err(slow(until < end));
            };
            let Some(frame) = frame else {
                return Ok(held);
            };
            let Ok(frame) = frame.map(hyper::body::Frame::into_data) else {
                let text = "expected the whole body, but the connection ended before";
                return Err(Problem::new(Reason::Json, text));
            };
            let Ok(data) = frame else { continue };
            let length = held.bytes.len() + data.len();
            if length > self.most {
                return Err(too_large());
            }
            if held._place.is_none() && length.max(told.unwrap_or(0)) > SMALL {
                // Before it is held, as much as it may become. Its client is not to blame for the time that this takes.
                let begin = Instant::now();
                held._place = Some(self.place(told.unwrap_or(self.most)).await?);
                let since = Instant::now();
                end += since - begin;
                pace = Some(Pace {
                    since,
                    from: length,
                });
            }
            if held.bytes.capacity() < length {
                let rest = told.unwrap_or(0).saturating_sub(held.bytes.len());
                held.bytes.reserve(data.len().max(rest.min(1 << 20)));
            }
            held.bytes.extend_from_slice(&data);
        }
    }

    async fn place(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let place = self.large.clone().acquire_many_owned(units);
        match timeout(READ_TIMEOUT / 2, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Problem::new(
                Reason::Busy,
                format!(
                    "expected less to be under way: large bodies have {} bytes in all",
                    self.total * UNIT
                ),
            )),
        }
    }

    /// Works on a body, away from the threads that act if it is large.
    ///
    /// # Errors
    /// What `work` says.
    pub async fn work<T: Send + 'static>(
        &self,
        held: Held,
        work: impl FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
    ) -> Result<(T, Held), Problem> {
        if held.bytes.len() <= INLINE {
            let done = work(&held.bytes)?;
            return Ok((done, held.emptied()));
        }
        // Never closed.
        let parser = self.parsers.clone().acquire_owned().await;
        let task = self.aside.spawn_blocking(move || {
            let done = work(&held.bytes);
            drop(parser);
            done.map(|done| (done, held.emptied()))
        });
        task.await
            .unwrap_or_else(|error| Err(Problem::new(Reason::Internal, error.to_string())))
    }
}

impl Held {
    /// The place alone: for what was made of the body.
    fn emptied(self) -> Self {
        Self {
            bytes: Vec::new(),
            ..self
        }
    }
}

/// Reads an object of JSON.
///
/// # Errors
/// A sentence that says what was expected, and where.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    let error = match serde_json::from_slice(json) {
        Ok(Object(read)) => return Ok(read),
        Err(error) => error,
    };
    match error.classify() {
        Category::Data => {
            // Only now is it worth to keep track of where one is.
            let mut reader = serde_json::Deserializer::from_slice(json);
            let sentence = match serde_path_to_error::deserialize::<_, Object<T>>(&mut reader) {
                Err(error) if error.path().iter().next().is_some() => {
                    format!("{}: {}", error.path(), error.inner())
                }
                _ => error.to_string(),
            };
            Err(Problem::invalid(in_words(&sentence)))
        }
        Category::Io | Category::Syntax | Category::Eof => Err(Problem::new(
            Reason::Json,
            format!("expected JSON{}: {error}", not_finite(json, &error)),
        )),
    }
}

/// Types of Rust, in words.
fn in_words(sentence: &str) -> String {
    sentence
        .replace("expected usize", "expected a whole number from 0 on")
        .replace("expected u64", "expected a whole number from 0 on")
        .replace("expected i64", "expected a whole number")
        .replace("expected f64", "expected a number")
        .replace("expected f32", "expected a number")
}

/// What Python writes for numbers that are none, if that is why.
fn not_finite(json: &[u8], error: &serde_json::Error) -> &'static str {
    let mut lines = json.split(|&byte| byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1));
    // The column is that of its first letter, or of the one before or after it.
    let near = line.and_then(|line| line.get(error.column().saturating_sub(2)..));
    let is_near = |word: &[u8]| {
        let near = near.map(|near| near.get(..word.len() + 2).unwrap_or(near));
        near.is_some_and(|near| near.windows(word.len()).any(|part| part == word))
    };
    if is_near(b"NaN") || is_near(b"Infinity") {
        ", which has neither NaN nor Infinity"
    } else {
        ""
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_no_number_is_named() {
        for json in [
            r#"{"x": NaN}"#,
            "{\"x\": [1,\n 2, NaN, 3]}",
            r#"{"x":Infinity}"#,
            r#"{"x": [1, -Infinity]}"#,
            r#"{"x": [-Infinity, 1]}"#,
        ] {
            let problem = parse::<serde_json::Value>(json.as_bytes()).expect_err(json);
            let said = "expected JSON, which has neither NaN nor Infinity: ";
            assert!(problem.detail.starts_with(said), "{json}: {problem}");
        }
        for json in [
            r#"{"x": [1,]}"#,
            "",
            "{",
            r#"{"x": [nine]}"#,
            r#"{"NaN": x}"#,
        ] {
            let problem = parse::<serde_json::Value>(json.as_bytes()).expect_err(json);
            assert!(problem.detail.starts_with("expected JSON: "), "{problem}");
        }
    }

    #[test]
    fn types_are_said_in_words() {
        for (json, said) in [
            ("-1", "expected a whole number from 0 on"),
            ("1.5", "expected a whole number from 0 on"),
        ] {
            let problem = parse::<usize>(json.as_bytes()).expect_err(json);
            assert!(problem.detail.contains(said), "{problem}");
        }
    }
}
