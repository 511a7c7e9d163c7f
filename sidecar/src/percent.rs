//! Percent-encoding (RFC 3986, section 2.1), undone.

/// What `%20` and the like stand for. None where two hexadecimal digits do not follow a `%`.
#[must_use]
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        bytes.push(digit()? << 4 | digit()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_follow_a_percent_sign() {
        for (text, bytes) in [
            ("", b"".as_slice()),
            ("a%20b%2F", b"a b/"),
            ("%ff%FF", b"\xff\xff"),
            ("é", "é".as_bytes()),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["%", "%4", "%4g", "%%41", "a%é"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
