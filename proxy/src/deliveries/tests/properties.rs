//! The table does what a map from message to delivery does.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Deliver(u8, u8),
    Settle(u8, u8),
    Settling(u8, u8),
    Expire(u8),
    Drain,
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..4u8, 0..6u8).prop_map(|(group, id)| Act::Deliver(group, id)),
        5 => (0..4u8, 0..6u8).prop_map(|(group, id)| Act::Settle(group, id)),
        2 => (0..4u8, 0..6u8).prop_map(|(group, id)| Act::Settling(group, id)),
        1 => (0..20u8).prop_map(Act::Expire),
        1 => Just(Act::Drain),
        1 => Just(Act::Forget),
    ]
}

proptest! {
    /// The same as a map from message to delivery, with the order of deliveries beside it.
    #[test]
    fn it_behaves_as_a_map(acts in prop::collection::vec(act(), 0..120), bound in 1..8usize) {
        #[derive(Debug)]
        struct Open { token: Token, start: u64, settling: bool }
        let all = fixture(bound);
        let mut model: BTreeMap<(u8, u64), Open> = BTreeMap::new();
        let mut order: VecDeque<(u8, u64)> = VecDeque::new();
        let mut ended: Vec<Token> = Vec::new();
        let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
        let (mut out, mut now) = (Vec::new(), 0);
        let mut expected: Vec<(u64, Outcome)> = Vec::new();
        for act in acts {
            now += 1;
            let mut end = |model: &mut BTreeMap<(u8, u64), Open>, order: &mut VecDeque<(u8, u64)>, message: (u8, u64), outcome: Outcome| {
                let Some(open) = model.remove(&message) else { return false };
                order.retain(|other| *other != message);
                ended.push(open.token);
                expected.push((message.1, outcome));
                true
            };
            match act {
                Act::Deliver(group, message) => {
                    let message = (group, u64::from(message));
                    end(&mut model, &mut order, message, Outcome::Superseded);
                    if model.len() >= bound {
                        let oldest = order[0];
                        end(&mut model, &mut order, oldest, Outcome::Evicted);
                    }
                    let token = all.deliver(key(&names[usize::from(group)], "g"), message.1, now, &mut out);
                    model.insert(message, Open { token, start: now, settling: false });
                    order.push_back(message);
                }
                Act::Settle(group, message) => {
                    let message = (group, u64::from(message));
                    let known = end(&mut model, &mut order, message, Outcome::Settled);
                    prop_assert_eq!(all.settle(key(&names[usize::from(group)], "g"), message.1, now, &mut out), known);
                }
                Act::Settling(group, message) => {
                    let mut table = all.deliveries.lock();
                    if let Some(found) = table.find(key(&names[usize::from(group)], "g")) {
                        table.settling(found, id(u64::from(message)), true);
                    }
                    if let Some(open) = model.get_mut(&(group, u64::from(message))) {
                        open.settling = true;
                    }
                }
                Act::Expire(age) => {
                    let before = now.saturating_sub(u64::from(age));
                    while let Some(oldest) = order.front().copied().filter(|oldest| model[oldest].start < before) {
                        end(&mut model, &mut order, oldest, Outcome::Timeout);
                    }
                    all.deliveries.lock().expire(before, now, &mut out);
                }
                Act::Drain => {
                    while let Some(oldest) = order.front().copied() {
                        end(&mut model, &mut order, oldest, Outcome::Drained);
                    }
                    all.deliveries.lock().drain(now, &mut out);
                }
                Act::Forget => all.deliveries.lock().forget_idle_groups(),
            }
            let table = all.deliveries.lock();
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(all.metrics.deliveries.get(), model.len() as i64);
            prop_assert!(model.values().all(|open| table.is_open(open.token) != open.settling));
            prop_assert!(ended.iter().all(|token| !table.is_open(*token)));
            prop_assert!(table.slots.len() <= bound);
            drop(table);
            prop_assert_eq!(ends(&out), expected.clone());
        }
        let flags: Vec<TraceFlags> = out.iter().map(|span| span.context.flags).collect();
        prop_assert!(flags.iter().all(|flags| flags.sampled()));
    }
}
