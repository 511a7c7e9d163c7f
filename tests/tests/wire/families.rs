//! Every command of every server, family by family: `families/*.txt`.

use std::collections::BTreeSet;

use tars_tests::family::Family;
use tars_tests::server::{Kind, Server};

macro_rules! families {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                Family::of(include_str!(concat!("families/", stringify!($name), ".txt"))).check_all();
            }
        )*

        const TABLES: &[&str] = &[
            $(include_str!(concat!("families/", stringify!($name), ".txt"))),*
        ];
    };
}

families! {
    acl bitmaps clients cluster command_tables commands config functions geo hash_fields hashes hyperloglog introspection keys
    lists scripting server sets sorted_sets streams strings time_outs vectors
}

/// Commands that change how replies come, or whether: the file beside this one that has them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("auth", include_str!("authentication.rs")),
    ("cluster|syncslots", include_str!("relays.rs")),
    ("discard", include_str!("transactions.rs")),
    ("exec", include_str!("transactions.rs")),
    ("hello", include_str!("protocols.rs")),
    ("monitor", include_str!("relays.rs")),
    ("multi", include_str!("transactions.rs")),
    ("psubscribe", include_str!("pubsub.rs")),
    ("psync", include_str!("relays.rs")),
    ("punsubscribe", include_str!("pubsub.rs")),
    ("quit", include_str!("relays.rs")),
    ("replconf", include_str!("relays.rs")),
    ("reset", include_str!("transactions.rs")),
    ("script|debug", include_str!("relays.rs")),
    ("ssubscribe", include_str!("pubsub.rs")),
    ("subscribe", include_str!("pubsub.rs")),
    ("sunsubscribe", include_str!("pubsub.rs")),
    ("sync", include_str!("relays.rs")),
    ("unsubscribe", include_str!("pubsub.rs")),
];

#[test]
fn no_command_of_any_server_is_missing() {
    let mut known: BTreeSet<String> = TABLES
        .iter()
        .flat_map(|table| Family::of(table).names().collect::<Vec<_>>())
        .collect();
    for (name, file) in ELSEWHERE {
        let command = name.to_uppercase().replace('|', " ");
        assert!(file.contains(&command), "{command} is not there");
        known.insert((*name).to_owned());
    }
    for kind in Kind::ALL {
        let list = Server::of(kind).connect().call(&["COMMAND", "LIST"]);
        let names = list.lines().filter(|line| !line.starts_with(['*', '$']));
        let missing: Vec<&str> = names
            .filter(|name| !known.contains(&name.to_lowercase()))
            .collect();
        assert_eq!(missing, [""; 0], "{kind}");
    }
}
