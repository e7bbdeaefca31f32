//! Seeded randomness for simulations. Every simulation prints its seed; `PORTCULLIS_SEED=n` runs that
//! one alone.

/// SplitMix64: small, repeatable, good enough to choose among steps.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Runs `simulation` with `count` seeds, or with the one in `PORTCULLIS_SEED`.
pub(crate) fn each_seed(name: &str, count: u64, simulation: impl Fn(&mut Rng)) {
    let chosen = std::env::var("PORTCULLIS_SEED")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    let seeds = chosen.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        // Captured unless the test fails; the last line is then the seed that failed.
        println!("{name}: PORTCULLIS_SEED={seed}");
        simulation(&mut Rng::new(seed));
    }
}
