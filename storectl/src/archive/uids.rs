//! UIDs as pairs of first and last. Lists of them come out of archives, where a few bytes may name all there are: whatever is done with
//! them costs as much as the pairs, never as much as what they name.

/// UIDs as pairs of first and last, in order, without a UID in two of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uids(Vec<(u32, u32)>);

impl Uids {
    /// Those of pairs in any order. A pair that ends before it begins names none.
    pub fn of(mut pairs: Vec<(u32, u32)>) -> Uids {
        pairs.retain(|(first, last)| first <= last);
        pairs.sort_unstable();
        let mut whole: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
        for (first, last) in pairs {
            match whole.last_mut() {
                Some((_, end)) if u64::from(first) <= u64::from(*end) + 1 => *end = (*end).max(last),
                _ => whole.push((first, last)),
            }
        }
        Uids(whole)
    }

    /// Whether this one is among them.
    pub fn has(&self, uid: u32) -> bool {
        let at = self.0.partition_point(|(first, _)| *first <= uid);
        at.checked_sub(1).is_some_and(|at| uid <= self.0[at].1)
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Those that are not among the others.
    pub fn without(&self, others: &Uids) -> Uids {
        let mut left = Vec::new();
        let mut others = others.0.iter().peekable();
        for &(first, last) in &self.0 {
            let mut next = Some(first);
            while let Some(from) = next.filter(|from| *from <= last) {
                while others.next_if(|(_, end)| *end < from).is_some() {}
                match others.peek() {
                    Some(&&(begin, end)) if begin <= last => {
                        left.extend((from < begin).then(|| (from, begin - 1)));
                        next = end.checked_add(1);
                    }
                    _ => {
                        left.push((from, last));
                        break;
                    }
                }
            }
        }
        Uids(left)
    }

    /// These and the others.
    pub fn with(self, others: Vec<(u32, u32)>) -> Uids {
        Uids::of(self.0.into_iter().chain(others).collect())
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.0
    }
}

/// A pair as a person writes it.
pub fn shown((first, last): (u32, u32)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pairs_are_put_in_order_and_joined() {
        let all = Uids::of(vec![(9, 9), (1, 3), (2, 5), (7, 6), (6, 7), (u32::MAX, u32::MAX), (11, u32::MAX)]);
        assert_eq!(all.pairs(), [(1, 7), (9, 9), (11, u32::MAX)]);
        assert_eq!(all.count(), u64::from(u32::MAX) - 2);
        assert_eq!(
            [0, 1, 7, 8, 9, 10, 11, u32::MAX].map(|uid| all.has(uid)),
            [false, true, true, false, true, false, true, true]
        );
        // As they came, a pair within another one hid what was behind it.
        assert!(Uids::of(vec![(1, 100), (5, 6)]).has(50));
        assert_eq!(Uids::of(vec![(1, 2)]).with(vec![(3, 4), (9, 9)]).pairs(), [(1, 4), (9, 9)]);
        assert_eq!(["3", "3-9"], [shown((3, 3)), shown((3, 9))]);
    }

    #[test]
    fn what_is_left_is_what_a_set_says() {
        let mut seed = 7u32;
        let mut number = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let set = |uids: &Uids| -> BTreeSet<u32> { uids.pairs().iter().flat_map(|(a, b)| *a..=*b).collect() };
        for _ in 0..2000 {
            let mut some = || {
                let count = number(6);
                let pairs = (0..count).map(|_| {
                    let first = 1 + number(30);
                    (first, first + number(6))
                });
                Uids::of(pairs.collect())
            };
            let (these, those) = (some(), some());
            let left = these.without(&those);
            let expected: BTreeSet<u32> = set(&these).difference(&set(&those)).copied().collect();
            assert_eq!(set(&left), expected, "{these:?} without {those:?}");
            assert_eq!(left, Uids::of(left.pairs().to_vec()), "in order, and joined");
        }
        let all = Uids::of(vec![(0, u32::MAX)]);
        assert_eq!(all.without(&Uids::of(vec![(5, 5), (u32::MAX, u32::MAX)])).pairs(), [(0, 4), (6, u32::MAX - 1)]);
        assert_eq!(all.without(&all).pairs(), []);
    }
}
