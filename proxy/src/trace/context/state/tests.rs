//! One row a rule of the standard, each named by its section: the fragment of
//! <https://www.w3.org/TR/trace-context-2/#…>.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn parse(values: &[&str]) -> TraceState {
    parse_tracestate(values.iter().map(|value| value.as_bytes()))
}

/// Members `k01=1` and so on.
fn members(count: usize) -> String {
    let members: Vec<_> = (1..=count)
        .map(|number| format!("k{number:02}=1"))
        .collect();
    members.join(",")
}

/// A member of so many characters. Its key is made of this letter, no longer than the value makes it.
fn member(letter: char, length: usize) -> String {
    let key = length.saturating_sub(1 + MAX_CHARACTERS).max(1);
    format!(
        "{}={}",
        letter.to_string().repeat(key),
        "v".repeat(length - key - 1)
    )
}

/// Checks rows of (section or case, rule, values, what is passed on), and names all that fail.
fn check(rows: &[(&str, &str, &[&str], &str)]) {
    let failed: Vec<_> = rows
        .iter()
        .filter(|(_, _, values, expected)| parse(values).as_str() != *expected)
        .map(|(section, rule, values, _)| format!("{section}: {rule}: {values:?}"))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
#[rustfmt::skip]
fn tracestate_follows_the_standard() {
    let (key, long_key) = (format!("{}=1", "k".repeat(256)), format!("{}=1", "k".repeat(257)));
    let (value, long_value) = (format!("k={}", "v".repeat(256)), format!("k={}", "v".repeat(257)));
    let vendor_key = format!("{}@{}=1", "t".repeat(241), "s".repeat(14));
    let (full, over) = (members(32), members(33));
    let (padded, repeated) = (format!(",{full},"), format!("{full},k01=1"));
    let (sixteen, seventeen) = (members(16), "a=1,".repeat(17));
    let empties = ",".repeat(100);
    check(&[
        ("relationship-between-the-headers", "the left-most is the latest", &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("tracestate-header-field-values", "several values are combined in order", &["a=1,b=2", "c=3", "d=4"], "a=1,b=2,c=3,d=4"),
        ("tracestate-header-field-values", "a comma separates values too", &["a", "=1"], ""),
        ("tracestate-header-field-values", "no value", &[], ""),
        ("tracestate-header-field-values", "empty values are accepted", &[""], ""),
        ("tracestate-header-field-values", "also between others", &["a=1", "", "b=2"], "a=1,b=2"),
        ("tracestate-header-field-values", "spaces and tabs around members", &["\t a=1 \t, \tb=2\t "], "a=1,b=2"),
        ("tracestate-header-field-values", "no other white space: line feed", &["a=1\n"], ""),
        ("tracestate-header-field-values", "no other white space: carriage return", &["\ra=1"], ""),
        ("tracestate-header-field-values", "empty members are accepted", &[",a=1,,b=2,"], "a=1,b=2"),
        ("tracestate-header-field-values", "of white space too", &["a=1, \t ,b=2, "], "a=1,b=2"),
        ("tracestate-header-field-values", "an equals sign in each", &["a=1,b"], ""),
        ("list", "32 members", &[&full], &full),
        ("list", "33 members", &[&over], ""),
        ("list", "33 members in two values", &[&full, "a=1"], ""),
        ("list", "empty ones carry nothing and do not count", &[&padded], &full),
        ("list", "however many", &[&empties, "a=1"], "a=1"),
        ("list", "a repeated one counts", &[&repeated], ""),
        ("list", "also below 32 keys", &[&sixteen, &seventeen], ""),
        ("key", "a letter first", &["k=1"], "k=1"),
        ("key", "or a digit", &["0k=1"], "0k=1"),
        ("key", "one character is enough", &["0=1"], "0=1"),
        ("key", "no other first", &["_k=1"], ""),
        ("key", "all characters", &["abcdefghijklmnopqrstuvwxyz0123456789_-*/@=1"], "abcdefghijklmnopqrstuvwxyz0123456789_-*/@=1"),
        ("key", "no upper case", &["kEy=1"], ""),
        ("key", "no space in it", &["k y=1"], ""),
        ("key", "no space behind it", &["k =1"], ""),
        ("key", "nothing beyond ASCII", &["k\u{e9}y=1"], ""),
        ("key", "not empty", &["=1"], ""),
        ("key", "256 characters", &[&key], &key),
        ("key", "257 characters", &[&long_key], ""),
        ("key", "tenant and system have no lengths of their own", &[&vendor_key], &vendor_key),
        ("key", "the system may be empty", &["tenant@=1"], "tenant@=1"),
        ("key", "the tenant may not", &["@system=1"], ""),
        ("key", "more than one at sign", &["a@b@@c=1"], "a@b@@c=1"),
        ("value", "not empty", &["k="], ""),
        ("value", "not only spaces", &["k=   "], ""),
        ("value", "leading spaces are part of it", &["k=  1"], "k=  1"),
        ("value", "inner spaces too", &["k=1  2"], "k=1  2"),
        ("value", "trailing spaces are not", &["k=1  "], "k=1"),
        ("value", "no equals sign", &["k=1=2"], ""),
        ("value", "no tab", &["k=1\t2"], ""),
        ("value", "no tab in front", &["k=\t1"], ""),
        ("value", "no control character", &["k=1\x7f"], ""),
        ("value", "nothing beyond ASCII", &["k=\u{e9}"], ""),
        ("value", "all others", &["k= !\"#$%&'()*+-./0:;<>?@AZ[\\]^_`az{|}~"], "k= !\"#$%&'()*+-./0:;<>?@AZ[\\]^_`az{|}~"),
        ("value", "256 characters", &[&value], &value),
        ("value", "257 characters", &[&long_value], ""),
        ("combined-header-value", "one entry a key: the first is the latest", &["congo=2,rojo=1,congo=1"], "congo=2,rojo=1"),
        ("combined-header-value", "over several values too", &["congo=2,rojo=1", "congo=1"], "congo=2,rojo=1"),
        ("combined-header-value", "a key that begins alike is another", &["a=1,ab=2,a@b=3"], "a=1,ab=2,a@b=3"),
        ("a-traceparent-is-received", "one member that cannot be parsed: all are discarded", &["a=1,B=2,c=3"], ""),
        ("a-traceparent-is-received", "in any of the values", &["a=1", "B=2"], ""),
    ]);
}

/// Section `tracestate-limits`: rows of (rule, members' lengths, which of them are passed on).
#[test]
fn tracestate_is_shortened_as_the_standard_says() {
    let rows: &[(&str, &[usize], &[usize])] = &[
        (
            "512 characters with their commas",
            &[127, 127, 127, 128],
            &[0, 1, 2, 3],
        ),
        (
            "one more: whole entries go, from the end",
            &[128, 127, 127, 128],
            &[0, 1, 2],
        ),
        (
            "as many as it takes",
            &[100, 100, 100, 100, 100, 100, 100],
            &[0, 1, 2, 3, 4],
        ),
        (
            "a long one goes first, wherever it is",
            &[129, 128, 128, 128],
            &[1, 2, 3],
        ),
        ("128 is not long", &[128, 128, 128, 129], &[0, 1, 2]),
        (
            "of long ones the last, no more than it takes",
            &[200, 250, 40, 200, 10],
            &[0, 1, 2, 4],
        ),
        (
            "all the long ones, then the end",
            &[128, 300, 128, 300, 128, 128, 10],
            &[0, 2, 4],
        ),
        ("long ones stay while there is room", &[258, 253], &[0, 1]),
        ("the longest two that there are", &[513, 513], &[]),
    ];
    for (rule, lengths, kept) in rows {
        let members: Vec<_> = ('a'..)
            .zip(*lengths)
            .map(|(key, &length)| member(key, length))
            .collect();
        let kept: Vec<_> = kept.iter().map(|&index| members[index].clone()).collect();
        assert_eq!(
            parse(&[&members.join(",")]).as_str(),
            kept.join(","),
            "{rule}"
        );
    }
}

/// The cases of the W3C's test suite (github.com/w3c/trace-context, `test/test.py` and `test/tracecontext/`) that concern
/// the value, by name. Those on header names and on a missing `traceparent` concern whoever looks for the fields.
#[test]
#[rustfmt::skip]
fn tracestate_passes_the_cases_of_the_test_suite() {
    let key = format!("{}{}_-*/", ('a'..='z').collect::<String>(), ('0'..='9').collect::<String>());
    let value: String = (' '..='~').filter(|&c| c != ',' && c != '=').collect();
    let (plain, vendor) = (format!("{key}={value}"), format!("{key}@a-z0-9_-*/={value}"));
    let [z256, z257] = [256, 257].map(|length| format!("{}=1", "z".repeat(length)));
    let tenants = [(241, 14), (242, 1), (1, 15)].map(|(t, v)| format!("{}@{}=1", "t".repeat(t), "v".repeat(v)));
    let with_foo = |member: &str| format!("foo=1,{member}");
    let parts = |last| [(1, 10), (11, 20), (21, 30), (31, last)].map(|(from, to)| {
        (from..=to).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
    });
    let (within, beyond) = (parts(32), parts(33));
    check(&[
        ("test_tracestate_included_traceparent_included", "inherited", &["foo=1,bar=2"], "foo=1,bar=2"),
        ("test_tracestate_empty_header", "alone", &[""], ""),
        ("test_tracestate_empty_header", "behind", &["foo=1", ""], "foo=1"),
        ("test_tracestate_empty_header", "in front", &["", "foo=1"], "foo=1"),
        ("test_tracestate_multiple_headers_different_keys", "in order", &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        ("test_tracestate_duplicated_keys", "same value", &["foo=1,foo=1"], "foo=1"),
        ("test_tracestate_duplicated_keys", "other value", &["foo=1,foo=2"], "foo=1"),
        ("test_tracestate_duplicated_keys", "two headers, same value", &["foo=1", "foo=1"], "foo=1"),
        ("test_tracestate_duplicated_keys", "two headers, other value", &["foo=1", "foo=2"], "foo=1"),
        ("test_tracestate_all_allowed_characters", "plain key", &[&plain], &plain),
        ("test_tracestate_all_allowed_characters", "key with a vendor", &[&vendor], &vendor),
        ("test_tracestate_ows_handling", "between", &["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        ("test_tracestate_ows_handling", "tabs between", &["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        ("test_tracestate_ows_handling", "a space in front", &[" foo=1"], "foo=1"),
        ("test_tracestate_ows_handling", "a tab in front", &["\tfoo=1"], "foo=1"),
        ("test_tracestate_ows_handling", "a space behind", &["foo=1 "], "foo=1"),
        ("test_tracestate_ows_handling", "a tab behind", &["foo=1\t"], "foo=1"),
        ("test_tracestate_ows_handling", "around", &["\t foo=1 \t"], "foo=1"),
        ("test_tracestate_key_illegal_characters", "space", &["foo =1"], ""),
        ("test_tracestate_key_illegal_characters", "upper case", &["FOO=1"], ""),
        ("test_tracestate_key_illegal_characters", "dot", &["foo.bar=1"], ""),
        ("test_tracestate_key_illegal_vendor_format", "no vendor", &["foo@=1,bar=2"], "foo@=1,bar=2"),
        ("test_tracestate_key_illegal_vendor_format", "at sign first", &["@foo=1,bar=2"], ""),
        ("test_tracestate_key_illegal_vendor_format", "two at signs", &["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        ("test_tracestate_key_illegal_vendor_format", "two vendors", &["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
        ("test_tracestate_member_count_limit", "32", &within.each_ref().map(String::as_str), &within.join(",")),
        ("test_tracestate_member_count_limit", "33", &beyond.each_ref().map(String::as_str), ""),
        ("test_tracestate_key_length_limit", "256", &["foo=1", &z256], &with_foo(&z256)),
        ("test_tracestate_key_length_limit", "257", &["foo=1", &z257], ""),
        ("test_tracestate_key_length_limit", "241 and 14", &["foo=1", &tenants[0]], &with_foo(&tenants[0])),
        ("test_tracestate_key_length_limit", "242 and 1", &["foo=1", &tenants[1]], &with_foo(&tenants[1])),
        ("test_tracestate_key_length_limit", "1 and 15", &["foo=1", &tenants[2]], &with_foo(&tenants[2])),
        ("test_tracestate_value_illegal_characters", "equals sign", &["foo=bar=baz"], ""),
        ("test_tracestate_value_illegal_characters", "empty", &["foo=,bar=3"], ""),
        ("TestTracestate.test_ctor_with_string", "no equals sign", &["foobarbaz"], ""),
        ("TestTracestate.test_method_from_string", "order", &["baz=3", "bar=2", "foo=1"], "baz=3,bar=2,foo=1"),
    ]);
}

/// Section `mutating-the-tracestate-field`, and the suite's `test_setitem`: rows of (rule, list, key, value, list
/// afterwards; `None`: refused, and the list is as it was).
#[test]
#[rustfmt::skip]
fn tracestate_is_changed_as_the_standard_allows() {
    let (full, repeated) = (members(32), members(31));
    let (added, updated) = (format!("new=1,{repeated}"), format!("k32=2,{repeated}"));
    let first = format!("k01=2{}", &full[5..]);
    let (long, longer) = ("v".repeat(256), "v".repeat(257));
    let [a, c] = ['a', 'c'].map(|letter| member(letter, 200));
    let (crowded, shortened) = (format!("{a},{c}"), format!("b={long},{a}"));
    let rows: &[(&str, &str, &str, &str, Option<&str>)] = &[
        ("add: to an empty list", "", "foo", "1", Some("foo=1")),
        ("add: at the beginning", "a=1,b=2", "foo", "1", Some("foo=1,a=1,b=2")),
        ("add: a key that begins like another", "ab=1", "a", "1", Some("a=1,ab=1")),
        ("add: the right-most of more than 32 is removed", &full, "new", "1", Some(&added)),
        ("update: moves to the beginning", "a=1,b=2,c=3", "b", "0", Some("b=0,a=1,c=3")),
        ("update: the only one", "a=1", "a", "2", Some("a=2")),
        ("update: never the same key twice, with 32 members: first", &full, "k01", "2", Some(&first)),
        ("update: never the same key twice, with 32 members: last", &full, "k32", "2", Some(&updated)),
        ("update: the order of the others is kept", "a=1,b=2,c=3,d=4", "d", "0", Some("d=0,a=1,b=2,c=3")),
        ("add: the limits hold", &crowded, "b", &long, Some(&shortened)),
        ("key: with a vendor", "", "special@vendor", "1", Some("special@vendor=1")),
        ("key: without one", "", "special@", "1", Some("special@=1")),
        ("key: two at signs", "", "special@@vendor", "1", Some("special@@vendor=1")),
        ("key: digit first", "", "1special", "1", Some("1special=1")),
        ("key: at sign first", "a=1", "@vendor", "1", None),
        ("key: dot", "a=1", "special.vendor", "1", None),
        ("key: upper case", "a=1", "FOO", "1", None),
        ("key: empty", "a=1", "", "1", None),
        ("key: with white space around", "a=1", " foo", "1", None),
        ("key: equals sign", "a=1", "b=c", "1", None),
        ("key: comma", "a=1", "b=1,c", "1", None),
        ("value: empty", "a=1", "b", "", None),
        ("value: equals sign", "a=1", "b", "c=d", None),
        ("value: comma", "a=1", "b", "1,c", None),
        ("value: ends in a space", "a=1", "b", "1 ", None),
        ("value: begins with one", "a=1", "b", " 1", Some("b= 1,a=1")),
        ("value: too long", "a=1", "b", &longer, None),
    ];
    for (rule, before, key, value, after) in rows {
        let mut state = parse(&[before]);
        assert_eq!(state.insert(key, value), after.is_some(), "{rule}");
        assert_eq!(state.as_str(), after.unwrap_or(before), "{rule}");
    }
}

#[test]
fn every_byte_is_judged_by_the_grammar() {
    for byte in 0..=u8::MAX {
        let first = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let later = first || b"_-*/@".contains(&byte);
        let value = (0x20..=0x7e).contains(&byte) && !b",=".contains(&byte);
        let around = b" \t,".contains(&byte);
        // Places in a member, and whether the byte may stand there. A comma makes two members of it, and then neither
        // part is one, except at the ends, where it makes an empty one.
        for (member, index, valid) in [
            (b"?ey=val", 0, first || b" \t,".contains(&byte)),
            (b"k?y=val", 1, later),
            (b"key=?al", 4, value),
            (b"key=v?l", 5, value),
            (b"key=va?", 6, value || around),
        ] {
            let mut member = *member;
            member[index] = byte;
            assert_eq!(
                !parse_tracestate([&member[..]]).is_empty(),
                valid,
                "{byte:#04x} at {index}"
            );
        }
    }
}

#[test]
fn nothing_to_write_costs_nothing() {
    for empty in [
        TraceState::default(),
        parse(&[]),
        parse(&[" ,\t"]),
        parse(&["invalid"]),
    ] {
        assert!(empty.is_empty() && empty.0.is_none());
        assert_eq!(empty.as_str(), "");
    }
}

#[test]
fn a_clone_shares_the_text() {
    let state = parse(&["a=1"]);
    assert!(std::ptr::eq(state.as_str(), state.clone().as_str()));
    assert_eq!(
        (format!("{state}"), format!("{state:?}")),
        ("a=1".into(), "\"a=1\"".into())
    );
}

#[test]
fn what_is_mostly_padding_is_not_read() {
    let padding = " ".repeat(MAX_READ - 3);
    assert_eq!(parse(&[&padding, "a=1"]).as_str(), "a=1");
    assert_eq!(parse(&[&padding, " ", "a=1"]).as_str(), "");
}

/// The longest list that the grammar allows is read, however little of it is passed on.
#[test]
fn the_longest_list_is_read() {
    let list: Vec<_> = (0..MAX_MEMBERS)
        .map(|n| format!("{n:0>256}={}", "v".repeat(256)))
        .collect();
    assert_eq!(parse(&[&list.join(" , ")]).as_str(), "");
    let short = format!("a=1,{}", list[..31].join(","));
    assert_eq!(parse(&[&short]).as_str(), "a=1");
}

/// Valid members with different keys: of equal keys only the first is passed on.
fn lists() -> impl Strategy<Value = Vec<String>> {
    let member = ("[a-z0-9][a-z0-9_*/@-]{0,8}", "[ -+.-<>-~]{0,8}[!-+.-<>-~]");
    prop::collection::vec(member, 0..=MAX_MEMBERS).prop_map(|members| {
        let numbered = members.into_iter().enumerate();
        numbered
            .map(|(n, (key, value))| format!("{key}{n:02}={value}"))
            .collect()
    })
}

proptest! {
    #[test]
    fn a_valid_list_survives_padding_and_splitting(
        list in lists(),
        padding in prop::collection::vec(("[ \t]{0,3}", "[ \t]{0,3},", any::<bool>()), MAX_MEMBERS),
    ) {
        let mut values = vec![String::new()];
        for (member, (before, after, split)) in list.iter().zip(&padding) {
            values.last_mut().unwrap().push_str(&format!("{before}{member}{after}"));
            if *split {
                values.push(String::new());
            }
        }
        let whole = parse(&[&list.join(",")]);
        prop_assert_eq!(&parse_tracestate(values.iter().map(|value| value.as_bytes())), &whole);
        if list.join(",").len() <= MAX_PROPAGATED {
            prop_assert_eq!(whole.as_str(), list.join(","));
        }
    }

    #[test]
    fn what_is_passed_on_is_the_list_shortened(list in lists()) {
        let whole = parse(&[&list.join(",")]);
        prop_assert!(whole.as_str().len() <= MAX_PROPAGATED);
        // No member is long here, so that only the end is missing, and no more of it than has to be.
        let kept = whole.as_str().split(',').filter(|member| !member.is_empty()).count();
        prop_assert_eq!(whole.as_str(), list[..kept].join(","));
        prop_assert!(kept == list.len() || list[..=kept].join(",").len() > MAX_PROPAGATED);
    }

    #[test]
    fn whatever_is_accepted_reads_the_same_again(values: Vec<Vec<u8>>) {
        let state = parse_tracestate(values.iter().map(Vec::as_slice));
        prop_assert_eq!(&parse(&[state.as_str()]), &state);
    }

    #[test]
    fn nearly_valid_lists_read_the_same_again(value in "([a-c@]{1,2}=?[ a=\t]{0,3}[,\t ]{1,2}){0,40}") {
        let state = parse(&[&value]);
        prop_assert!(state.as_str().len() <= MAX_PROPAGATED);
        prop_assert_eq!(&parse(&[state.as_str()]), &state);
    }

    #[test]
    fn an_inserted_member_is_first(list in lists(), key in "[a-c][a-z0-9]{0,3}", value in "[ -+.-<>-~]{0,8}[!-~]") {
        let mut state = parse(&[&list.join(",")]);
        let before = state.clone();
        if state.insert(&key, &value) {
            let added = format!("{key}={value}");
            prop_assert_eq!(state.as_str().split(',').next(), Some(added.as_str()));
            prop_assert_eq!(&parse(&[state.as_str()]), &state);
        } else {
            prop_assert_eq!(state, before);
            prop_assert!(value.contains([',', '=']));
        }
    }
}
