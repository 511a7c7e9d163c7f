#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use clap::Parser as _;

mod any_text;
mod errors;
mod reload;

use super::*;
use crate::cli::Cli;
use crate::config::{
    Address, Deliver, InferParent, Listener, ListenerTls, LogFormat, Relation, Sampler, StreamRule,
    StreamSettings,
};

const NOTHING: [(&str, &str); 0] = [];

/// A variable that `upstream_env` may name.
const URL: (&str, &str) = ("SHOP_URL", "rediss://user:secret@host/2");

/// A configuration from a line of flags, variables, and the text of a file that is called `F` in errors.
fn read(
    flags: &[&str],
    env: &[(&str, &str)],
    file: &str,
) -> Result<(Config, Vec<String>), Vec<String>> {
    let mut line = vec!["tars-proxy"];
    line.extend(flags);
    let mut flags = Cli::try_parse_from(line).unwrap().flags;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tars.toml");
    if !file.is_empty() {
        std::fs::File::create(&path)
            .unwrap()
            .write_all(file.as_bytes())
            .unwrap();
        flags.config = Some(path.clone());
    }
    let shown = path.display().to_string();
    match load(&flags, &env.iter().copied().collect()) {
        Ok((config, warnings)) => Ok((
            config,
            warnings
                .iter()
                .map(|w| w.to_string().replace(&shown, "F"))
                .collect(),
        )),
        Err(error) => Err(error
            .to_string()
            .replace(&shown, "F")
            .lines()
            .map(str::to_owned)
            .collect()),
    }
}

fn good(flags: &[&str], env: &[(&str, &str)], file: &str) -> Config {
    let (config, warnings) = read(flags, env, file).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    config
}

/// A value of a setting, and what it does to the default.
type Effect = fn(&mut Config);

fn listener(config: &mut Config) -> &mut Listener {
    &mut config.listeners[0]
}

fn rules(config: &mut Config) -> &mut Rules {
    Arc::make_mut(&mut config.rules)
}

fn tls(config: &mut Config) -> &mut ListenerTls {
    listener(config).tls.get_or_insert_with(|| ListenerTls {
        cert: PathBuf::new(),
        key: PathBuf::new(),
        client_ca: None,
    })
}

/// What a setting needs beside it to be accepted, whatever it is set to.
fn needed(key: &str) -> &'static [&'static str] {
    match key {
        "upstream_cert" => &["upstream", "upstream_key"],
        "upstream_key" => &["upstream", "upstream_cert"],
        "upstream_ca" | "upstream_server_name" => &["upstream"],
        "tls_cert" => &["tls_key"],
        "tls_key" => &["tls_cert"],
        "tls_client_ca" => &["tls_cert", "tls_key"],
        _ => &[],
    }
}

