//! Chance from a seed: SplitMix64, small, and the same for a seed everywhere.

/// A row of numbers.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `below`, which is at least 1.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    /// True `percent` times in a hundred.
    pub fn hits(&mut self, percent: u64) -> bool {
        self.next(100) < percent
    }

    /// A number of `low..high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next(high.saturating_sub(low))
    }

    /// A row of its own, for another part.
    pub fn fork(&mut self) -> Self {
        Self(self.next(u64::MAX))
    }
}

/// `JOURNAL_RELAY_SEED`, or chance.
pub fn seed() -> u64 {
    let chosen = std::env::var("JOURNAL_RELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    chosen.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.subsec_nanos().into())
    })
}
