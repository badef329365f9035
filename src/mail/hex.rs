//! Octets in hexadecimal digits, small letters: how digests stand in logs, header fields and the spool.

const DIGITS: [u8; 16] = *b"0123456789abcdef";

/// Two digits for each octet.
pub fn hex(octets: &[u8]) -> String {
    let mut digits = vec![0; octets.len() * 2];
    write_hex(octets, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// Writes two digits for each octet into `digits`, as far as there is room.
pub fn write_hex(octets: &[u8], digits: &mut [u8]) {
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0');
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (pair, octet) in pairs.iter_mut().zip(octets) {
        *pair = [digit(octet >> 4), digit(*octet)];
    }
}

/// Exactly `N` octets from their digits in small letters, the only way they are written.
pub fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut octets = [0; N];
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = value(*high)? << 4 | value(*low)?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_comes_back_from_its_two_digits() {
        let octets: [u8; 256] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        let text = hex(&octets);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"), "{text}");
        assert_eq!(read_hex(&text), Some(octets));
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn other_letters_and_other_lengths_are_no_octets() {
        for text in ["", "0", "000", "0g", "0A", "é", " 1"] {
            assert_eq!(read_hex::<1>(text), None, "{text:?}");
        }
    }
}