/// Each setting with one value: its key, the table it stands in, a value, and the effect.
const SETTINGS: [(&str, &str, &str, Effect); 29] = [
    ("listen", "[[listener]]", "h:1", |c| {
        listener(c).listen = Address::tcp("h", 1)
    }),
    ("upstream", "[[listener]]", "rediss://h", |c| {
        listener(c).upstream = Some("rediss://h".parse().unwrap())
    }),
    ("upstream_env", "[[listener]]", URL.0, |c| {
        let (upstream, login) = crate::config::read_login(URL.1).unwrap();
        let listener = listener(c);
        listener.upstream = Some(upstream);
        listener.login = login;
        listener.upstream_env = Some(URL.0.into());
    }),
    ("service_name", "[[listener]]", "shop", |c| {
        listener(c).service_name = Some("shop".into())
    }),
    ("infer_parent", "[[listener]]", "process", |c| {
        listener(c).infer_parent = InferParent::Process
    }),
    ("upstream_ca", "[[listener]]", "/ca.pem", |c| {
        listener(c).upstream_tls.ca = Some("/ca.pem".into())
    }),
    ("upstream_cert", "[[listener]]", "/c.pem", |c| {
        listener(c).upstream_tls.cert = Some("/c.pem".into())
    }),
    ("upstream_key", "[[listener]]", "/k.pem", |c| {
        listener(c).upstream_tls.key = Some("/k.pem".into())
    }),
    ("upstream_server_name", "[[listener]]", "::1", |c| {
        listener(c).upstream_tls.server_name = Some("::1".into())
    }),
    ("tls_cert", "[[listener]]", "/t.pem", |c| {
        tls(c).cert = "/t.pem".into()
    }),
    ("tls_key", "[[listener]]", "/u.pem", |c| {
        tls(c).key = "/u.pem".into()
    }),
    ("tls_client_ca", "[[listener]]", "/v.pem", |c| {
        tls(c).client_ca = Some("/v.pem".into())
    }),
    ("admin", "", "[::]:1", |c| c.admin = Address::tcp("::", 1)),
    ("workers", "", "3", |c| c.workers = 3),
    ("region", "", "eu-west-1", |c| {
        c.region = Some("eu-west-1".into())
    }),
    ("relation", "", "link", |c| {
        rules(c).relation = Relation::Link
    }),
    ("process_timeout", "", "250ms", |c| {
        rules(c).process_timeout = Duration::from_millis(250)
    }),
    ("drain_timeout", "", "5m", |c| {
        c.drain_timeout = Duration::from_secs(300)
    }),
    ("no_trace", "", "true", |c| c.trace = false),
    ("log_level", "", "warn,tars_proxy=debug", |c| {
        c.log.level = "warn,tars_proxy=debug".to_owned()
    }),
    ("log_format", "", "json", |c| c.log.format = LogFormat::Json),
    ("max_message_bytes", "[limits]", "64KiB", |c| {
        c.limits.max_message_bytes = 65_536;
        c.limits.max_held_bytes = 128 * 65_536;
    }),
    ("max_held_bytes", "[limits]", "1GiB", |c| {
        c.limits.max_held_bytes = 1 << 30
    }),
    ("max_pending_replies", "[limits]", "1", |c| {
        c.limits.max_pending_replies = 1;
        c.limits.max_pending_bytes = 1024;
    }),
    ("max_pending_bytes", "[limits]", "64KiB", |c| {
        c.limits.max_pending_bytes = 65_536
    }),
    ("max_deliveries", "[limits]", "2", |c| {
        c.limits.max_deliveries = 2
    }),
    ("max_metric_names", "[limits]", "0", |c| {
        c.limits.max_metric_names = 0
    }),
    ("max_recent_spans", "[limits]", "0", |c| {
        c.limits.max_recent_spans = 0
    }),
    ("max_connections", "[limits]", "5", |c| {
        c.limits.max_connections = 5
    }),
];

#[test]
fn nothing_said_gives_the_defaults() {
    let config = good(&[], &NOTHING, "");
    assert_eq!(config, Config::default());
    assert_eq!(
        config.summary(),
        concat!(
            "listen 127.0.0.1:6380 -> redis://127.0.0.1:6379, service tars-proxy, infer_parent off\n",
            "admin 127.0.0.1:9464, workers 1\n",
            "relation parent, process_timeout 5m, sampled parent-based, 1 of new traces\n",
            "no stream rules\n",
        )
    );
}

#[test]
fn the_table_below_is_complete() {
    let tested: BTreeSet<_> = SETTINGS.iter().map(|(key, ..)| *key).collect();
    assert_eq!(tested, names::single().collect());
}

/// The file of the documentation: every key, as one writes it.
const WHOLE: &str = r#"
admin = "127.0.0.1:9464"
workers = 1
region = "eu-west-1"
relation = "parent"            # or "link"
process_timeout = "5m"
drain_timeout = "30s"
no_trace = false
log_level = "info"
log_format = "text"
[[listener]]
listen = "127.0.0.1:6380"
upstream = "redis://127.0.0.1:6379"
service_name = "shop"
infer_parent = "off"           # "connection", "process"
[[stream]]                     # first match wins
pattern = "hot-reload*"
trace = true
deliver = "keep"               # "propagate", "strip"
sample = 1.0
force = true
[limits]
max_message_bytes = "1MiB"
max_held_bytes = "128MiB"
max_pending_replies = 65_536
max_pending_bytes = "64MiB"
max_deliveries = 65_536
max_metric_names = 256
max_recent_spans = 10_000
max_connections = 10_000
"#;

#[test]
fn a_whole_file() {
    let config = good(&[], &NOTHING, WHOLE);
    let mut expected = Config {
        region: Some("eu-west-1".into()),
        file: config.file.clone(),
        ..Config::default()
    };
    listener(&mut expected).service_name = Some("shop".into());
    rules(&mut expected).streams = vec![StreamRule {
        sample: Some(1.0),
        force: true,
        ..StreamRule::new("hot-reload*".parse().unwrap())
    }];
    assert_eq!(config, expected);
}

