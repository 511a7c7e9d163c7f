#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::config::Address;

fn login(user: &str, password: Option<&str>, database: u32) -> Login {
    Login {
        user: user.into(),
        password: password.map(Into::into),
        database,
    }
}

#[test]
fn urls_as_clients_take_them() {
    for (text, upstream, expected) in [
        (
            "redis://redis:6379",
            "redis://redis:6379",
            login("", None, 0),
        ),
        ("redis:6380", "redis://redis:6380", login("", None, 0)),
        ("redis", "redis://redis:6379", login("", None, 0)),
        ("REDISS://redis", "rediss://redis:6379", login("", None, 0)),
        ("valkeys://h:1", "rediss://h:1", login("", None, 0)),
        (
            " redis://:pw@h/3\n",
            "redis://h:6379",
            login("", Some("pw"), 3),
        ),
        (
            "redis://u:p%40%2Fs@h:1/0",
            "redis://h:1",
            login("u", Some("p@/s"), 0),
        ),
        (
            "redis://u:p@s:s@[::1]:7/15",
            "redis://[::1]:7",
            login("u", Some("p@s:s"), 15),
        ),
        (
            "redis://default:@h",
            "redis://h:6379",
            login("default", Some(""), 0),
        ),
        ("redis://:@h", "redis://h:6379", login("", None, 0)),
        (
            "redis://h?db=4&timeout=5",
            "redis://h:6379",
            login("", None, 4),
        ),
        (
            "redis://h/1?database=4#x",
            "redis://h:6379",
            login("", None, 4),
        ),
        (
            "redis://h?username=u&password=p%26",
            "redis://h:6379",
            login("u", Some("p&"), 0),
        ),
        (
            "redis://a:b@h?username=u&password=p",
            "redis://h:6379",
            login("a", Some("b"), 0),
        ),
        (
            "redis://:pw@/2/",
            "redis://127.0.0.1:6379",
            login("", Some("pw"), 2),
        ),
        (
            "redis://:6390",
            "redis://127.0.0.1:6390",
            login("", None, 0),
        ),
    ] {
        let (found, says) = read(text).unwrap_or_else(|error| unreachable!("{text}: {error}"));
        assert_eq!(found.to_string(), upstream, "{text}");
        assert!(says == expected, "{text}");
    }
    let (unix, _) = read("unix:///run/redis.sock").unwrap();
    assert_eq!(unix.address, Address::Unix("/run/redis.sock".into()));
}

#[test]
fn what_is_none_is_refused_without_being_repeated() {
    for text in [
        "",
        "secret@h",
        "redis://secret@h",
        "redis://u:%secret@h",
        "redis://u:secret@h:port",
        "redis://u:secret@h:0",
        "redis://u:secret@h/secret",
        "redis://u:secret@h/-1",
        "redis://u:secret@h/99999999999",
        "redis://u:secret@h,secret",
        "secret://u:secret@h",
        "redis+sentinel://u:secret@h",
        "unix:secret",
        "secret secret:1",
        "redis://u:secret@h,u:secret@h",
        "redis://u=secret",
        "u=secret",
    ] {
        let error = read(text).unwrap_err();
        assert!(!error.contains("secret"), "{text}: {error}");
    }
}

#[test]
fn debug_shows_nothing() {
    let says = format!("{:?}", read("redis://user:secret@host/3").unwrap().1);
    assert_eq!(says, "Login(…)");
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn any_user_and_password_survive(user: Vec<u8>, password: Vec<u8>, database: u32) {
        let text = format!("redis://{}:{}@h/{database}", encoded(&user), encoded(&password));
        let (_, says) = read(&text).unwrap();
        prop_assert_eq!(says.password.is_none(), user.is_empty() && password.is_empty());
        prop_assert_eq!(says.password.unwrap_or_default(), password);
        prop_assert_eq!((says.user, says.database), (user, database));
    }

    #[test]
    fn any_text_is_read_or_refused_in_a_sentence_of_ours(text in "(redis://|rediss://|)\\PC{0,40}") {
        if let Err(error) = read(&text) {
            let sentences = [
                "before the `@`", "its scheme", "behind the `/`", "there is an `@`", "the path of", "it names several",
                "its host and port", "its user or password",
            ];
            prop_assert!(sentences.iter().any(|sentence| error.starts_with(sentence)), "{}", error);
        }
    }
}
