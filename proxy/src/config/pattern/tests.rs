#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

#[test]
fn matches_as_redis_keys_does() {
    let table: &[(&str, &[u8], bool)] = &[
        ("orders", b"orders", true),
        ("orders", b"orders2", false),
        ("orders", b"Orders", false),
        ("*", b"", true),
        ("*", b"a/b:c\n\xff\x00", true),
        ("hot-reload*", b"hot-reload", true),
        ("hot-reload*", b"hot-reload:eu/1", true),
        ("hot-reload*", b"a:hot-reload", false),
        ("*:orders", b"eu:de:orders", true),
        ("*:orders", b"eu:de:orders:x", false),
        ("a**b", b"ab", true),
        ("a*b*c", b"a-b-b-c-c", true),
        ("a*b*c", b"a-b-b-c-d", false),
        ("?", b"", false),
        ("?", b"\xff", true),
        ("h?llo", b"hallo", true),
        ("h?llo", b"hllo", false),
        ("h[ae]llo", b"hello", true),
        ("h[ae]llo", b"hillo", false),
        ("h[^e]llo", b"hallo", true),
        ("h[^e]llo", b"hello", false),
        ("h[a-c]llo", b"hbllo", true),
        ("h[c-a]llo", b"hbllo", true),
        ("h[a-c]llo", b"hdllo", false),
        ("[^]x", b"\xffx", true),
        ("[a^]", b"^", true),
        ("[!a]", b"b", false),
        ("[!a]", b"!", true),
        (r"[\]]", b"]", true),
        (r"[\^a]", b"^", true),
        (r"[a\-c]", b"b", false),
        (r"[a\-c]", b"-", true),
        ("[+--]", b",", true),
        ("[a-]]", b"^", true),
        ("[a-]]", b"-", false),
        (r"\*", b"*", true),
        (r"\*", b"x", false),
        (r"\[a]", b"[a]", true),
        (r"\\", b"\\", true),
        ("{a,b}", b"a", false),
        ("{a,b}", b"{a,b}", true),
        ("a]", b"a]", true),
        ("ü*", "ün".as_bytes(), true),
    ];
    for (glob, key, expected) in table {
        let key_shown = String::from_utf8_lossy(key);
        assert_eq!(
            pattern(glob).matches(key),
            *expected,
            "{glob} on {key_shown}"
        );
        assert_eq!(
            stringmatch(glob.as_bytes(), key),
            *expected,
            "the oracle: {glob} on {key_shown}"
        );
    }
}

#[test]
fn refuses_slips_with_position_and_remedy() {
    let table = [
        (
            "",
            "an empty pattern matches no stream; write `*` for all".to_owned(),
        ),
        (
            "orders:[ab",
            "pattern `orders:[ab`: the `[` at character 8 is never closed; add `]`, or write `\\[` for the bracket itself".to_owned(),
        ),
        (
            "ü[a-]",
            "pattern `ü[a-]`: the `[` at character 2 is never closed; add `]`, or write `\\[` for the bracket itself".to_owned(),
        ),
        (
            "a[]b]",
            "pattern `a[]b]`: the `[]` at character 2 matches nothing; write `\\[\\]` for the brackets themselves".to_owned(),
        ),
        (
            r"abc\",
            r"pattern `abc\`: the `\` at the end, character 4, escapes nothing; write `\\` for the backslash itself".to_owned(),
        ),
    ];
    for (glob, expected) in table {
        assert_eq!(Pattern::new(glob).unwrap_err().to_string(), expected);
    }
    let long = "x".repeat(MAX_PATTERN_BYTES + 1);
    assert_eq!(
        Pattern::new(&long).unwrap_err().to_string(),
        "the pattern is 4097 bytes long; at most 4096 are taken"
    );
    assert!(Pattern::new(&long[1..]).is_ok());
}

#[test]
fn covers_tells_which_rule_hides_another() {
    for (first, second, expected) in [
        ("*", "orders*", true),
        ("*", "[ab]?", true),
        ("orders*", "orders:eu*", true),
        ("orders*", "orders", true),
        ("orders*", "orders", true),
        ("orders", "orders", true),
        ("orders*", "order*", false),
        ("orders", "orders*", false),
        ("o?*", "orders", false),
        (r"a\**", r"a\*b", true),
        (r"a\**", "a*b", false),
    ] {
        assert_eq!(
            pattern(first).covers(&pattern(second)),
            expected,
            "{first} over {second}"
        );
    }
}

#[test]
fn many_stars_do_not_explode() {
    let glob = pattern(&"a*".repeat(200));
    let mut key = vec![b'a'; 20_000];
    assert!(glob.matches(&key));
    let strict = pattern(&format!("{}b", "a*".repeat(200)));
    assert!(!strict.matches(&key));
    key.push(b'b');
    assert!(strict.matches(&key));
}

/// Redis' own algorithm (`stringmatchlen`), written out recursively as an independent reading of it.
fn stringmatch(pattern: &[u8], key: &[u8]) -> bool {
    match (pattern, key) {
        ([], _) => key.is_empty(),
        ([b'*', rest @ ..], _) => (0..=key.len()).any(|skip| stringmatch(rest, &key[skip..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, key @ ..]) => stringmatch(rest, key),
        ([b'\\', literal, rest @ ..], [byte, key @ ..]) => {
            literal == byte && stringmatch(rest, key)
        }
        ([b'[', rest @ ..], [byte, key @ ..]) => {
            let mut rest = rest;
            let not = rest.first() == Some(&b'^');
            if not {
                rest = &rest[1..];
            }
            let mut found = false;
            while rest[0] != b']' {
                if rest.len() >= 2 && rest[0] == b'\\' {
                    found |= rest[1] == *byte;
                    rest = &rest[2..];
                } else if rest.len() >= 3 && rest[1] == b'-' {
                    let (low, high) = (rest[0].min(rest[2]), rest[0].max(rest[2]));
                    found |= (low..=high).contains(byte);
                    rest = &rest[3..];
                } else {
                    found |= rest[0] == *byte;
                    rest = &rest[1..];
                }
            }
            found != not && stringmatch(&rest[1..], key)
        }
        ([literal, rest @ ..], [byte, key @ ..]) => literal == byte && stringmatch(rest, key),
    }
}

proptest! {
    #[test]
    fn any_accepted_pattern_matches_what_redis_matches(
        glob in r"([ab\-]|\*|\?|\[\^?[abc\-\\]{1,4}\]|\\[ab*\]]){0,7}",
        key in "[abc\\-\\]*]{0,7}",
    ) {
        if let Ok(pattern) = Pattern::new(&glob) {
            prop_assert_eq!(pattern.matches(key.as_bytes()), stringmatch(glob.as_bytes(), key.as_bytes()));
        }
    }

    #[test]
    fn covers_is_never_wrong(
        first in r"[ab*?]{1,4}", second in r"[ab*?]{1,4}", key in "[ab]{0,5}",
    ) {
        let (first, second) = (pattern(&first), pattern(&second));
        if first.covers(&second) && second.matches(key.as_bytes()) {
            prop_assert!(first.matches(key.as_bytes()));
        }
    }

    #[test]
    fn no_text_and_no_key_panics(glob in ".{0,40}", key in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(pattern) = Pattern::new(&glob) {
            let _ = pattern.matches(&key);
            prop_assert_eq!(pattern.as_str(), glob);
        }
    }
}