#[test]
fn every_setting_in_each_of_the_three_ways() {
    for (key, table, text, effect) in SETTINGS {
        let mut expected = Config::default();
        let beside: Vec<_> = SETTINGS
            .into_iter()
            .filter(|(other, ..)| needed(key).contains(other))
            .collect();
        for (.., effect) in &beside {
            effect(&mut expected);
        }
        let without = expected.clone();
        effect(&mut expected);
        assert_ne!(expected, without, "{key}");
        let all = || beside.iter().copied().chain([(key, table, text, effect)]);
        let flags: Vec<_> = all()
            .map(|(key, _, text, _)| format!("{}={text}", names::flag(key)))
            .collect();
        let flag: Vec<_> = flags.iter().map(String::as_str).collect();
        assert_eq!(good(&flag, &[URL], ""), expected, "{flag:?}");
        let variables: Vec<_> = all()
            .map(|(key, _, text, _)| (names::variable(key), text))
            .collect();
        let variable: Vec<_> = variables
            .iter()
            .map(|(name, text)| (name.as_str(), *text))
            .chain([URL])
            .collect();
        assert_eq!(good(&[], &variable, ""), expected, "{variable:?}");
        let lines: Vec<_> = all()
            .map(|(key, _, text, _)| format!("{key} = {text:?}"))
            .collect();
        let as_text = format!("{table}\n{}", lines.join("\n"));
        let mut read = good(&[], &[URL], &as_text);
        assert!(read.file.take().is_some());
        assert_eq!(read, expected, "{as_text}");
        if text.bytes().all(|b| b.is_ascii_digit()) || text == "true" {
            let mut bare = good(&[], &[URL], &format!("{table}\n{key} = {text}"));
            bare.file = None;
            assert_eq!(bare, expected, "{key} = {text}");
        }
    }
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let file = "workers = 1\nregion = 'file'\nadmin = '127.0.0.1:1'\n[[listener]]\nlisten = '127.0.0.1:2'\nupstream = 'a:1'\n\
                service_name = 'file'\n[limits]\nmax_deliveries = 9";
    let env = [
        ("TARS_WORKERS", "2"),
        ("TARS_REGION", "env"),
        ("TARS_UPSTREAM", "b:1"),
        ("TARS_DELIVER", ""),
        ("TARS_ADMIN", ""),
    ];
    let config = good(&["--workers=3", "--upstream=c:1"], &env, file);
    assert_eq!(config.workers, 3);
    assert_eq!(config.region.as_deref(), Some("env"));
    assert_eq!(
        config.admin,
        Address::tcp("127.0.0.1", 1),
        "an empty variable is as none"
    );
    let [listener] = &config.listeners[..] else {
        unreachable!("one listener")
    };
    assert_eq!(listener.listen, Address::tcp("127.0.0.1", 2));
    assert_eq!(
        listener.upstream.as_ref().map(|upstream| &upstream.address),
        Some(&Address::tcp("c", 1))
    );
    assert_eq!(listener.service_name.as_deref(), Some("file"));
    assert_eq!(config.limits.max_deliveries, 9);
    assert_eq!(
        config.limits.max_connections,
        Limits::default().max_connections
    );
    assert!(
        good(
            &["--no-trace=false"],
            &[("TARS_NO_TRACE", "true")],
            "no_trace = true"
        )
        .trace
    );
    assert!(!good(&["--no-trace"], &[("TARS_NO_TRACE", "false")], "").trace);
}

#[test]
fn original_is_no_host() {
    let upstream = |text: &str| {
        let config = good(&[], &[("TARS_UPSTREAM", text)], "");
        config.listeners[0].upstream.clone()
    };
    assert_eq!(upstream("original"), None);
    let host = Some("redis://original".parse().unwrap());
    assert_eq!(upstream("redis://original"), host);
    assert_eq!(upstream("original:6379"), host);
}

