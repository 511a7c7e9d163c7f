#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    parse(&Path::new("F").into(), text, &mut problems);
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn takes_the_whole_shape_apart() {
    let mut found = Vec::new();
    let text = r#"
        admin = "127.0.0.1:9464"
        workers = 1_0
        [[listener]]
        listen = "127.0.0.1:6380"
        [[stream]]
        pattern = "hot-reload*"
        trace = true
        sample = 1.0
        [limits]
        max_deliveries = 7
    "#;
    let source = parse(&Path::new("F").into(), text, &mut found);
    assert_eq!(found, []);
    let shown = |table: &Table| -> Vec<_> {
        table
            .values
            .iter()
            .map(|(key, given)| format!("{key} = {} ({})", given.text, given.origin))
            .collect()
    };
    assert_eq!(
        shown(&source.settings),
        [
            "admin = 127.0.0.1:9464 (F:2 admin)",
            "max_deliveries = 7 (F:11 limits.max_deliveries)",
            "workers = 10 (F:3 workers)"
        ]
    );
    assert_eq!(
        source.listeners.iter().map(shown).collect::<Vec<_>>(),
        [["listen = 127.0.0.1:6380 (F:5 listener.listen)"]]
    );
    assert_eq!(
        source.streams.iter().map(shown).collect::<Vec<_>>(),
        [[
            "pattern = hot-reload* (F:7 stream.pattern)",
            "sample = 1.0 (F:9 stream.sample)",
            "trace = true (F:8 stream.trace)"
        ]]
    );
    assert_eq!(
        source
            .streams
            .first()
            .unwrap()
            .origin
            .as_ref()
            .unwrap()
            .to_string(),
        "F:6 stream"
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    for (text, expected) in [
        (
            "# c\nwrokers = 1",
            "F:2 wrokers: unknown key; the nearest known one is `workers`",
        ),
        (
            "process-timeout = '5m'",
            "F:1 process-timeout: unknown key; the nearest known one is `process_timeout`",
        ),
        (
            "\r\n\r\n\"drain timeout\" = '5m'",
            "F:3 drain timeout: unknown key; the nearest known one is `drain_timeout`",
        ),
        (
            "[[listeners]]",
            "F:1 listeners: unknown key; the nearest known one is `listener`",
        ),
        (
            "[limit]\nmax_deliveries = 1",
            "F:1 limit: unknown key; the nearest known one is `limits`",
        ),
        (
            "upstream = 'redis://h'",
            "F:1 upstream: unknown key here: it belongs in [[listener]]",
        ),
        (
            "max_deliveries = 1",
            "F:1 max_deliveries: unknown key here: it belongs in [limits]",
        ),
        (
            "trace = false",
            "F:1 trace: unknown key here: it belongs in [[stream]]",
        ),
        (
            "[[listener]]\nworkers = 1",
            "F:2 listener.workers: unknown key here: it belongs at the top of the file",
        ),
        (
            "servce_name = 'x'",
            "F:1 servce_name: unknown key; the nearest known one is `service_name`, which belongs in [[listener]]",
        ),
        (
            "[limits]\nwrokers = 1",
            "F:2 limits.wrokers: unknown key; the nearest known one is `workers`, which belongs at the top of the file",
        ),
        (
            "[[listener]]\nupstraem = 'h'",
            "F:2 listener.upstraem: unknown key; the nearest known one is `upstream`",
        ),
        (
            "[[stream]]\ndelivery = 'keep'",
            "F:2 stream.delivery: unknown key; the nearest known one is `deliver`",
        ),
        (
            "[limits]\nmax_spans = 1",
            "F:2 limits.max_spans: unknown key; the nearest known one is `max_recent_spans`",
        ),
        (
            "[[stream]]\nzzz = 1",
            "F:2 stream.zzz: unknown key; known ones are pattern, trace, deliver, sample and force",
        ),
        (
            "'\\u001b' = 1",
            "F:1 \\\\u001b: unknown key; known ones are admin, workers, region, relation, process_timeout, drain_timeout, no_trace, \
             log_level, log_format, listener, stream and limits",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn a_wrong_kind_of_value_is_named() {
    for (text, expected) in [
        (
            "workers = [1]",
            "F:1 workers: this is a list; write a single value",
        ),
        (
            "region.eu = 1",
            "F:1 region: this is a table; write a single value",
        ),
        (
            "region = 1979-05-27",
            "F:1 region: this is a date; write a single value",
        ),
        ("limits = 1", "F:1 limits: this is a table; write [limits]"),
        ("[[limits]]", "F:1 limits: this is a table; write [limits]"),
        (
            "[listener]",
            "F:1 listener: this is a list of tables; write [[listener]]",
        ),
        (
            "stream = 'a'",
            "F:1 stream: this is a list of tables; write [[stream]]",
        ),
        (
            "stream = [\n'a']",
            "F:2 stream: this is a list of tables; write [[stream]]",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn what_is_no_toml_is_named_by_its_line_only() {
    for (text, expected) in [
        (
            "workers = 1\nworkers = 2",
            "F:2: this is no TOML: duplicate key",
        ),
        (
            "\nworkers 1",
            "F:2: this is no TOML: key with no value, expected `=`",
        ),
        (
            "upstream = redis://u:s3cret@h",
            "F:1: this is no TOML: string values must be quoted, expected literal string",
        ),
        (
            "a = \"s3cret",
            "F:1: this is no TOML: invalid basic string, expected `\"`",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let read_problem = |path: &Path| {
        let mut problems = Vec::new();
        read(path, &mut problems);
        problems.into_iter().map(|p| p.message).collect::<Vec<_>>()
    };
    let path = dir.path().join("f");
    assert_eq!(
        read_problem(&path),
        [
            "the file cannot be read (No such file or directory (os error 2)); --config or TARS_CONFIG names it"
        ]
    );
    std::fs::write(&path, b"a = '\xff'").unwrap();
    assert_eq!(
        read_problem(&path),
        ["the file is no UTF-8 text; TOML is written in UTF-8"]
    );
    assert_eq!(
        read_problem(Path::new("/dev/zero")),
        ["the file is larger than 1MiB; it cannot be a configuration"]
    );
    std::fs::write(&path, "workers = 1").unwrap();
    assert_eq!(read_problem(&path), Vec::<String>::new());
}

/// Lines that are nearly a configuration.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "(workers|region|admin|listener|stream|limits|[a-z_.\"]{1,6}) ?= ?([0-9]{1,3}|'[a-z*\\[]{0,4}'|\\[.{0,3}\\]|\\{.{0,3}\\}|.{0,8})",
        r"\[{1,2}(listener|stream|limits|[a-z]{0,3})\]{1,2}",
        ".{0,20}",
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_panics(text in lines(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for problem in problems(&text) {
            prop_assert!(!problem.contains('\n'), "{}", problem);
        }
        problems(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn deep_nesting_ends(depth in 1..20_000_usize, open in prop_oneof![Just("["), Just("{a="), Just("a.")]) {
        problems(&format!("workers = {}", open.repeat(depth)));
        problems(&format!("{}b = 1", open.repeat(depth)));
    }
}
