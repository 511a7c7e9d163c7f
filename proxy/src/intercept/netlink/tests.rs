#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn written() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(0x0a06, CREATE | ACK, 7, 1, 0, |message| {
        message.name(1, "tars");
        message.nested(4, |list| {
            list.number(1, 6379);
            list.bytes(2, &[1, 2, 3]);
        });
    });
    writer.message(BATCH_END, 0, 8, 0, 10, |_| ());
    writer.finish()
}

#[test]
fn what_is_written_reads_back() {
    let bytes = written();
    let messages: Vec<_> = Messages(&bytes).collect::<Result<_, _>>().unwrap();
    let [first, second] = messages[..] else {
        unreachable!("two were written")
    };
    assert_eq!(
        (first.kind, first.flags, first.sequence),
        (0x0a06, 0x405, 7)
    );
    assert_eq!((second.kind, second.flags, second.sequence), (0x11, 1, 8));
    let (family, attributes) = first.object().unwrap();
    assert_eq!(family, 1);
    assert_eq!(attributes.name(1), Ok(Some(b"tars".as_slice())));
    assert_eq!(attributes.get(2), Ok(None));
    let list = attributes.within(4).unwrap();
    assert_eq!(list.number(1), Ok(Some(6379)));
    assert_eq!(list.get(2), Ok(Some([1, 2, 3].as_slice())));
    assert_eq!(list.number(2), Err(Malformed), "no number");
}

/// As the kernel's headers say, and as `nft` sends it.
#[test]
fn bytes_are_where_the_kernel_looks_for_them() {
    let mut expected = Vec::new();
    expected.extend(52u32.to_ne_bytes());
    expected.extend([0x0a06u16.to_ne_bytes(), 0x405u16.to_ne_bytes()].concat());
    expected.extend(7u32.to_ne_bytes());
    expected.extend([0; 4]);
    expected.extend([1, 0, 0, 0]);
    expected.extend([9u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
    expected.extend(b"tars\0\0\0\0");
    expected.extend([20u16.to_ne_bytes(), 0x8004u16.to_ne_bytes()].concat());
    expected.extend([8u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
    expected.extend(6379u32.to_be_bytes());
    expected.extend([7u16.to_ne_bytes(), 2u16.to_ne_bytes()].concat());
    expected.extend([1, 2, 3, 0]);
    let bytes = written();
    assert_eq!(bytes.get(..expected.len()), Some(expected.as_slice()));
}

#[test]
fn an_error_is_a_number() {
    let message = |body: &[u8]| {
        let mut bytes = (16 + u32::try_from(body.len()).unwrap())
            .to_ne_bytes()
            .to_vec();
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        Messages(&bytes).next().unwrap().unwrap().error()
    };
    assert_eq!(message(&(-1i32).to_ne_bytes()), Ok(1));
    assert_eq!(message(&0i32.to_ne_bytes()), Ok(0));
    assert_eq!(message(&i32::MIN.to_ne_bytes()), Err(Malformed));
    assert_eq!(message(&[0; 3]), Err(Malformed));
}

proptest! {
    /// Whatever comes: an answer within bounds, and an end.
    #[test]
    fn no_bytes_panic_or_go_on_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        walk(&bytes);
    }

    /// The same of what is nearly right: messages with a few bytes changed or missing.
    #[test]
    fn no_damage_panics(at in 0..80usize, with in any::<u8>(), end in 0..81usize) {
        let mut bytes = written();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        walk(bytes.get(..end).unwrap_or(&bytes));
    }
}

fn walk(bytes: &[u8]) {
    let mut left = bytes.len() + 1;
    for message in Messages(bytes) {
        left -= 1;
        let Ok(message) = message else { continue };
        let _ = message.error();
        if let Ok((_, attributes)) = message.object() {
            let mut left = bytes.len() + 1;
            for _ in attributes {
                left -= 1;
            }
            let _ = (
                attributes.number(1),
                attributes.name(1),
                attributes.within(4),
            );
            assert!(left > 0);
        }
    }
    assert!(left > 0);
}