#[test]
fn the_file_may_be_a_variable_s_text() {
    let text = "workers = 2\n[[listener]]\nlisten = 'h:1'\n[[listener]]\nlisten = 'h:2'";
    let config = good(&["--workers=3"], &[("TARS_CONFIG_INLINE", text)], "");
    assert_eq!((config.workers, config.listeners.len()), (3, 2));
    assert_eq!(config.describe()["config"], "TARS_CONFIG_INLINE");
    assert_eq!(
        good(&[], &[("TARS_CONFIG_INLINE", "")], ""),
        Config::default()
    );
    for (env, expected) in [
        (
            "\nworkers = 0\nwrokers = 1",
            &[
                "TARS_CONFIG_INLINE:2 workers: `0` is no whole number from 1 to 1024",
                "TARS_CONFIG_INLINE:3 wrokers: unknown key; the nearest known one is `workers`",
            ][..],
        ),
        (
            "upstream = \"redis://u:secret@h",
            &["TARS_CONFIG_INLINE:1: this is no TOML: invalid basic string, expected `\"`"],
        ),
    ] {
        assert_eq!(
            read(&[], &[("TARS_CONFIG_INLINE", env)], "").unwrap_err(),
            expected
        );
    }
    let both = read(&[], &[("TARS_CONFIG_INLINE", "workers = 2")], "workers = 2");
    assert_eq!(
        both.unwrap_err(),
        [
            "TARS_CONFIG_INLINE: --config or TARS_CONFIG names a file, too; leave one or the other out"
        ]
    );
}

#[test]
fn a_url_in_a_variable_says_where_and_who_unless_upstream_says_where() {
    let env = [("TARS_UPSTREAM_ENV", URL.0), URL];
    let config = good(&[], &env, "");
    let [listener] = &config.listeners[..] else {
        unreachable!("one listener")
    };
    assert_eq!(
        listener.upstream,
        Some("rediss://host:6379".parse().unwrap())
    );
    assert_eq!(listener.login.database, 2);
    let elsewhere = good(&["--upstream=near:1"], &env, "");
    assert_eq!(
        elsewhere.listeners[0].upstream,
        Some("redis://near:1".parse().unwrap())
    );
    assert_eq!(elsewhere.listeners[0].login, listener.login);
    // Nothing that shows a configuration shows the URL.
    let shown = format!("{}{}{config:?}", config.describe(), config.summary());
    assert!(
        !shown.contains("secret") && !shown.contains("user:"),
        "{shown}"
    );
    assert!(
        config
            .summary()
            .contains("rediss://host:6379 (user, password and database of SHOP_URL)")
    );
    for (env, expected) in [
        (
            vec![("TARS_UPSTREAM_ENV", "redis://u:secret@h")],
            "TARS_UPSTREAM_ENV: this is no name of a variable; write one such as REDIS_URL, whose value is the server's URL",
        ),
        (
            vec![("TARS_UPSTREAM_ENV", "NONE")],
            "TARS_UPSTREAM_ENV: there is no variable NONE, or it is empty; its value is the server's URL",
        ),
        (
            vec![("TARS_UPSTREAM_ENV", "U"), ("U", "http://u:secret@h")],
            "TARS_UPSTREAM_ENV: the variable U is no URL of a Redis server: its scheme is neither redis:// nor rediss://",
        ),
        (
            vec![
                ("TARS_UPSTREAM_ENV", "U"),
                ("U", "redis://u:secret@127.0.0.1:6380"),
            ],
            "TARS_UPSTREAM_ENV: redis://127.0.0.1:6380 is this listener itself (the default of listen); name the Redis behind it",
        ),
        (
            vec![
                ("TARS_UPSTREAM_ENV", "U"),
                ("U", "redis://h"),
                ("TARS_UPSTREAM", "original"),
            ],
            "TARS_UPSTREAM_ENV: with upstream original there is no one server that the URL could be for; leave one or the other out",
        ),
    ] {
        assert_eq!(read(&[], &env, "").unwrap_err(), [expected]);
    }
}

#[test]
fn the_variable_names_the_file_and_the_flag_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    std::fs::write(&path, "workers = 7").unwrap();
    let path = path.to_str().unwrap();
    let env: Environment = [("TARS_CONFIG", path)].into_iter().collect();
    assert_eq!(load(&Flags::default(), &env).unwrap().0.workers, 7);
    let flags = Flags {
        config: Some("/nowhere.toml".into()),
        ..Flags::default()
    };
    assert_eq!(
        load(&flags, &env).unwrap_err().to_string(),
        "/nowhere.toml: the file cannot be read (No such file or directory (os error 2)); --config or TARS_CONFIG names it"
    );
}

const THREE: &str = "[[listener]]\nlisten = 'h:1'\nservice_name = 'shop'\n[[listener]]\nlisten = 'h:2'\nservice_name = 'payment'\n\
                     infer_parent = 'process'\n[[listener]]\nlisten = 'h:3'\n";

