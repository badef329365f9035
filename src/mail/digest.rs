//! SHA-256 (FIPS 180-4) and HMAC under it (RFC 2104), as fast as the processor allows.
//!
//! By `ring`, which TLS has brought here: it takes half the time of portable code where the processor has no instructions for
//! SHA, and as much where it has.

use ring::{digest, hmac};

/// The hash of octets that come in pieces.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// The hash of `octets`.
    pub fn of(octets: &[u8]) -> [u8; 32] {
        whole(digest::digest(&digest::SHA256, octets).as_ref())
    }

    /// Takes the next octets.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The hash of all that came.
    pub fn finish(self) -> [u8; 32] {
        whole(self.0.finish().as_ref())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows nothing of what came.
impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sha256")
    }
}

/// Authenticates texts by HMAC-SHA-256. Takes a key of any length; 32 octets are as strong as longer ones.
#[derive(Clone)]
pub struct HmacKey(hmac::Key);

impl HmacKey {
    /// With this key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The tag of `text`.
    pub fn tag(&self, text: &[u8]) -> [u8; 32] {
        whole(hmac::sign(&self.0, text).as_ref())
    }

    /// Whether `tag` is that of `text`. Takes as long wherever it differs.
    pub fn is_tag(&self, text: &[u8], tag: &[u8; 32]) -> bool {
        hmac::verify(&self.0, text, tag).is_ok()
    }
}

/// Never shows the key.
impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HmacKey")
    }
}

/// A SHA-256 has 32 octets.
fn whole(found: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(found).for_each(|(place, octet)| *place = *octet);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::hex;

    #[test]
    fn the_hash_is_that_of_the_standard_however_the_octets_are_cut() {
        // FIPS 180-2, appendix B.1 and B.2.
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let examples: [(&[u8], &str); 3] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        ];
        for (octets, expected) in examples {
            let mut hash = Sha256::default();
            octets.chunks(7).for_each(|piece| hash.update(piece));
            assert_eq!(hex(&hash.finish()), expected);
            assert_eq!(hex(&Sha256::of(octets)), expected);
        }
    }

    #[test]
    fn a_tag_is_that_of_the_standard_and_of_one_text_alone() {
        // RFC 4231, section 4.3.
        let key = HmacKey::new(b"Jefe");
        let tag = key.tag(b"what do ya want for nothing?");
        assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(key.is_tag(b"what do ya want for nothing?", &tag));
        assert!(!key.is_tag(b"what do ya want for something?", &tag));
        assert!(!HmacKey::new(b"jefe").is_tag(b"what do ya want for nothing?", &tag));
        assert_eq!(format!("{key:?}{:?}", Sha256::new()), "HmacKeySha256");
    }
}
