//! Where the time goes, by operator. It observes; no number depends on it.

use std::time::{Duration, Instant};

/// A group of operators whose time is measured together, forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Rows of the embedding, and their gradients.
    Embedding,
    /// RMSNorm.
    Norm,
    /// The matrix products of the blocks.
    Linear,
    /// Rotation of queries and keys.
    Rotary,
    /// Attention proper.
    Attention,
    /// SwiGLU.
    Activation,
    /// Additions to the residual stream.
    Residual,
    /// The matrix products of the output head.
    Head,
    /// Softmax, cross entropy and their gradient.
    Loss,
}

impl Operator {
    /// All of them.
    pub const ALL: [Operator; 9] = [
        Operator::Embedding,
        Operator::Norm,
        Operator::Linear,
        Operator::Rotary,
        Operator::Attention,
        Operator::Activation,
        Operator::Residual,
        Operator::Head,
        Operator::Loss,
    ];
}

/// Time spent in each group of operators since the last [`Profile::reset`].
#[derive(Debug, Clone, Default)]
pub struct Profile {
    spent: [Duration; Operator::ALL.len()],
}

impl Profile {
    /// Wall-clock time in `operator`.
    pub fn spent(&self, operator: Operator) -> Duration {
        self.spent[operator as usize]
    }

    /// Wall-clock time in all operators.
    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Profile::default();
    }

    /// Runs `work` on `operator`'s account.
    pub(crate) fn time<R>(&mut self, operator: Operator, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.spent[operator as usize] += start.elapsed();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_kept_by_operator() {
        let mut profile = Profile::default();
        profile.time(Operator::Loss, || std::thread::sleep(Duration::from_millis(2)));
        assert!(profile.spent(Operator::Loss) >= Duration::from_millis(2));
        assert_eq!(profile.spent(Operator::Norm), Duration::ZERO);
        assert_eq!(profile.total(), profile.spent(Operator::Loss));
        profile.reset();
        assert_eq!(profile.total(), Duration::ZERO);
    }
}
