//! Counts answers of HTTP/1.1 as they stream, as [`crate::replies`] does for Redis. All that is understood is what servers that are measured send: a
//! status and `Content-Length`.

use crate::replies::Refused;

/// Where in the stream of answers a connection is.
#[derive(Debug, Default)]
pub struct Answers {
    /// A head of which the rest has not come yet.
    head: Vec<u8>,
    /// Bytes of a body that are still to come; none before its head is whole.
    body: Option<usize>,
}

impl Answers {
    /// Takes what was read, and says how many answers ended in it.
    ///
    /// # Errors
    /// If one of them is no success, or cannot be understood.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<u32, Refused> {
        let mut ended = 0;
        loop {
            let rest = match self.body.take() {
                Some(rest) => rest,
                None => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let from = before.saturating_sub(3);
                    let tail = self.head.get(from..).unwrap_or_default();
                    let Some(at) = tail.windows(4).position(|four| four == b"\r\n\r\n") else {
                        return Ok(ended);
                    };
                    let end = from + at + 4;
                    self.head.truncate(end);
                    let length = content_length(&self.head)?;
                    self.head.clear();
                    bytes = bytes.get(end - before..).unwrap_or_default();
                    length
                }
            };
            if rest > bytes.len() {
                self.body = Some(rest - bytes.len());
                return Ok(ended);
            }
            bytes = bytes.get(rest..).unwrap_or_default();
            ended += 1;
        }
    }
}

/// The length of the body after this head.
fn content_length(head: &[u8]) -> Result<usize, Refused> {
    let head = String::from_utf8_lossy(head);
    let refused = || Refused::Error(head.trim_end().to_owned());
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(refused());
    }
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    lengths.next_back().ok_or_else(refused)
}

/// A request of JSON.
#[must_use]
pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\nHTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 4\r\n\r\n\r\n\r\n";

    #[test]
    fn answers_are_counted_wherever_they_are_cut() {
        for size in 1..=STREAM.len() {
            let mut answers = Answers::default();
            let ended: u32 = STREAM
                .chunks(size)
                .map(|part| answers.take(part).unwrap())
                .sum();
            assert_eq!(ended, 3, "in parts of {size}");
            assert!(answers.head.is_empty() && answers.body.is_none());
        }
    }

    #[test]
    fn what_is_no_success_is_told() {
        let refused = |bytes: &[u8]| Answers::default().take(bytes).is_err();
        assert!(refused(
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
        ));
        assert!(refused(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
    }
}
