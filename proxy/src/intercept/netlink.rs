//! Messages of netfilter's netlink protocol (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`): written, and read.
//!
//! Pure functions of bytes. Headers are in the machine's order; numbers within attributes are big-endian by nf_tables' own
//! convention. Whatever is read is bounded by the slice it stands in, and nothing recurses.

/// A request.
pub(super) const REQUEST: u16 = 0x01;
/// The kernel is to acknowledge it.
pub(super) const ACK: u16 = 0x04;
/// List everything.
pub(super) const DUMP: u16 = 0x300;
/// What a list was made of changed meanwhile.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
/// Make what is not there.
pub(super) const CREATE: u16 = 0x400;
/// Put it behind what is there.
pub(super) const APPEND: u16 = 0x800;

/// An error, or an acknowledgement: an error of the number 0.
pub(super) const ERROR: u16 = 2;
/// The end of a list.
pub(super) const DONE: u16 = 3;
/// The beginning of changes that are made together or not at all.
pub(super) const BATCH_BEGIN: u16 = 0x10;
/// Their end.
pub(super) const BATCH_END: u16 = 0x11;

/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERAL: usize = 4;
/// `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// Of an attribute's type, the bits that say what it is; the others say how it is written.
const TYPE: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Bytes that are not what the kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Messages on their way to the kernel.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// One message; `resource` is `res_id`, which only the ends of a batch use.
    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        attributes: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        // The kernel fills in who asks.
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        attributes(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// An attribute with attributes in it.
    pub(super) fn nested(&mut self, kind: u16, attributes: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, attributes);
    }

    /// An attribute of plain bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend(value));
    }

    /// A number.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A name, which ends in a zero.
    pub(super) fn name(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// What was written.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        value(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, at: usize, with: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + with.len()) {
            place.copy_from_slice(with);
        }
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    /// Of the message that it answers.
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The number of an [`ERROR`], as in `errno(3)`; 0 acknowledges.
    pub(super) fn error(&self) -> Result<i32, Malformed> {
        let number = self.body.first_chunk().ok_or(Malformed)?;
        i32::from_ne_bytes(*number).checked_neg().ok_or(Malformed)
    }

    /// The family of protocols that an object belongs to, and its attributes.
    pub(super) fn object(&self) -> Result<(u8, Attributes<'a>), Malformed> {
        let (general, rest) = self.body.split_first_chunk::<GENERAL>().ok_or(Malformed)?;
        let [family, ..] = *general;
        Ok((family, Attributes(rest)))
    }
}

/// The messages of a datagram, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.read();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Malformed))
    }
}

impl<'a> Messages<'a> {
    fn read(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = self.0.get(HEADER..length)?;
        self.0 = after(self.0, length);
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    }
}

/// Attributes, one after the other: what they are, and what they hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.read();
        if attribute.is_none() {
            self.0 = &[];
        }
        Some(attribute.ok_or(Malformed))
    }
}

impl<'a> Attributes<'a> {
    fn read(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.first_chunk::<ATTRIBUTE>()?;
        let [l0, l1, k0, k1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = after(self.0, length);
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    }

    /// The first attribute of a kind; none where there is none.
    pub(super) fn get(self, kind: u16) -> Result<Option<&'a [u8]>, Malformed> {
        for attribute in self {
            let (found, value) = attribute?;
            if found == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Attributes within an attribute; none where there is none.
    pub(super) fn within(self, kind: u16) -> Result<Self, Malformed> {
        Ok(Self(self.get(kind)?.unwrap_or_default()))
    }

    /// A number.
    pub(super) fn number(self, kind: u16) -> Result<Option<u32>, Malformed> {
        let number = |value: &[u8]| value.try_into().map(u32::from_be_bytes);
        self.get(kind)?
            .map(number)
            .transpose()
            .map_err(|_| Malformed)
    }

    /// A name, without the zero that it ends in.
    pub(super) fn name(self, kind: u16) -> Result<Option<&'a [u8]>, Malformed> {
        let name = self.get(kind)?;
        Ok(name.map(|name| name.strip_suffix(&[0]).unwrap_or(name)))
    }
}

/// What follows the first `length` bytes, which are padded to a multiple of four; the last may not be.
fn after(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
