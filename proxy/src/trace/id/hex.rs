//! Lower-case hexadecimal digits, read and written without branches.

/// Reads `2 * N` lower-case hexadecimal digits. One pass without branches, so that the compiler makes vector code of it.
pub(in crate::trace) fn decode_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut valid = true;
    let mut nibble = |digit: u8| {
        let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        valid &= (number < 10) | (letter < 6);
        if number < 10 {
            number
        } else {
            letter.wrapping_add(10)
        }
    };
    let bytes = pairs.map(|[high, low]| nibble(high) << 4 | nibble(low));
    valid.then_some(bytes)
}

/// Writes bytes as lower-case hexadecimal digits.
#[inline(always)]
pub(in crate::trace) fn encode_hex<const N: usize>(bytes: [u8; N], digits: &mut [[u8; 2]; N]) {
    let (fours, rest) = bytes.as_chunks::<4>();
    let (written, short) = digits.as_chunks_mut::<4>();
    for (four, digits) in fours.iter().zip(written) {
        digits
            .as_flattened_mut()
            .copy_from_slice(&eight_digits(*four));
    }
    for (byte, pair) in rest.iter().zip(short) {
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        *pair = [digit(byte >> 4), digit(byte & 0x0f)];
    }
}

/// The digits of four bytes: all at once, a byte of one number for each.
#[inline(always)]
fn eight_digits(bytes: [u8; 4]) -> [u8; 8] {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let halves = u64::from(u32::from_be_bytes(bytes));
    let halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & each(0x0f);
    // With 6 more, 10 and above reach into the next four bits.
    let letters = (nibbles + each(6)) >> 4 & each(1);
    (nibbles + each(b'0') + letters * u64::from(b'a' - 10 - b'0')).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_its_digits_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..9 {
                let mut bytes = [0xa5; 9];
                if let Some(there) = bytes.get_mut(at) {
                    *there = byte;
                }
                let mut digits = [[0; 2]; 9];
                encode_hex(bytes, &mut digits);
                let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(digits.as_flattened(), expected.as_bytes());
                assert_eq!(decode_hex(digits.as_flattened()), Some(bytes));
            }
        }
    }
}
