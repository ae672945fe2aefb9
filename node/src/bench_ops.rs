//! `essaim bench --ops`: where a training step spends its time, operator by operator.

use crate::bench::BenchResult;
use essaim_protocol::manifest::ModelConfig;
use essaim_train::model::{Matrix, Operator, Profile};
use serde::Serialize;
use std::time::Duration;

/// One operator, over all layers of a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorResult {
    /// Its name.
    pub name: String,
    /// Mean time in a training step, milliseconds.
    pub ms: f64,
    /// Share of the mean training step.
    pub step_share: f64,
    /// Floating-point operations in a training step; none where there is no product.
    pub flops_per_step: Option<u64>,
    /// Floating-point operations a second, as a share of the machine's peak.
    pub peak_share: Option<f64>,
}

/// What the optimiser's side of the measured training steps took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OptimizerTime {
    /// The norm of the gradient, and its scaling.
    pub(crate) clip: Duration,
    /// AdamW.
    pub(crate) adamw: Duration,
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
            Matrix::Query | Matrix::Output => d * d * layers,
            Matrix::Key | Matrix::Value => d * kv * layers,
            Matrix::Gate | Matrix::Up | Matrix::Down => d * ffn * layers,
            Matrix::Head => d * vocab,
        },
        _ => return None,
    };
    Some(2 * weights * seq * batch as u64)
}

/// A line for each operator, the optimiser's included, and one for what is left of the step.
pub(crate) fn operators(
    profile: &Profile,
    optimizer: OptimizerTime,
    config: &ModelConfig,
    batch: usize,
    (steps, total): (usize, Duration),
    peak_flops_per_s: Option<f64>,
) -> Vec<OperatorResult> {
    let result = |name: String, spent: Duration, flops_per_step: Option<u64>| {
        let seconds = spent.as_secs_f64() / steps as f64;
        let share = |(flops, peak): (u64, f64)| flops as f64 / seconds / peak;
        OperatorResult {
            name,
            ms: 1e3 * seconds,
            step_share: spent.as_secs_f64() / total.as_secs_f64(),
            flops_per_step,
            peak_share: flops_per_step.zip(peak_flops_per_s).map(share),
        }
    };
    let mut results: Vec<OperatorResult> = Operator::all()
        .map(|operator| result(operator.to_string(), profile.spent(operator), flops(operator, config, batch)))
        .collect();
    results.push(result("clip".into(), optimizer.clip, None));
    results.push(result("adamw".into(), optimizer.adamw, None));
    let rest = total.saturating_sub(profile.total() + optimizer.clip + optimizer.adamw);
    results.push(result("rest".into(), rest, None));
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
        let optimizer = OptimizerTime { clip: Duration::from_millis(10), adamw: Duration::from_millis(30) };
        let measured = (2, Duration::from_millis(80));
        let results = operators(&Profile::default(), optimizer, &model, batch, measured, Some(1e9));
        let of = |name: &str| results.iter().find(|result| result.name == name).unwrap();
        assert_eq!((of("adamw").ms, of("adamw").step_share), (15.0, 0.375));
        assert_eq!((of("rest").ms, of("rest").step_share), (20.0, 0.5));
        let forward = Operator::Product(Matrix::Head, Direction::Forward);
        assert_eq!(of("head forward").flops_per_step, flops(forward, &model, batch));
        assert_eq!(of("clip").flops_per_step, None);
    }
}
