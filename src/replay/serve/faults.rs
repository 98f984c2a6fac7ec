//! Faults on purpose, so that a client shows what it does about them.

/// What goes wrong, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The share of requests, from 0 to 1.
    pub rate: f64,
    /// What happens to them, each as often as the others. Nothing happens where it is empty.
    pub kinds: Vec<Fault>,
    /// The same seed makes the same requests fail, by their number.
    pub seed: u64,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer is this status, and nothing of the record.
    Status(u16),
    /// The connection is cut.
    Reset,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rate: 0.0, kinds: vec![Fault::Status(503)], seed: 0 }
    }
}

impl Faults {
    /// What happens to request `number`, if anything does.
    pub(super) fn of(&self, number: u64) -> Option<Fault> {
        let drawn = mix(self.seed ^ mix(number));
        // 53 bits: as many as a float has.
        let share = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
        let kinds = u64::try_from(self.kinds.len()).ok().filter(|&kinds| kinds > 0 && share < self.rate)?;
        let which = usize::try_from(mix(drawn) % kinds).ok()?;
        self.kinds.get(which).copied()
    }
}

/// SplitMix64's step and finish (Steele, Lea and Flood, 2014): numbers that look drawn at random.
fn mix(number: u64) -> u64 {
    let mut n = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_as_frequent_as_asked_for_and_the_same_for_one_seed() {
        let faults = |rate, seed| Faults { rate, kinds: vec![Fault::Status(500), Fault::Reset], seed };
        let drawn = |faults: &Faults| (0..10_000).map(|n| faults.of(n)).collect::<Vec<_>>();
        let some = drawn(&faults(0.25, 7));
        let count = |fault| some.iter().filter(|drawn| **drawn == Some(fault)).count();
        let (status, reset) = (count(Fault::Status(500)), count(Fault::Reset));
        assert!((1_100..1_400).contains(&status) && (1_100..1_400).contains(&reset), "{status} {reset}");
        assert_eq!(some, drawn(&faults(0.25, 7)));
        assert_ne!(some, drawn(&faults(0.25, 8)));
        assert!(drawn(&faults(0.0, 7)).iter().all(Option::is_none));
        assert!(drawn(&faults(1.0, 7)).iter().all(Option::is_some));
        assert_eq!(Faults { kinds: Vec::new(), ..faults(1.0, 1) }.of(1), None);
    }
}
