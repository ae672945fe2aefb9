//! Which of many numbered things hang together.

/// How a thing's number is held: in 4 bytes where there are fewer than 2^32 − 1, in 8 otherwise.
pub(super) trait Number: Copy + Ord {
    /// No thing.
    const NONE: Self;
    /// From a number that fits, which the caller has seen to.
    fn of(number: u64) -> Self;
    /// The number.
    fn get(self) -> u64;
}

impl Number for u32 {
    const NONE: u32 = u32::MAX;

    fn of(number: u64) -> u32 {
        debug_assert!(number < u64::from(u32::MAX));
        number as u32
    }

    fn get(self) -> u64 {
        u64::from(self)
    }
}

impl Number for u64 {
    const NONE: u64 = u64::MAX;

    fn of(number: u64) -> u64 {
        number
    }

    fn get(self) -> u64 {
        self
    }
}

/// A forest over `0..len`, each tree's root its smallest member: what it says does not depend on the order of unions.
#[derive(Debug)]
pub(super) struct Forest<N> {
    parents: Vec<N>,
}

impl<N: Number> Forest<N> {
    /// Every thing alone.
    pub(super) fn new(len: u64) -> Forest<N> {
        Forest { parents: (0..len).map(N::of).collect() }
    }

    fn root(&mut self, thing: u64) -> u64 {
        let mut at = thing as usize;
        loop {
            let parent = self.parents[at].get() as usize;
            if parent == at {
                return at as u64;
            }
            // Halves the path on the way up.
            self.parents[at] = self.parents[parent];
            at = parent;
        }
    }

    /// Joins two trees.
    pub(super) fn union(&mut self, a: u64, b: u64) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = N::of(a.min(b));
    }

    /// The root of every thing, in order.
    pub(super) fn roots(mut self) -> Vec<N> {
        for at in 0..self.parents.len() {
            // A parent is smaller than its child, and has its root by now.
            self.parents[at] = self.parents[self.parents[at].get() as usize];
        }
        self.parents
    }

    /// For every thing, the number of its tree among those with two members or more, ascending by root; [`Number::NONE`] for a
    /// thing alone. And how many such trees there are. One bit for each thing is held beside.
    pub(super) fn clusters(self) -> (Vec<N>, u64) {
        let mut roots = self.roots();
        let mut shared = vec![0u64; roots.len().div_ceil(64)];
        for (at, root) in roots.iter().map(|root| root.get() as usize).enumerate() {
            if root != at {
                shared[root / 64] |= 1 << (root % 64);
            }
        }
        let mut count = 0;
        for at in 0..roots.len() {
            let root = roots[at].get() as usize;
            roots[at] = if root != at {
                roots[root]
            } else if shared[at / 64] >> (at % 64) & 1 == 1 {
                count += 1;
                N::of(count - 1)
            } else {
                N::NONE
            };
        }
        (roots, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chains_hang_together() {
        let mut forest = Forest::<u32>::new(7);
        [(5, 4), (2, 6), (4, 2), (1, 3)].into_iter().for_each(|(a, b)| forest.union(a, b));
        let (clusters, count) = forest.clusters();
        assert_eq!((clusters, count), (vec![u32::NONE, 0, 1, 0, 1, 1, 1], 2));
    }

    proptest! {
        #[test]
        fn the_same_as_spreading_the_smallest(edges in prop::collection::vec((0u64..40, 0u64..40), 0..40)) {
            let mut small = Forest::<u32>::new(40);
            let mut large = Forest::<u64>::new(40);
            edges.iter().for_each(|&(a, b)| small.union(a, b));
            edges.iter().rev().for_each(|&(a, b)| large.union(b, a));
            let mut least: Vec<u64> = (0..40).collect();
            for _ in 0..40 {
                for &(a, b) in &edges {
                    let smaller = least[a as usize].min(least[b as usize]);
                    (least[a as usize], least[b as usize]) = (smaller, smaller);
                }
            }
            prop_assert_eq!(small.roots().into_iter().map(u64::from).collect::<Vec<_>>(), least.clone());
            prop_assert_eq!(large.roots(), least);
        }
    }
}
