//! Speed of the kernels on the shapes of the `2m` and `8m` configurations (2048 tokens), against this machine's own peak.
//!
//!     cargo run --release -p essaim-kernels --example gemm_bench -- [--threads N] [--config 2m|8m] [--path avx2] [--cpu-time] [--gemm-only]
//!
//! The peak is measured in the same process: fused multiply-adds on registers only, on as many threads. Each figure is the best of
//! several repetitions, since other work on the machine can only slow one down. With `--cpu-time`, times are those
//! that all threads together spent on a CPU: use it with one thread on a machine that others use too.

use essaim_kernels::{Exec, Layout, Path, fma_flops_per_s, gemm, ops, reduce};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const TOKENS: usize = 2048;
const SEQ: usize = 256;
const REPETITIONS: usize = 7;

/// A model's sizes.
#[derive(Clone, Copy)]
struct Config {
    name: &'static str,
    d: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    vocab: usize,
}

const CONFIGS: [Config; 2] = [
    Config { name: "2m", d: 128, heads: 4, kv_heads: 2, ffn: 384, vocab: 4096 },
    Config { name: "8m", d: 256, heads: 4, kv_heads: 4, ffn: 1024, vocab: 16384 },
];

/// Whether times are those of the CPU instead of the clock: on a machine that others use, only these mean anything.
static CPU_TIME: AtomicBool = AtomicBool::new(false);

/// Seconds that the threads of this process have spent on a CPU, from Linux's scheduler statistics.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("--cpu-time needs Linux");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let statistics = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(of_task).sum::<f64>() / 1e9
}

/// The best wall time of a few repetitions in seconds; or the mean CPU time of many, since that clock ticks slowly.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    if CPU_TIME.load(Ordering::Relaxed) {
        let (start, mut runs) = (cpu_seconds(), 0u32);
        loop {
            work();
            runs += 1;
            let spent = cpu_seconds() - start;
            if spent > 0.25 {
                return spent / f64::from(runs);
            }
        }
    }
    let mut best_s = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        work();
        best_s = best_s.min(start.elapsed().as_secs_f64());
    }
    best_s
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn bench_gemm(exec: &Exec, config: Config, peak: Option<f64>) {
    let Config { d, heads, kv_heads, ffn, vocab, .. } = config;
    let kv = d / heads * kv_heads;
    let layers = [("qkv", d, d + 2 * kv), ("o", d, d), ("gate up", d, 2 * ffn), ("down", ffn, d), ("head", d, vocab)];
    for (name, inputs, outputs) in layers {
        let (x, w) = (values(TOKENS * inputs), values(outputs * inputs));
        let y = values(TOKENS * outputs);
        let (mut out_y, mut out_x, mut out_w) = (y.clone(), x.clone(), w.clone());
        let flop = 2.0 * (TOKENS * inputs * outputs) as f64;
        let forward = best(|| {
            gemm(exec, Layout::NT, TOKENS, outputs, inputs, &x, inputs, &w, inputs, &mut out_y, outputs, false);
        });
        let backward_input = best(|| {
            gemm(exec, Layout::NN, TOKENS, inputs, outputs, &y, outputs, &w, inputs, &mut out_x, inputs, false);
        });
        let backward_weight = best(|| {
            gemm(exec, Layout::TN, outputs, inputs, TOKENS, &y, outputs, &x, inputs, &mut out_w, inputs, true);
        });
        for (pass, seconds) in [("forward", forward), ("d input", backward_input), ("d weight", backward_weight)] {
            let gflops = flop / seconds / 1e9;
            let share = peak.map_or(String::new(), |peak| format!("{:5.1} % of peak", 100.0 * gflops / peak));
            println!(
                "  {name:8} {pass:8} {inputs:6} → {outputs:6} {:9.3} ms {gflops:7.1} GFLOP/s {share}",
                seconds * 1e3
            );
        }
    }
}

fn report(name: &str, seconds: f64, elements: usize) {
    let rate = elements as f64 / seconds / 1e9;
    println!("  {name:24} {:9.3} ms {rate:7.3} G elements/s", seconds * 1e3);
}

fn bench_attention(exec: &Exec, config: Config) {
    let Config { d, heads, kv_heads, .. } = config;
    let shape = ops::AttentionShape { batch: TOKENS / SEQ, seq: SEQ, heads, kv_heads, head_dim: d / heads };
    let (q, k, v) = (values(shape.q_len()), values(shape.kv_len()), values(shape.kv_len()));
    let (mut out, mut stats) = (values(shape.q_len()), vec![0.0; shape.stats_len()]);
    let forward = best(|| ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats));
    let dout = values(shape.q_len());
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let backward = best(|| {
        ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    });
    // Useful operations: causal halves of two and of five products.
    let product = (shape.batch * heads * SEQ * (SEQ + 1) * shape.head_dim) as f64;
    for (name, seconds, products) in [("attention forward", forward, 2.0), ("attention backward", backward, 5.0)] {
        println!("  {name:24} {:9.3} ms {:7.1} GFLOP/s", seconds * 1e3, products * product / seconds / 1e9);
    }
    let (cos, sin) = ops::rope_tables(10_000.0, shape.head_dim, SEQ);
    let mut x = q;
    let rope = ops::RopeShape { seq: SEQ, heads, head_dim: shape.head_dim };
    report("rope", best(|| ops::rope_forward(exec, rope, &mut x, &cos, &sin)), x.len());
}