#[test]
fn a_flag_holds_for_all_listeners_that_do_not_disagree() {
    let config = good(
        &["--upstream=r:1", "--infer-parent=connection"],
        &NOTHING,
        THREE,
    );
    let seen: Vec<_> = config
        .listeners
        .iter()
        .map(|l| {
            (
                l.listen.to_string(),
                crate::config::show_upstream(l.upstream.as_ref()),
                l.service_name.as_deref(),
                l.infer_parent,
            )
        })
        .collect();
    let redis = || "redis://r:1".to_owned();
    assert_eq!(
        seen,
        [
            (
                "h:1".to_owned(),
                redis(),
                Some("shop"),
                InferParent::Connection
            ),
            (
                "h:2".to_owned(),
                redis(),
                Some("payment"),
                InferParent::Connection
            ),
            ("h:3".to_owned(), redis(), None, InferParent::Connection),
        ]
    );
}

#[test]
fn stream_rules_and_overrides() {
    let file = "[[stream]]\npattern = 'hot-reload*'\nforce = true\nsample = 1\n\
                [[stream]]\npattern = 'audit'\ntrace = false\n[[stream]]\npattern = '*'\ndeliver = 'strip'\nsample = 0.5";
    let env = [
        ("TARS_DELIVER", "x=keep, a=b=propagate,"),
        ("TARS_SAMPLE", "*=0.25"),
    ];
    let config = good(&["--deliver=x*=propagate", "--sample=audit=1"], &env, file);
    let rules = &config.rules;
    let settings = |trace, deliver, sample, force| StreamSettings {
        trace,
        deliver,
        sample,
        force,
    };
    assert_eq!(
        rules.rule_for(b"hot-reload"),
        settings(true, Deliver::Keep, Some(0.25), false)
    );
    assert_eq!(
        rules.rule_for(b"audit"),
        settings(false, Deliver::Keep, Some(1.0), false)
    );
    assert_eq!(
        rules.rule_for(b"x"),
        settings(true, Deliver::Propagate, Some(0.25), false)
    );
    assert_eq!(rules.rule_for(b"a=b").deliver, Deliver::Propagate);
    assert_eq!(rules.rule_for(b"b").deliver, Deliver::Strip);
    let plain = good(&[], &NOTHING, file);
    assert_eq!(
        plain.rules.rule_for(b"hot-reload"),
        settings(true, Deliver::Keep, Some(1.0), true)
    );
    assert_eq!(
        plain.rules.rule_for(b"b"),
        settings(true, Deliver::Strip, Some(0.5), false)
    );
}

#[test]
fn the_sampler_and_the_service_name_come_from_opentelemetry() {
    for (name, arg, ratio, parent_based) in [
        ("always_on", "0.1", 1.0, false),
        ("always_off", "", 0.0, false),
        ("traceidratio", "0.1", 0.1, false),
        ("traceidratio", "", 1.0, false),
        ("parentbased_always_on", "", 1.0, true),
        ("PARENTBASED_always_off", "", 0.0, true),
        ("parentbased_traceidratio", "0.5", 0.5, true),
        ("", "0.5", 1.0, true),
    ] {
        let config = good(
            &[],
            &[
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", arg),
            ],
            "",
        );
        assert_eq!(
            config.rules.sampler,
            Sampler {
                ratio,
                parent_based
            },
            "{name} {arg}"
        );
    }
    for (env, expected) in [
        (vec![], "tars-proxy"),
        (vec![("OTEL_SERVICE_NAME", "a")], "a"),
        (
            vec![
                ("OTEL_SERVICE_NAME", "a"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b"),
            ],
            "a",
        ),
        (
            vec![("OTEL_RESOURCE_ATTRIBUTES", "k=v, service.name = b%2Cc%zz%")],
            "b,c%zz%",
        ),
        (
            vec![("OTEL_RESOURCE_ATTRIBUTES", "service.name=")],
            "tars-proxy",
        ),
        (vec![("OTEL_RESOURCE_ATTRIBUTES", "nonsense")], "tars-proxy"),
    ] {
        assert_eq!(&*good(&[], &env, "").service_name, expected, "{env:?}");
    }
}

#[test]
fn port_0_may_be_asked_for_twice() {
    let config = good(
        &["--admin=127.0.0.1:0"],
        &NOTHING,
        "[[listener]]\nlisten = '127.0.0.1:0'\n[[listener]]\nlisten = '127.0.0.1:0'",
    );
    assert_eq!(config.listeners.len(), 2);
}
