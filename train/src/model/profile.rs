//! Where the time goes, by operator. It observes; no number depends on it.

use crate::config::ModelShape;
use std::fmt;
use std::time::{Duration, Instant};

/// The matrices of the model's linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// To queries, keys and values, which are one product.
    Qkv,
    /// Attention's projection.
    Output,
    /// To SwiGLU's gate and its other factor, which are one product.
    GateUp,
    /// Back to the stream.
    Down,
    /// To the logits.
    Head,
}

impl Matrix {
    /// Its inputs and outputs.
    pub(crate) fn sizes(self, shape: &ModelShape) -> (usize, usize) {
        let (d, kv, ffn) = (shape.d_model, shape.kv_width(), shape.ffn);
        match self {
            Matrix::Qkv => (d, d + 2 * kv),
            Matrix::Output => (d, d),
            Matrix::GateUp => (d, 2 * ffn),
            Matrix::Down => (ffn, d),
            Matrix::Head => (d, shape.vocab),
        }
    }
}

/// Which of a linear layer's three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `y = x wᵀ`.
    Forward,
    /// `dx = dy w`.
    Input,
    /// `dw += dyᵀ x`.
    Weight,
}

/// An operator whose time is measured, over all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Rows of the embedding, and their gradients.
    Embedding,
    /// RMSNorm, forward and backward, with the additions to the residual stream, which go in the same passes.
    Norm,
    /// Rotation of queries and keys, forward and backward.
    Rotary,
    /// Attention proper, forward.
    AttentionForward,
    /// Attention proper, backward.
    AttentionBackward,
    /// SwiGLU, forward and backward.
    Activation,
    /// Softmax, cross entropy and their gradient.
    Loss,
    /// A product with a matrix.
    Product(Matrix, Direction),
}

/// All of them.
pub(crate) const MATRICES: [Matrix; 5] = [Matrix::Qkv, Matrix::Output, Matrix::GateUp, Matrix::Down, Matrix::Head];
const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Input, Direction::Weight];
const OTHERS: [Operator; 7] = [
    Operator::Embedding,
    Operator::Norm,
    Operator::Rotary,
    Operator::AttentionForward,
    Operator::AttentionBackward,
    Operator::Activation,
    Operator::Loss,
];
/// How many operators there are.
const COUNT: usize = OTHERS.len() + MATRICES.len() * DIRECTIONS.len();

impl Operator {
    /// All of them, products first.
    pub fn all() -> impl Iterator<Item = Operator> {
        let products =
            MATRICES.into_iter().flat_map(|matrix| DIRECTIONS.map(|direction| Operator::Product(matrix, direction)));
        products.chain(OTHERS)
    }

    fn index(self) -> usize {
        match self {
            Operator::Embedding => 0,
            Operator::Norm => 1,
            Operator::Rotary => 2,
            Operator::AttentionForward => 3,
            Operator::AttentionBackward => 4,
            Operator::Activation => 5,
            Operator::Loss => 6,
            Operator::Product(matrix, direction) => {
                OTHERS.len() + matrix as usize * DIRECTIONS.len() + direction as usize
            }
        }
    }
}

/// `down, d weight`, and the like.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Operator::Embedding => "embedding",
            Operator::Norm => "norm",
            Operator::Rotary => "rotary",
            Operator::AttentionForward => "attention forward",
            Operator::AttentionBackward => "attention backward",
            Operator::Activation => "swiglu",
            Operator::Loss => "loss",
            Operator::Product(matrix, direction) => {
                let matrix = match matrix {
                    Matrix::Qkv => "qkv",
                    Matrix::Output => "output",
                    Matrix::GateUp => "gate up",
                    Matrix::Down => "down",
                    Matrix::Head => "head",
                };
                let direction = match direction {
                    Direction::Forward => "forward",
                    Direction::Input => "d input",
                    Direction::Weight => "d weight",
                };
                return write!(f, "{matrix} {direction}");
            }
        };
        f.write_str(name)
    }
}

/// Time spent in each operator since the last [`Profile::reset`].
#[derive(Debug, Clone)]
pub struct Profile {
    spent: [Duration; COUNT],
}

impl Default for Profile {
    fn default() -> Profile {
        Profile { spent: [Duration::ZERO; COUNT] }
    }
}

impl Profile {
    /// Wall-clock time in `operator`.
    pub fn spent(&self, operator: Operator) -> Duration {
        self.spent[operator.index()]
    }

    /// Wall-clock time in all operators.
    pub fn total(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Profile::default();
    }

    /// Runs `work`, and shares out its time between two operators as the times that it gives.
    pub(crate) fn time_shared(&mut self, operators: [Operator; 2], work: impl FnOnce() -> [Duration; 2]) {
        let start = Instant::now();
        let [first, second] = work();
        let all = start.elapsed();
        let nanos = first.as_nanos() * all.as_nanos() / (first + second).as_nanos().max(1);
        let first = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(all);
        self.add(operators[0], first);
        self.add(operators[1], all - first);
    }

    /// Books `spent` on `operator`'s account.
    pub(crate) fn add(&mut self, operator: Operator, spent: Duration) {
        self.spent[operator.index()] += spent;
    }

    /// Runs `work` on `operator`'s account.
    pub(crate) fn time<R>(&mut self, operator: Operator, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.add(operator, start.elapsed());
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
        let [loss, norm] = [Operator::Loss, Operator::Norm];
        profile.time_shared([loss, norm], || {
            std::thread::sleep(Duration::from_millis(8));
            [Duration::from_millis(30), Duration::from_millis(10)]
        });
        let all = profile.total();
        assert!(all >= Duration::from_millis(8));
        assert!(profile.spent(loss).abs_diff(3 * profile.spent(norm)) <= Duration::from_nanos(4));
        profile.time_shared([loss, norm], || [Duration::ZERO; 2]);
    }

    #[test]
    fn every_operator_has_a_place_and_a_name_of_its_own() {
        let mut places: Vec<usize> = Operator::all().map(Operator::index).collect();
        places.sort_unstable();
        assert_eq!(places, (0..COUNT).collect::<Vec<_>>());
        let mut names: Vec<String> = Operator::all().map(|operator| operator.to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), COUNT);
    }
}
