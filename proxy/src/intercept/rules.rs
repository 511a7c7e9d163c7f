//! The rules, as nf_tables knows them (`linux/netfilter/nf_tables.h`): written as one change, and read back.
//!
//! What `nft list table inet tars` shows:
//!
//! ```text
//! table inet tars {
//!     chain output {
//!         type nat hook output priority -101; policy accept;
//!         meta skuid 8277 return
//!         tcp dport 6379 tcp flags syn / fin,syn,rst,ack redirect to :16380
//!     }
//! }
//! ```
//!
//! The order of the rules is that of these two kinds: users who are excepted come before ports.

use std::fmt;

use super::netlink::{
    ACK, APPEND, Attributes, BATCH_BEGIN, BATCH_END, CREATE, DUMP, Malformed, Message, Writer,
};

/// The table, which is ours alone.
pub(super) const TABLE: &str = "tars";
const CHAIN: &str = "output";
const CHAIN_TYPE: &str = "nat";

/// IPv4 and IPv6 in one table (`NFPROTO_INET`): nat in it came with Linux 5.2.
const FAMILY: u8 = 1;
/// What this process and its like send (`NF_INET_LOCAL_OUT`).
const HOOK_OUTPUT: u32 = 3;
/// Before the nat tables of iptables (-100), in which meshes have their rules, in whatever order both were made: the application's
/// connections come here first, and the proxy's go on to the mesh.
const PRIORITY: i32 = -101;

const NF_TABLES: u16 = 10;
const NEW_TABLE: u16 = NF_TABLES << 8;
const GET_TABLE: u16 = NEW_TABLE | 1;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const GET_CHAIN: u16 = NEW_TABLE | 4;
const NEW_RULE: u16 = NEW_TABLE | 6;
const GET_RULE: u16 = NEW_TABLE | 7;

/// Attributes, by the object that they belong to (`NFTA_TABLE_NAME` and so on).
mod attribute {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const META_TO: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const COMPARE_FROM: u16 = 1;
    pub(super) const COMPARE_HOW: u16 = 2;
    pub(super) const COMPARE_WITH: u16 = 3;
    pub(super) const PAYLOAD_TO: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LENGTH: u16 = 4;
    pub(super) const BITWISE_FROM: u16 = 1;
    pub(super) const BITWISE_TO: u16 = 2;
    pub(super) const BITWISE_LENGTH: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;
    pub(super) const IMMEDIATE_TO: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const REDIRECT_PORT_FROM: u16 = 1;
    pub(super) const REDIRECT_FLAGS: u16 = 3;
}

