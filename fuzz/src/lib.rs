//! What must hold for any input, as functions that stop where it doesn't: the fuzz targets call them, and `tests/oracles.rs`
//! calls them with the corpora and mutations of those. Each says how it reads its input.

pub mod command;
pub mod data;
pub mod proxy;
pub mod record;
pub mod reply;
pub mod session;

/// The places where `seed` cuts `length` octets, both ends among them.
fn cuts(seed: &[u8], length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = seed.iter().map(|octet| usize::from(*octet) * (length + 1) / 256).collect();
    places.extend([0, length]);
    places.sort_unstable();
    places
}

/// `octets` cut by `seed`.
pub(crate) fn pieces<'a>(seed: &[u8], octets: &'a [u8]) -> Vec<&'a [u8]> {
    cuts(seed, octets.len()).windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect()
}