fn bench_rows(exec: &Exec, config: Config) {
    let Config { d, ffn, vocab, .. } = config;
    let (x, w, dy) = (values(TOKENS * d), values(d), values(TOKENS * d));
    let (mut y, mut rstd, mut dw) = (x.clone(), vec![0.0; TOKENS], vec![0.0; d]);
    report("rmsnorm forward", best(|| ops::rmsnorm_forward(exec, &x, &w, 1e-5, &mut y, &mut rstd)), x.len());
    let backward = best(|| ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut y, true, &mut dw));
    report("rmsnorm backward", backward, x.len());
    report("add_assign", best(|| ops::add_assign(exec, &mut y, &x)), x.len());
    let (gate, up) = (values(TOKENS * ffn), values(TOKENS * ffn));
    let (mut a, mut b) = (gate.clone(), gate.clone());
    report("swiglu forward", best(|| ops::swiglu_forward(exec, &gate, &up, &mut a)), gate.len());
    report("swiglu backward", best(|| ops::swiglu_backward(exec, &gate, &up, &up, &mut a, &mut b)), gate.len());
    let ids: Vec<u32> = (0..TOKENS).map(|t| (t * 7919 % vocab) as u32).collect();
    let table = values(vocab * d);
    let mut dtable = table.clone();
    report("embedding forward", best(|| ops::embedding_forward(exec, &ids, &table, &mut y)), y.len());
    report("embedding backward", best(|| ops::embedding_backward(exec, &ids, &y, &mut dtable)), y.len());
    let (mut logits, mut losses) = (values(TOKENS * vocab), vec![0.0; TOKENS]);
    let cross_entropy = best(|| ops::cross_entropy_forward_backward(exec, &mut logits, &ids, &mut losses, 1e-3));
    report("cross entropy", cross_entropy, logits.len());
}

fn bench_parameters(exec: &Exec, config: Config) {
    let len = config.vocab * config.d * 2;
    let (mut params, grads) = (values(len), values(len));
    let (mut m, mut v) = (values(len), vec![0.1; len]);
    let scalars =
        ops::AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.5, bias2: 0.5 };
    report("adamw", best(|| ops::adamw_update(exec, &mut params, &grads, &mut m, &mut v, &scalars)), len);
    report("sum_squares", best(|| _ = black_box(reduce::sum_squares(exec, &grads))), len);
    report("max_abs", best(|| _ = black_box(reduce::max_abs(exec, &grads))), len);
    report("scaled_add", best(|| ops::scaled_add(exec, &mut params, 0.1, &grads)), len);
    let mut rows = vec![0.0; config.vocab];
    report("row_sums", best(|| reduce::row_sums(exec, &v[..len / 2], &mut rows)), len / 2);
    let mut cols = vec![0.0; config.d];
    report("col_sums", best(|| reduce::col_sums(exec, &v[..len / 2], &mut cols)), len / 2);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let path =
        option("--path").map_or(Path::detect(), |name| name.parse().expect("--path scalar|portable|avx2|avx512"));
    CPU_TIME.store(args.iter().any(|arg| arg == "--cpu-time"), Ordering::Relaxed);
    let threads: Vec<usize> =
        option("--threads").map_or(vec![1, 2], |count| vec![count.parse().expect("--threads takes a number")]);
    for &threads in &threads {
        let exec = Exec::new(path, threads).expect("an execution context");
        for config in CONFIGS.into_iter().filter(|config| option("--config").is_none_or(|name| name == config.name)) {
            // The best, as of everything below.
            let reading = |_| exec.install(|| fma_flops_per_s(&exec));
            let peak = (0..5).filter_map(reading).reduce(f64::max).map(|flops| flops / 1e9);
            let shown = peak.map_or("not measured".into(), |peak| format!("{peak:.1} GFLOP/s"));
            println!("{} · {path} · {threads} threads · FMA peak {shown}", config.name);
            exec.install(|| {
                bench_gemm(&exec, config, peak);
                if args.iter().any(|arg| arg == "--gemm-only") {
                    return;
                }
                bench_attention(&exec, config);
                bench_rows(&exec, config);
                bench_parameters(&exec, config);
            });
        }
    }
}
