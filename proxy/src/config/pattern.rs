//! Globs over keys, as Redis' KEYS and PSUBSCRIBE understand them.
//!
//! `*` is any number of bytes (it crosses `/` and `:`), `?` one byte, `[a-c]` and `[^x]` one byte in or outside a set, `\` takes
//! the next byte literally. Keys are bytes, not text. Path globs do not fit: to them `{a,b}`, `**` and `!` mean something.
//!
//! Three spellings that Redis accepts are refused, because each is a slip: a `[` without its `]`, an empty `[]`, and a `\` at
//! the end.

use std::fmt;
use std::str::FromStr;

/// Longer patterns are refused: a key that needs one is named by a shorter pattern as well.
const MAX_PATTERN_BYTES: usize = 4096;

/// A checked glob.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    tokens: Box<[Token]>,
}

/// One step of a match.
#[derive(Clone, PartialEq, Eq)]
enum Token {
    /// `*`; never two in a row.
    Any,
    /// `?`
    One,
    /// A literal byte.
    Byte(u8),
    /// `[…]`
    Class(Box<Class>),
}

/// A set of bytes, one bit each.
#[derive(Clone, Default, PartialEq, Eq)]
struct Class([u64; 4]);

/// Why a pattern is refused, and where: a count of characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing to match.
    #[error("an empty pattern matches no stream; write `*` for all")]
    Empty,
    /// Longer than any key that one would write a pattern for.
    #[error("the pattern is {0} bytes long; at most {MAX_PATTERN_BYTES} are taken")]
    TooLong(usize),
    /// A `[` without `]`.
    #[error(
        "pattern `{pattern}`: the `[` at character {at} is never closed; add `]`, or write `\\[` for the bracket itself"
    )]
    UnclosedClass {
        /// The pattern.
        pattern: Box<str>,
        /// Position of the bracket.
        at: usize,
    },
    /// `[]`
    #[error(
        "pattern `{pattern}`: the `[]` at character {at} matches nothing; write `\\[\\]` for the brackets themselves"
    )]
    EmptyClass {
        /// The pattern.
        pattern: Box<str>,
        /// Position of the bracket.
        at: usize,
    },
    /// A `\` at the end.
    #[error(
        "pattern `{pattern}`: the `\\` at the end, character {at}, escapes nothing; write `\\\\` for the backslash itself"
    )]
    TrailingEscape {
        /// The pattern.
        pattern: Box<str>,
        /// Position of the backslash.
        at: usize,
    },
}

impl Class {
    fn insert(&mut self, first: u8, last: u8) {
        for byte in first.min(last)..=first.max(last) {
            if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 63);
            }
        }
    }

    fn contains(&self, byte: u8) -> bool {
        self.0
            .get(usize::from(byte >> 6))
            .is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Byte(literal) => *literal == byte,
            Self::Class(class) => class.contains(byte),
        }
    }
}

impl Pattern {
    /// Checks and compiles a glob.
    ///
    /// # Errors
    /// If the glob has an open or empty class, ends in an escape, is empty or too long.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            0 => return Err(PatternError::Empty),
            n if n > MAX_PATTERN_BYTES => return Err(PatternError::TooLong(n)),
            _ => {}
        }
        let character = |rest: &[u8]| {
            let before = text.as_bytes().get(..text.len() - rest.len());
            String::from_utf8_lossy(before.unwrap_or_default())
                .chars()
                .count()
                + 1
        };
        let mut tokens = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            let (token, after) = match byte {
                b'*' => (Token::Any, after),
                b'?' => (Token::One, after),
                b'\\' => {
                    let (&literal, after) =
                        after
                            .split_first()
                            .ok_or_else(|| PatternError::TrailingEscape {
                                pattern: text.into(),
                                at: character(rest),
                            })?;
                    (Token::Byte(literal), after)
                }
                b'[' if after.first() == Some(&b']') => {
                    return Err(PatternError::EmptyClass {
                        pattern: text.into(),
                        at: character(rest),
                    });
                }
                b'[' => {
                    let (class, after) =
                        class(after).ok_or_else(|| PatternError::UnclosedClass {
                            pattern: text.into(),
                            at: character(rest),
                        })?;
                    (Token::Class(Box::new(class)), after)
                }
                literal => (Token::Byte(literal), after),
            };
            if token != Token::Any || tokens.last() != Some(&Token::Any) {
                tokens.push(token);
            }
            rest = after;
        }
        Ok(Self {
            text: text.into(),
            tokens: tokens.into(),
        })
    }

    /// Whether the whole key matches.
    ///
    /// A mismatch goes back to the latest `*` only: at most `key` times `pattern` steps.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let (mut token, mut byte) = (0, 0);
        // Where to go on after the latest `*`: the token behind it, and the next byte for it to swallow.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.tokens.get(token), key.get(byte)) {
                (None, None) => return true,
                (Some(Token::Any), _) => {
                    token += 1;
                    retry = Some((token, byte));
                    continue;
                }
                (Some(step), Some(&b)) if step.accepts(b) => {
                    token += 1;
                    byte += 1;
                    continue;
                }
                _ => {}
            }
            match retry {
                Some((behind, swallowed)) if swallowed < key.len() => {
                    token = behind;
                    byte = swallowed + 1;
                    retry = Some((behind, byte));
                }
                _ => return false,
            }
        }
    }

    /// Whether every key that `other` matches is matched by this one: answered for literals with a `*` at the end, which most
    /// patterns are, and `false` where it is not easily told.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match self.tokens.split_last() {
            Some((Token::Any, prefix)) => {
                prefix.iter().all(|t| matches!(t, Token::Byte(_)))
                    && other.tokens.starts_with(prefix)
            }
            _ => self.tokens == other.tokens,
        }
    }

    /// The glob as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Reads a class behind its `[`, byte by byte as Redis does: in `[a-]]` the `]` is the end of a range. `None`: never closed.
fn class(mut rest: &[u8]) -> Option<(Class, &[u8])> {
    let mut class = Class::default();
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = rest.get(1..)?;
    }
    loop {
        rest = match rest {
            [b'\\', literal, after @ ..] => {
                class.insert(*literal, *literal);
                after
            }
            [b']', after @ ..] => {
                if negated {
                    class.0.iter_mut().for_each(|word| *word = !*word);
                }
                return Some((class, after));
            }
            [first, b'-', last, after @ ..] => {
                class.insert(*first, *last);
                after
            }
            [literal, after @ ..] => {
                class.insert(*literal, *literal);
                after
            }
            [] => return None,
        };
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests;
