//! No text, wherever it is written, makes anything panic.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_value_of_a_flag_or_variable_panics(key in 0..SETTINGS.len(), text in ".{1,20}") {
        let key = SETTINGS[key].0;
        let env: Environment = [(names::variable(key), text)].into_iter().collect();
        let _ = load(&Flags::default(), &env);
    }

    #[test]
    fn no_file_panics(text in lines()) {
        if let Ok((config, _)) = load_text(&Flags::default(), &Environment::default(), &text) {
            prop_assert!(!config.listeners.is_empty());
            prop_assert!(config.workers > 0);
        }
    }
}

/// Keys where they belong, or nearly, with values that are good, or nearly.
fn lines() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = [names::TOP, names::LISTENER, names::LIMITS, names::STREAM].concat();
    let table = prop_oneof![
        Just("[[listener]]"),
        Just("[[stream]]"),
        Just("[limits]"),
        Just("")
    ];
    let value = prop_oneof![
        "[0-9]{1,5}",
        "[01]\\.[0-9]",
        "true|false",
        "'([a-z0-9]{1,4}:[0-9]{1,3}|[0-9]{1,3}(ms|s|m|KiB)|[a*?\\[\\]^-]{0,5}|keep|strip|link|.{0,6})'",
    ];
    let line =
        (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}"));
    let part = (table, proptest::collection::vec(line, 0..4));
    proptest::collection::vec(part, 0..5).prop_map(|parts| {
        parts
            .iter()
            .map(|(table, lines)| format!("{table}\n{}\n", lines.join("\n")))
            .collect()
    })
}