/// The register for values, and the one for verdicts.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
const META_L4_PROTOCOL: u32 = 16;
const META_USER: u32 = 10;
const EQUAL: u32 = 0;
const TRANSPORT_HEADER: u32 = 2;
/// Where they are in a TCP header, and how long.
const DESTINATION_PORT: Expression = Expression::Payload(2, 2);
const FLAGS: Expression = Expression::Payload(13, 1);
const TCP: u8 = 6;
/// A packet that begins a connection has SYN alone of SYN, ACK, RST and FIN. Others may be of a connection that the kernel has not
/// followed so far, and that must stay where it is.
const SYN: u8 = 0x02;
const SYN_ACK_RST_FIN: u8 = 0x17;
const ACCEPT: u32 = 1;
/// `NFT_RETURN`, -5.
const RETURN: u32 = 0xffff_fffb;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`: there is a port.
const HAS_PORT: u32 = 2;

/// A rule of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Connections of this user are left alone.
    Except(u32),
    /// Those to a TCP port go to another of this machine.
    Redirect { port: u16, to: u16 },
    /// None of ours.
    Foreign,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Except(uid) => write!(f, "meta skuid {uid} return"),
            Self::Redirect { port, to } => write!(f, "tcp dport {port} redirect to :{to}"),
            Self::Foreign => f.write_str("a rule that was not made by this program"),
        }
    }
}

/// Something in the kernel that is ours, or has our table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// The table; whether its rules are in force.
    Table { active: bool },
    /// A chain; whether it is as ours.
    Chain { ours: bool },
    /// A rule of any of its chains.
    Rule(Rule),
}

/// What is asked to see the table, its chains and its rules, one after the other.
pub(super) fn questions(sequence: u32) -> [Vec<u8>; 3] {
    let list = |kind, sequence, table| {
        let mut writer = Writer::default();
        writer.message(kind, DUMP, sequence, FAMILY, 0, |message| {
            // Of a table there is no list by name.
            if let Some(attribute) = table {
                message.name(attribute, TABLE);
            }
        });
        writer.finish()
    };
    [
        list(GET_TABLE, sequence, None),
        list(GET_CHAIN, sequence + 1, Some(attribute::CHAIN_TABLE)),
        list(GET_RULE, sequence + 2, Some(attribute::RULE_TABLE)),
    ]
}

/// The change that replaces the table, or makes it: all of it or none. And the number of the last message that is
/// acknowledged.
pub(super) fn replace(rules: &[Rule]) -> (Vec<u8>, u32) {
    change(|batch| {
        batch.table(NEW_TABLE);
        batch.table(DELETE_TABLE);
        batch.table(NEW_TABLE);
        batch.chain();
        for rule in rules {
            batch.rule(*rule);
        }
    })
}

/// The change that removes the table, also where there is none: it is made first.
pub(super) fn remove() -> (Vec<u8>, u32) {
    change(|batch| {
        batch.table(NEW_TABLE);
        batch.table(DELETE_TABLE);
    })
}

fn change(messages: impl FnOnce(&mut Batch)) -> (Vec<u8>, u32) {
    let mut batch = Batch::default();
    let Batch { writer, sequence } = &mut batch;
    writer.message(BATCH_BEGIN, 0, *sequence, 0, NF_TABLES, |_| ());
    messages(&mut batch);
    let Batch {
        mut writer,
        sequence,
    } = batch;
    writer.message(BATCH_END, 0, sequence + 1, 0, NF_TABLES, |_| ());
    (writer.finish(), sequence)
}

#[derive(Default)]
struct Batch {
    writer: Writer,
    sequence: u32,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, attributes: impl FnOnce(&mut Writer)) {
        self.sequence += 1;
        self.writer
            .message(kind, flags | ACK, self.sequence, FAMILY, 0, attributes);
    }

    fn table(&mut self, kind: u16) {
        let flags = if kind == NEW_TABLE { CREATE } else { 0 };
        self.message(kind, flags, |table| {
            table.name(attribute::TABLE_NAME, TABLE);
        });
    }

    fn chain(&mut self) {
        self.message(NEW_CHAIN, CREATE, |chain| {
            chain.name(attribute::CHAIN_TABLE, TABLE);
            chain.name(attribute::CHAIN_NAME, CHAIN);
            chain.nested(attribute::CHAIN_HOOK, |hook| {
                hook.number(attribute::HOOK_NUMBER, HOOK_OUTPUT);
                hook.bytes(attribute::HOOK_PRIORITY, &PRIORITY.to_be_bytes());
            });
            chain.number(attribute::CHAIN_POLICY, ACCEPT);
            chain.name(attribute::CHAIN_TYPE, CHAIN_TYPE);
        });
    }

    fn rule(&mut self, rule: Rule) {
        self.message(NEW_RULE, CREATE | APPEND, |message| {
            message.name(attribute::RULE_TABLE, TABLE);
            message.name(attribute::RULE_CHAIN, CHAIN);
            message.nested(attribute::RULE_EXPRESSIONS, |list| {
                for expression in expressions(rule) {
                    expression.write(list);
                }
            });
        });
    }
}

/// What a rule is made of, as far as ours go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expression {
    /// Looks at the socket's user, or the protocol.
    Meta(u32),
    /// Goes on if it is this user.
    IsUser(u32),
    /// Looks into the header of the transport protocol, from here on, at so many bytes.
    Payload(u32, u32),
    /// Of a byte, leaves these bits.
    Mask(u8),
    /// Goes on if it is this byte: a protocol, or flags.
    IsByte(u8),
    /// Goes on if it is this port.
    IsPort(u16),
    /// Ends here.
    Return,
    /// The port to redirect to.
    Port(u16),
    /// Redirects to it.
    Redirect,
}

/// A rule in the kernel's terms; nothing for one that is not ours.
fn expressions(rule: Rule) -> Vec<Expression> {
    match rule {
        Rule::Except(uid) => vec![
            Expression::Meta(META_USER),
            Expression::IsUser(uid),
            Expression::Return,
        ],
        Rule::Redirect { port, to } => vec![
            Expression::Meta(META_L4_PROTOCOL),
            Expression::IsByte(TCP),
            DESTINATION_PORT,
            Expression::IsPort(port),
            FLAGS,
            Expression::Mask(SYN_ACK_RST_FIN),
            Expression::IsByte(SYN),
            Expression::Port(to),
            Expression::Redirect,
        ],
        Rule::Foreign => Vec::new(),
    }
}

impl Expression {
    fn write(self, list: &mut Writer) {
        list.nested(attribute::LIST_ELEMENT, |element| {
            element.name(attribute::EXPRESSION_NAME, self.name());
            element.nested(attribute::EXPRESSION_DATA, |data| self.write_data(data));
        });
    }

    fn name(self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::IsUser(_) | Self::IsByte(_) | Self::IsPort(_) => "cmp",
            Self::Payload(..) => "payload",
            Self::Mask(_) => "bitwise",
            Self::Return | Self::Port(_) => "immediate",
            Self::Redirect => "redir",
        }
    }

    fn write_data(self, data: &mut Writer) {
        let compare = |data: &mut Writer, with: &[u8]| {
            data.number(attribute::COMPARE_FROM, REGISTER);
            data.number(attribute::COMPARE_HOW, EQUAL);
            data.nested(attribute::COMPARE_WITH, |value| {
                value.bytes(attribute::DATA_VALUE, with);
            });
        };
        match self {
            Self::Meta(key) => {
                data.number(attribute::META_KEY, key);
                data.number(attribute::META_TO, REGISTER);
            }
            // The kernel compares registers: users in the machine's order, ports in the network's.
            Self::IsUser(uid) => compare(data, &uid.to_ne_bytes()),
            Self::IsByte(byte) => compare(data, &[byte]),
            Self::IsPort(port) => compare(data, &port.to_be_bytes()),
            Self::Payload(offset, length) => {
                data.number(attribute::PAYLOAD_TO, REGISTER);
                data.number(attribute::PAYLOAD_BASE, TRANSPORT_HEADER);
                data.number(attribute::PAYLOAD_OFFSET, offset);
                data.number(attribute::PAYLOAD_LENGTH, length);
            }
            Self::Mask(mask) => {
                data.number(attribute::BITWISE_FROM, REGISTER);
                data.number(attribute::BITWISE_TO, REGISTER);
                data.number(attribute::BITWISE_LENGTH, 1);
                for (kind, byte) in [(attribute::BITWISE_MASK, mask), (attribute::BITWISE_XOR, 0)] {
                    data.nested(kind, |value| value.bytes(attribute::DATA_VALUE, &[byte]));
                }
            }
            Self::Return => {
                data.number(attribute::IMMEDIATE_TO, VERDICT);
                data.nested(attribute::IMMEDIATE_DATA, |value| {
                    value.nested(attribute::DATA_VERDICT, |verdict| {
                        verdict.number(attribute::VERDICT_CODE, RETURN);
                    });
                });
            }
            Self::Port(port) => {
                data.number(attribute::IMMEDIATE_TO, REGISTER);
                data.nested(attribute::IMMEDIATE_DATA, |value| {
                    value.bytes(attribute::DATA_VALUE, &port.to_be_bytes());
                });
            }
            Self::Redirect => {
                data.number(attribute::REDIRECT_PORT_FROM, REGISTER);
                data.number(attribute::REDIRECT_FLAGS, HAS_PORT);
            }
        }
    }

    /// Reads one; none where it is none that ours are made of.
    fn read(element: Attributes<'_>) -> Result<Option<Self>, Malformed> {
        let data = element.within(attribute::EXPRESSION_DATA)?;
        let is = |kind, value| Ok(data.number(kind)? == Some(value));
        Ok(match element.name(attribute::EXPRESSION_NAME)? {
            Some(b"meta") if is(attribute::META_TO, REGISTER)? => {
                data.number(attribute::META_KEY)?.map(Self::Meta)
            }
            Some(b"cmp")
                if is(attribute::COMPARE_FROM, REGISTER)? && is(attribute::COMPARE_HOW, EQUAL)? =>
            {
                match data
                    .within(attribute::COMPARE_WITH)?
                    .get(attribute::DATA_VALUE)?
                {
                    Some(&[a, b, c, d]) => Some(Self::IsUser(u32::from_ne_bytes([a, b, c, d]))),
                    Some(&[a, b]) => Some(Self::IsPort(u16::from_be_bytes([a, b]))),
                    Some(&[byte]) => Some(Self::IsByte(byte)),
                    _ => None,
                }
            }
            Some(b"payload")
                if is(attribute::PAYLOAD_TO, REGISTER)?
                    && is(attribute::PAYLOAD_BASE, TRANSPORT_HEADER)? =>
            {
                let offset = data.number(attribute::PAYLOAD_OFFSET)?;
                let length = data.number(attribute::PAYLOAD_LENGTH)?;
                offset
                    .zip(length)
                    .map(|(offset, length)| Self::Payload(offset, length))
            }
            Some(b"bitwise")
                if is(attribute::BITWISE_FROM, REGISTER)?
                    && is(attribute::BITWISE_TO, REGISTER)?
                    && is(attribute::BITWISE_LENGTH, 1)? =>
            {
                let byte = |kind| data.within(kind)?.get(attribute::DATA_VALUE);
                match (
                    byte(attribute::BITWISE_MASK)?,
                    byte(attribute::BITWISE_XOR)?,
                ) {
                    (Some(&[mask]), Some(&[0])) => Some(Self::Mask(mask)),
                    _ => None,
                }
            }
            Some(b"immediate") => {
                let value = data.within(attribute::IMMEDIATE_DATA)?;
                let verdict = value
                    .within(attribute::DATA_VERDICT)?
                    .number(attribute::VERDICT_CODE)?;
                match (
                    data.number(attribute::IMMEDIATE_TO)?,
                    verdict,
                    value.get(attribute::DATA_VALUE)?,
                ) {
                    (Some(VERDICT), Some(RETURN), None) => Some(Self::Return),
                    (Some(REGISTER), None, Some(&[a, b])) => {
                        Some(Self::Port(u16::from_be_bytes([a, b])))
                    }
                    _ => None,
                }
            }
            Some(b"redir") if is(attribute::REDIRECT_PORT_FROM, REGISTER)? => Some(Self::Redirect),
            _ => None,
        })
    }
}

/// What a message of an answer is about; none where it is another's.
pub(super) fn read(message: &Message<'_>) -> Result<Option<Object>, Malformed> {
    let (family, attributes) = message.object()?;
    // The name of the table is the first attribute of all three.
    let table = attributes.name(attribute::TABLE_NAME)?;
    if family != FAMILY || table != Some(TABLE.as_bytes()) {
        return Ok(None);
    }
    Ok(match message.kind {
        NEW_TABLE => {
            let flags = attributes.number(attribute::TABLE_FLAGS)?;
            Some(Object::Table {
                active: flags.unwrap_or_default() == 0,
            })
        }
        NEW_CHAIN => Some(Object::Chain {
            ours: is_our_chain(attributes)?,
        }),
        NEW_RULE => Some(Object::Rule(read_rule(attributes)?)),
        _ => None,
    })
}

fn is_our_chain(chain: Attributes<'_>) -> Result<bool, Malformed> {
    let hook = chain.within(attribute::CHAIN_HOOK)?;
    Ok(chain.name(attribute::CHAIN_NAME)? == Some(CHAIN.as_bytes())
        && chain.name(attribute::CHAIN_TYPE)? == Some(CHAIN_TYPE.as_bytes())
        && chain.number(attribute::CHAIN_POLICY)? == Some(ACCEPT)
        && hook.number(attribute::HOOK_NUMBER)? == Some(HOOK_OUTPUT)
        && hook.get(attribute::HOOK_PRIORITY)? == Some(PRIORITY.to_be_bytes().as_slice()))
}

fn read_rule(rule: Attributes<'_>) -> Result<Rule, Malformed> {
    if rule.name(attribute::RULE_CHAIN)? != Some(CHAIN.as_bytes()) {
        return Ok(Rule::Foreign);
    }
    let mut found = Vec::new();
    for element in rule.within(attribute::RULE_EXPRESSIONS)? {
        let (_, element) = element?;
        match Expression::read(Attributes(element))? {
            Some(expression) => found.push(expression),
            None => return Ok(Rule::Foreign),
        }
    }
    Ok(match *found {
        [_, Expression::IsUser(uid), _] if found == expressions(Rule::Except(uid)) => {
            Rule::Except(uid)
        }
        [
            _,
            _,
            _,
            Expression::IsPort(port),
            ..,
            Expression::Port(to),
            _,
        ] if found == expressions(Rule::Redirect { port, to }) => Rule::Redirect { port, to },
        _ => Rule::Foreign,
    })
}

#[cfg(test)]
mod tests;
