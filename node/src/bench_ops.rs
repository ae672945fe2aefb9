//! `essaim bench --ops`: where a training step spends its time, operator by operator.

use crate::bench::{BenchResult, median};
use essaim_protocol::manifest::ModelConfig;
use essaim_train::model::{Matrix, Operator, Profile};
use serde::Serialize;
use std::time::Duration;

/// One operator, over all layers of a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorResult {
    /// Its name.
    pub name: String,
    /// Median time in a training step, milliseconds.
    pub ms: f64,
    /// That time over the median of a whole training step.
    pub step_share: f64,
    /// Floating-point operations in a training step; none where there is no product.
    pub flops_per_step: Option<u64>,
    /// Floating-point operations a second, as a share of the machine's peak.
    pub peak_share: Option<f64>,
}

/// Where the time of one training step went.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepTimes {
    /// All of it.
    pub(crate) wall: Duration,
    /// The model's operators.
    pub(crate) model: Profile,
    /// The norm of the gradient, and its scaling.
    pub(crate) clip: Duration,
    /// AdamW.
    pub(crate) adamw: Duration,
}

impl StepTimes {
    fn rest(&self) -> Duration {
        self.wall.saturating_sub(self.model.total() + self.clip + self.adamw)
    }
}

/// Floating-point operations of `operator` in a training step of `batch` sequences: those that the mathematics needs, as in
/// [`crate::bench::product_flops`].
fn flops(operator: Operator, config: &ModelConfig, batch: usize) -> Option<u64> {
    let [d, ffn, vocab, seq, heads, layers] =
        [config.d_model, config.ffn, config.vocab_size, config.context, config.heads, config.layers].map(u64::from);
    let kv = u64::from(config.kv_heads) * u64::from(config.head_dim());
    // A product of attention: a multiplication and an addition for each pair of positions and element of a head.
    let attention = seq * (seq + 1) / 2 * 2 * u64::from(config.head_dim()) * heads * layers * batch as u64;
    let weights = match operator {
        Operator::AttentionForward => return Some(2 * attention),
        Operator::AttentionBackward => return Some(4 * attention),
        Operator::Product(matrix, _) => match matrix {
            Matrix::Qkv => d * (d + 2 * kv) * layers,
            Matrix::Output => d * d * layers,
            Matrix::GateUp => 2 * d * ffn * layers,
            Matrix::Down => d * ffn * layers,
            Matrix::Head => d * vocab,
        },
        _ => return None,
    };
    Some(2 * weights * seq * batch as u64)
}

/// A line for each operator, the optimiser's included, and one for what is left of the step.
pub(crate) fn operators(
    steps: &[StepTimes],
    config: &ModelConfig,
    batch: usize,
    peak_flops_per_s: Option<f64>,
) -> Vec<OperatorResult> {
    let median_of = |spent: &dyn Fn(&StepTimes) -> Duration| {
        median(&mut steps.iter().map(|step| spent(step).as_secs_f64()).collect::<Vec<_>>())
    };
    let wall = median_of(&|step| step.wall);
    let result = |name: String, flops_per_step: Option<u64>, spent: &dyn Fn(&StepTimes) -> Duration| {
        let seconds = median_of(spent);
        let share = |(flops, peak): (u64, f64)| flops as f64 / seconds / peak;
        OperatorResult {
            name,
            ms: 1e3 * seconds,
            step_share: seconds / wall,
            flops_per_step,
            peak_share: flops_per_step.zip(peak_flops_per_s).map(share),
        }
    };
    let mut results: Vec<OperatorResult> = Operator::all()
        .map(|operator| {
            result(operator.to_string(), flops(operator, config, batch), &|step| step.model.spent(operator))
        })
        .collect();
    results.push(result("clip".into(), None, &|step| step.clip));
    results.push(result("adamw".into(), None, &|step| step.adamw));
    results.push(result("rest".into(), None, &StepTimes::rest));
    results
}

/// The lines that a person reads.
pub fn table(result: &BenchResult) -> String {
    let mut text = String::from("operator                 ms   of step    of peak\n");
    for operator in result.operators.iter().flatten() {
        let peak = operator.peak_share.map_or_else(String::new, |share| format!("{:8.1} %", 100.0 * share));
        let line = format!("{:<18} {:8.2} {:7.1} % {peak}", operator.name, operator.ms, 100.0 * operator.step_share);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{BenchConfig, product_flops};
    use essaim_train::model::Direction;

    #[test]
    fn the_operators_products_are_those_of_the_step() {
        for config in [BenchConfig::Small, BenchConfig::Medium, BenchConfig::Large] {
            let (model, batch) = config.model();
            let sum: u64 = Operator::all().filter_map(|operator| flops(operator, &model, batch)).sum();
            assert_eq!(sum, product_flops(&model, batch));
        }
    }

    #[test]
    fn shares_are_of_the_step_and_of_the_peak() {
        let (model, batch) = BenchConfig::Small.model();
        // By medians over three steps: the one that was disturbed changes nothing.
        let step = |[wall, clip, adamw]: [u64; 3]| {
            let [wall, clip, adamw] = [wall, clip, adamw].map(Duration::from_millis);
            StepTimes { wall, model: Profile::default(), clip, adamw }
        };
        let steps = [[40, 5, 15], [400, 50, 150], [40, 5, 15]].map(step);
        let results = operators(&steps, &model, batch, Some(1e9));
        let of = |name: &str| results.iter().find(|result| result.name == name).unwrap();
        assert_eq!((of("adamw").ms, of("adamw").step_share), (15.0, 0.375));
        assert_eq!((of("rest").ms, of("rest").step_share), (20.0, 0.5));
        let forward = Operator::Product(Matrix::Head, Direction::Forward);
        assert_eq!(of("head forward").flops_per_step, flops(forward, &model, batch));
        assert_eq!(of("clip").flops_per_step, None);
    }
}
