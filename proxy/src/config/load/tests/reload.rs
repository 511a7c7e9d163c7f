//! Reloads, and what a configuration shows of itself.

use super::*;

#[test]
fn a_reload_brings_rules_and_names_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tars.toml");
    let flags = Flags {
        config: Some(path.clone()),
        ..Flags::default()
    };
    let env = Environment::default();
    std::fs::write(&path, "").unwrap();
    let (current, _) = load(&flags, &env).unwrap();

    std::fs::write(
        &path,
        "process_timeout = '1s'\n[[stream]]\npattern = 'a'\nsample = 0.5",
    )
    .unwrap();
    let reloaded = reload(&flags, &env, &current).unwrap();
    assert_eq!(reloaded.restart, Vec::<&str>::new());
    assert_eq!(reloaded.rules.process_timeout, Duration::from_secs(1));
    assert_eq!(reloaded.rules.rule_for(b"a").sample, Some(0.5));

    std::fs::write(
        &path,
        "workers = 2\nadmin = 'h:1'\nregion = 'eu'\ndrain_timeout = '1s'\nno_trace = true\nlog_level = 'off'\nlog_format = 'json'\n\
         [[listener]]\nlisten = 'h:2'\n[limits]\nmax_deliveries = 1",
    )
    .unwrap();
    let reloaded = reload(&flags, &env, &current).unwrap();
    assert_eq!(
        reloaded.restart,
        [
            "listener",
            "limits",
            "admin",
            "workers",
            "region",
            "drain_timeout",
            "no_trace",
            "log_level",
            "log_format"
        ]
    );
    assert_eq!(*reloaded.rules, Rules::default());

    std::fs::write(&path, "workers =").unwrap();
    assert!(reload(&flags, &env, &current).is_err());
}

#[test]
fn the_description_has_every_setting_and_its_values() {
    let (mut file, mut expected) = (String::new(), Config::default());
    for wanted in ["", "[[listener]]", "[limits]"] {
        file += &format!("{wanted}\n");
        for (key, _, text, effect) in SETTINGS.iter().filter(|(_, table, ..)| *table == wanted) {
            file += &format!("{key} = {text:?}\n");
            effect(&mut expected);
        }
    }
    file += "[[stream]]\npattern = 'a*'\nforce = true\n";
    let described = good(&["--deliver=a=strip", "--sample=b=0.5"], &[URL], &file).describe();
    for (key, table, text, _) in SETTINGS {
        let place = match table {
            "[[listener]]" => &described["listener"][0],
            "[limits]" => &described["limits"],
            _ => &described,
        };
        let shown = match &place[key] {
            serde_json::Value::String(shown) => shown.clone(),
            other => other.to_string(),
        };
        assert_eq!(shown.trim_end_matches(":6379"), text, "{key}");
    }
    assert_eq!(
        described["stream"],
        serde_json::json!([{ "pattern": "a*", "trace": true, "deliver": "keep", "sample": null, "force": true }])
    );
    assert_eq!(
        described["deliver"],
        serde_json::json!([{ "pattern": "a", "value": "strip" }])
    );
    assert_eq!(
        described["sample"],
        serde_json::json!([{ "pattern": "b", "value": 0.5 }])
    );
}
