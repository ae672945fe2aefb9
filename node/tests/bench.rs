//! `essaim bench` from its arguments to what it prints. Nothing is said here of how fast anything is.
#![allow(clippy::unwrap_used)]

use essaim_cuda_shim::STAND_IN;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_essaim"));
    command.env_remove("ESSAIM_KERNELS").arg("bench").args(arguments);
    command
}

fn bench(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What a run that succeeds prints.
fn printed(arguments: &[&str]) -> String {
    printed_by(arguments, bench(arguments))
}

fn printed_by(arguments: &[&str], output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "bench {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Equal as far as the digits of a decimal fraction say.
fn assert_close(got: f64, want: f64, what: &str) {
    assert!((got / want - 1.0).abs() < 1e-9, "{what}: {got}, must be {want}");
}

#[test]
fn one_json_object_whose_fields_agree() {
    let text = printed(&["--config", "2m", "--threads", "2", "--steps", "1", "--ops", "--json"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    let result: Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| result[name].as_f64().unwrap_or_else(|| panic!("no number {name}: {text}"));
    assert_eq!(result["config"], "2m");
    let sizes = ["parameters", "threads", "tokens_per_step", "steps"].map(|name| result[name].as_u64().unwrap());
    assert_eq!(sizes, [1_836_160, 2, 8 * 256, 1]);
    assert_eq!(result["path"], essaim_kernels::Path::detect().to_string());
    assert_close(number("tokens_per_s"), number("tokens_per_step") / number("wall_s"), "tokens_per_s");
    let flops = number("product_flops_per_step");
    assert_close(number("product_flops_per_s"), flops / number("wall_s"), "product_flops_per_s");
    // Both or neither: not every path can measure its peak.
    assert_eq!(result["peak_flops_per_s"].is_number(), result["peak_share"].is_number(), "{text}");
    let peak = result["peak_flops_per_s"].as_f64();
    if let Some(peak) = peak {
        assert_close(number("peak_share"), flops / number("wall_s") / peak, "peak_share");
    }
    assert!(number("cpu_s") >= 0.0 && number("peak_memory_bytes") > 4.0 * 1_836_160.0, "{text}");
    // Besides the workspace there is the program; of scratch, the formula is a bound.
    let (peak_memory, workspace) = (number("peak_memory_bytes"), number("workspace_bytes"));
    assert!(workspace > 16.0 * 1_836_160.0 && (0.9..1.3).contains(&(peak_memory / workspace)), "{text}");
    // Random tokens: about the logarithm of the vocabulary.
    assert!((number("loss") - 4096f64.ln()).abs() < 0.5, "{text}");
    assert!(result.get("device").is_none() && result.get("device_memory_bytes").is_none(), "{text}");

    check_operators(&result);
    // Of one step the medians are its times.
    assert!((milliseconds(&result) / 1e3 / number("wall_s") - 1.0).abs() < 1e-3, "{text}");

    let without = printed(&["--config", "2m", "--threads", "1", "--steps", "2", "--json"]);
    let without: Value = serde_json::from_str(&without).unwrap();
    assert_eq!((&without["steps"], &without["threads"]), (&2.into(), &1.into()));
    assert!(without.get("operators").is_none());
}

/// The operators of a run of one step.
fn check_operators(result: &Value) {
    let number = |name: &str| result[name].as_f64().unwrap();
    let operators = result["operators"].as_array().unwrap();
    let mut names: Vec<&str> = operators.iter().map(|operator| operator["name"].as_str().unwrap()).collect();
    for name in ["head forward", "attention backward", "clip", "adamw", "rest"] {
        assert!(names.contains(&name), "no {name}: {names:?}");
    }
    let of_all = |name: &str| operators.iter().filter_map(|operator| operator[name].as_f64()).sum::<f64>();
    assert_eq!(of_all("flops_per_step"), number("product_flops_per_step"));
    // Of one step the parts are the whole; the rest is never below 0.
    assert!((of_all("step_share") - 1.0).abs() < 1e-3, "{operators:?}");
    for operator in operators {
        let has_peak = operator["flops_per_step"].is_number() && result["peak_flops_per_s"].is_number();
        assert_eq!(operator["peak_share"].is_number(), has_peak, "{operator}");
        assert!(operator["ms"].as_f64().unwrap() >= 0.0, "{operator}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), operators.len(), "two operators of one name");
}

fn milliseconds(result: &Value) -> f64 {
    result["operators"].as_array().unwrap().iter().map(|operator| operator["ms"].as_f64().unwrap()).sum()
}

/// On the stand-in for NVIDIA's library, whose kernels run on the CPU.
#[test]
fn a_device_is_measured_by_operator_too() {
    let arguments = ["--config", "2m", "--device", "cuda", "--threads", "2", "--steps", "1", "--ops", "--json"];
    let libraries = Path::new(STAND_IN).parent().unwrap();
    let text = printed_by(&arguments, command(&arguments).env("LD_LIBRARY_PATH", libraries).output().unwrap());
    let result: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&result["path"], &result["device"], &result["steps"]),
        (&"cuda:0".into(), &"A stand-in".into(), &1.into())
    );
    assert!((result["loss"].as_f64().unwrap() - 4096f64.ln()).abs() < 0.5, "{text}");
    check_operators(&result);
    for operator in result["operators"].as_array().unwrap() {
        assert!(operator["ms"].as_f64().unwrap() > 0.0, "{operator}");
    }
}

#[test]
fn a_person_gets_a_line_for_each_operator() {
    let sizes = ["--config", "2m", "--threads", "2", "--steps", "1", "--ops"];
    let result: Value = serde_json::from_str(&printed(&[&sizes[..], &["--json"]].concat())).unwrap();
    let operators = result["operators"].as_array().unwrap();
    let table = printed(&sizes);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("2m (1836160 parameters), 2 threads, "), "{table}");
    for start in
        ["tokens_per_s ", "wall_s, cpu_s ", "peak_share ", "operator ", "peak_memory_bytes ", "workspace_bytes "]
    {
        assert_eq!(lines.iter().filter(|line| line.starts_with(start)).count(), 1, "{start}: {table}");
    }
    for operator in operators {
        let name = operator["name"].as_str().unwrap();
        let start = format!("{name:<18} ");
        let found: Vec<&&str> = lines.iter().filter(|line| line.starts_with(&start)).collect();
        assert_eq!(found.len(), 1, "{name}: {table}");
        let shares = found[0].matches('%').count();
        assert_eq!(shares, 1 + usize::from(operator["peak_share"].is_number()), "{table}");
    }
    assert_eq!(lines.len(), 7 + operators.len(), "{table}");
}

#[test]
fn bad_arguments_get_one_line() {
    for (arguments, words) in [
        (&["--threads", "0"][..], "--threads is 0: from 1 to 1024"),
        (&["--threads", "1025"], "--threads is 1025: from 1 to 1024"),
        (&["--seconds", "0"], "--seconds is 0: above 0, at most 3600"),
        (&["--seconds", "NaN"], "--seconds is NaN: above 0, at most 3600"),
        (&["--device", "cuda:4095"], "--device cuda:4095: "),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "bench {arguments:?} succeeds");
        assert!(text.lines().count() == 1 && text.contains(words), "bench {arguments:?} says {text}");
    }
    // What is no value of its kind, clap refuses: one line says what is wrong, others what is right.
    for arguments in [&["--config", "3m"][..], &["--steps", "some"], &["--steps", "2", "--seconds", "1"], &["--ponies"]]
    {
        let output = bench(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "bench {arguments:?} succeeds");
        assert_eq!(
            text.lines().filter(|line| line.starts_with("error: ")).count(),
            1,
            "bench {arguments:?} says {text}"
        );
        assert!(text.contains(arguments[0]) && !text.contains("panicked"), "bench {arguments:?} says {text}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_essaim"));
    let output =
        command.env("ESSAIM_KERNELS", "fast").args(["bench", "--config", "2m", "--steps", "1"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.lines().count() == 1, "{text}");
    assert!(text.contains("ESSAIM_KERNELS: unknown kernel path"), "{text}");
}
