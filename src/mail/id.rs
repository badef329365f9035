//! Names of things that log lines, header fields and commands refer to: sessions, relayed messages, records.
//!
//! An id is sixteen characters of Crockford's base 32 in small letters: ten for the millisecond it was made in, so that
//! ids sort by age, and six drawn by chance (30 bits), so that two made in the same millisecond differ.

use super::Timestamp;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroize;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 16;

/// Where chance comes from; a simulation passes its seed in here.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with chance.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

/// Octets of chance that a thread fetches at a time: each fetch is a system call, and a message needs several numbers.
const STOCK: usize = 512;

thread_local! {
    /// What a thread has fetched, and how much of it is left, at the end.
    static FETCHED: RefCell<([u8; STOCK], usize)> = const { RefCell::new(([0; STOCK], 0)) };
}

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let taken = FETCHED.with_borrow_mut(|(stock, left)| {
            if bytes.len() > STOCK {
                return false;
            }
            if *left < bytes.len() {
                if getrandom::fill(stock).is_err() {
                    return false;
                }
                *left = STOCK;
            }
            let Some(given) = stock.get_mut(STOCK - *left..).and_then(|rest| rest.get_mut(..bytes.len())) else {
                return false;
            };
            bytes.copy_from_slice(given);
            // What was given out is nowhere else.
            given.zeroize();
            *left -= bytes.len();
            true
        });
        if !taken && getrandom::fill(bytes).is_err() {
            // Never seen after boot; should it be, ids must differ all the same.
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            bytes.iter_mut().rev().zip(count.iter().rev()).for_each(|(byte, digit)| *byte = *digit);
        }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; LENGTH]);

        impl $name {
            /// A new id, made at `now` with chance from `entropy`.
            pub fn new(now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(make(now, entropy))
            }

            /// The least id that can be made at `now`: ids sort by age.
            pub fn first_of(now: Timestamp) -> Self {
                Self(write(now, 0))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                read(text).map(Self).ok_or_else(|| format!("{text:?} is no id: sixteen letters and digits are expected"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parsed(PhantomData))
            }
        }
    };
}

id!(
    /// One connection of a client.
    SessionId
);
id!(
    /// One relayed message: `queue_id` in logs, `id` in its `Received:` line.
    QueueId
);
id!(
    /// One journal record: `record` in logs, `X-Journal-Record` in its header.
    RecordId
);

/// Reads a text where it stands: records have many, and none is kept as text.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fn make(now: Timestamp, entropy: &dyn Entropy) -> [u8; LENGTH] {
    let mut chance = [0; 4];
    entropy.fill(&mut chance);
    write(now, u32::from_be_bytes(chance))
}

fn write(now: Timestamp, chance: u32) -> [u8; LENGTH] {
    let millis = u128::from(now.as_millis().unsigned_abs()) & ((1 << 50) - 1);
    let bits = (millis << 30) | u128::from(chance & ((1 << 30) - 1));
    std::array::from_fn(|place| {
        let digit = (bits >> (5 * (LENGTH - 1 - place))) & 31;
        ALPHABET.get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'0')
    })
}

/// Whether an octet is in the [`ALPHABET`], without a search.
const fn is_digit(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z')
}

fn read(text: &str) -> Option<[u8; LENGTH]> {
    let bytes: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
    bytes.iter().all(|byte| is_digit(*byte)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn chance_of_any_length_never_repeats_itself() {
        let mut seen = std::collections::BTreeSet::new();
        for length in [8, 16, 100, 511, 512, 513, 2_000].into_iter().cycle().take(700) {
            let mut chance = vec![0; length];
            OsEntropy.fill(&mut chance);
            assert!(chance.chunks_exact(8).all(|part| seen.insert(part.to_vec())), "{length}");
        }
    }

    #[test]
    fn a_digit_is_what_the_alphabet_has() {
        for octet in 0..=u8::MAX {
            assert_eq!(is_digit(octet), ALPHABET.contains(&octet), "{octet}");
        }
    }

    #[test]
    fn ids_sort_by_age() {
        let early = QueueId::new(Timestamp::from_millis(1_000), &Fixed(255));
        let late = QueueId::new(Timestamp::from_millis(1_001), &Fixed(0));
        assert!(early < late && early.as_str() < late.as_str());
    }

    #[test]
    fn the_first_of_a_moment_is_no_greater_than_any_of_it_and_greater_than_all_before() {
        let first = QueueId::first_of(Timestamp::from_millis(1_000));
        assert!(first <= QueueId::new(Timestamp::from_millis(1_000), &Fixed(0)));
        assert!(first > QueueId::new(Timestamp::from_millis(999), &Fixed(255)));
    }

    #[test]
    fn ids_of_one_millisecond_differ_by_chance() {
        let now = Timestamp::from_millis(1_794_304_800_123);
        assert_ne!(RecordId::new(now, &Fixed(1)), RecordId::new(now, &Fixed(2)));
        assert_ne!(RecordId::new(now, &OsEntropy), RecordId::new(now, &OsEntropy));
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = RecordId::new(Timestamp::from_millis(1_794_304_800_123), &OsEntropy);
        assert_eq!(id.to_string().parse::<RecordId>(), Ok(id));
        assert_eq!(serde_json::from_str::<RecordId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn what_is_no_id_is_refused_with_its_text() {
        for text in ["", "short", "0123456789abcdefg", "0123456789ABCDEF", "0123456789abcdeu"] {
            assert!(text.parse::<RecordId>().unwrap_err().contains(&format!("{text:?}")));
        }
    }
}
