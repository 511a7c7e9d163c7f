#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::super::netlink::{ERROR, Messages};
use super::*;

/// What the kernel would tell of a change that was made: its messages that make something.
fn told(change: &[u8]) -> Vec<Object> {
    Messages(change)
        .filter_map(|message| read(&message.unwrap()).unwrap())
        .collect()
}

#[test]
fn rules_that_are_written_read_back() {
    let rules = [
        Rule::Except(0),
        Rule::Except(8277),
        Rule::Redirect {
            port: 6379,
            to: 16380,
        },
        Rule::Redirect { port: 65535, to: 1 },
    ];
    let (change, last) = replace(&rules);
    let table = Object::Table { active: true };
    let expected: Vec<_> = [table, table, Object::Chain { ours: true }]
        .into_iter()
        .chain(rules.map(Object::Rule))
        .collect();
    assert_eq!(told(&change), expected);
    let kinds: Vec<_> = Messages(&change)
        .map(|message| message.unwrap())
        .map(|message| (message.kind, message.sequence))
        .collect();
    assert_eq!(kinds.first(), Some(&(BATCH_BEGIN, 0)));
    assert_eq!(kinds.last(), Some(&(BATCH_END, last + 1)));
    assert_eq!(last, 8);
    assert!(kinds.contains(&(DELETE_TABLE, 2)));
}

/// The bytes that nft 1.0.6 sends for `meta skuid 8277 return`.
#[test]
fn a_rule_is_written_as_nft_writes_it() {
    let mut writer = Writer::default();
    for expression in expressions(Rule::Except(8277)) {
        expression.write(&mut writer);
    }
    let expected = b"\x24\x00\x01\x80\x09\x00\x01\x00meta\0\0\0\0\x14\x00\x02\x80\x08\x00\x02\x00\x00\x00\x00\x0a\x08\x00\x01\x00\x00\x00\x00\x01\
        \x2c\x00\x01\x80\x08\x00\x01\x00cmp\0\x20\x00\x02\x80\x08\x00\x01\x00\x00\x00\x00\x01\x08\x00\x02\x00\x00\x00\x00\x00\x0c\x00\x03\x80\x08\x00\x01\x00\x55\x20\x00\x00\
        \x30\x00\x01\x80\x0e\x00\x01\x00immediate\0\0\0\x1c\x00\x02\x80\x08\x00\x01\x00\x00\x00\x00\x00\x10\x00\x02\x80\x0c\x00\x02\x80\x08\x00\x01\x00\xff\xff\xff\xfb";
    assert_eq!(writer.finish(), expected);
}

#[test]
fn what_is_not_ours_is_told_from_what_is() {
    let rule = |chain: &str, expressions: &[Expression]| {
        let mut writer = Writer::default();
        writer.message(NEW_RULE, 0, 0, FAMILY, 0, |message| {
            message.name(attribute::RULE_TABLE, TABLE);
            message.name(attribute::RULE_CHAIN, chain);
            message.nested(attribute::RULE_EXPRESSIONS, |list| {
                for expression in expressions {
                    expression.write(list);
                }
            });
        });
        told(&writer.finish())
    };
    let except = expressions(Rule::Except(1));
    assert_eq!(rule(CHAIN, &except), [Object::Rule(Rule::Except(1))]);
    let foreign = [Object::Rule(Rule::Foreign)];
    assert_eq!(rule("input", &except), foreign);
    assert_eq!(rule(CHAIN, &[]), foreign);
    assert_eq!(rule(CHAIN, &except[..2]), foreign);
    let group = [Expression::Meta(11), except[1], except[2]];
    assert_eq!(rule(CHAIN, &group), foreign);

    let object = |family, table: &str| {
        let mut writer = Writer::default();
        writer.message(NEW_TABLE, 0, 0, family, 0, |message| {
            message.name(attribute::TABLE_NAME, table);
            message.number(attribute::TABLE_FLAGS, 1);
        });
        told(&writer.finish())
    };
    assert_eq!(object(FAMILY, TABLE), [Object::Table { active: false }]);
    assert_eq!(object(2, TABLE), [], "another family");
    assert_eq!(object(FAMILY, "filter"), []);
}

proptest! {
    #[test]
    fn any_rules_read_back(uids in proptest::collection::vec(any::<u32>(), 0..5), ports in proptest::collection::vec(any::<(u16, u16)>(), 0..5)) {
        let except = uids.into_iter().map(Rule::Except);
        let rules: Vec<_> = except
            .chain(ports.into_iter().map(|(port, to)| Rule::Redirect { port, to }))
            .collect();
        let found: Vec<_> = told(&replace(&rules).0)
            .into_iter()
            .filter_map(|object| match object {
                Object::Rule(rule) => Some(rule),
                _ => None,
            })
            .collect();
        prop_assert_eq!(found, rules);
    }

    /// What the kernel tells may be of any kind, and damaged: an answer, never a panic.
    #[test]
    fn no_damage_panics(damage in proptest::collection::vec((0..700usize, any::<u8>()), 1..8), kind in any::<u16>()) {
        let rules = [Rule::Except(8277), Rule::Redirect { port: 6379, to: 16380 }];
        let (mut change, _) = replace(&rules);
        for (at, with) in damage {
            if let Some(byte) = change.get_mut(at) {
                *byte = with;
            }
        }
        for message in Messages(&change).flatten() {
            let _ = read(&message);
            let _ = read(&Message { kind, ..message });
            let _ = read(&Message { kind: ERROR, ..message });
        }
    }
}
