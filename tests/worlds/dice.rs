//! Chance from a seed: the same numbers in every run, on every machine, with every version of every crate.

/// A row of numbers that looks like chance (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another row, that depends on this one's seed and the label alone: what is drawn there does not move what is drawn
    /// here.
    pub fn fork(&self, label: &str) -> Self {
        let mut other = label.bytes().fold(self.0 ^ 0x9e37_79b9_7f4a_7c15, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        other ^= other >> 29;
        Self(other)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.draw() % (to - from + 1)
    }

    pub fn size(&mut self, from: usize, to: usize) -> usize {
        usize::try_from(self.between(from as u64, to as u64)).unwrap()
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.size(0, of.len() - 1)]
    }
}
