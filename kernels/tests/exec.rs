//! Execution contexts: how they are made and refused, that every part of the work is done once, and that sharing one is safe.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, assert_same, fast_execs, reference};
use essaim_kernels::{Exec, ExecError, Layout, Path, gemm, reduce, self_test};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn thread_counts_are_bounded() {
    for threads in [0, 1025, usize::MAX] {
        let error = Exec::new(Path::Scalar, threads).unwrap_err();
        assert!(matches!(error, ExecError::ThreadCount { threads: refused } if refused == threads));
        assert_eq!(error.to_string(), format!("{threads} threads asked for; use 1 to 1024"));
    }
}

#[test]
fn every_available_path_passes_the_self_test() {
    for path in Path::available() {
        assert_eq!(self_test(path), Ok(()));
        assert_eq!(Exec::new(path, 2).unwrap().path(), path);
    }
}

/// Not a test by itself: run in a child process by the next one, which sets the variable.
#[test]
#[ignore = "run by the environment variable's test"]
fn child_prints_its_path() {
    match Exec::from_env(1) {
        Ok(exec) => println!("path={}", exec.path()),
        Err(error) => println!("error={error}"),
    }
}

#[test]
fn the_environment_variable_chooses_the_path() {
    let output_with = |value: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "child_prints_its_path", "--nocapture"]);
        match value {
            Some(value) => command.env("ESSAIM_KERNELS", value),
            None => command.env_remove("ESSAIM_KERNELS"),
        };
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(output_with(Some("scalar")).contains("path=scalar\n"));
    assert!(output_with(Some("portable")).contains("path=portable\n"));
    assert!(output_with(None).contains(&format!("path={}\n", Path::detect())));
    let refused = output_with(Some("fast"));
    assert!(
        refused.contains("ESSAIM_KERNELS: unknown kernel path \"fast\": use scalar, portable, avx2, avx512 or neon"),
        "{refused}"
    );
}

#[test]
fn chunks_cover_everything_once() {
    for exec in fast_execs() {
        for (len, chunk) in [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7), (3, 100)] {
            let mut data = vec![0usize; len];
            exec.for_each_chunk(&mut data, chunk, |start, part| {
                assert!(part.len() <= chunk);
                part.iter_mut().enumerate().for_each(|(i, value)| *value += start + i + 1);
            });
            assert_eq!(data, (1..=len).collect::<Vec<_>>());
            let (mut a, mut b, mut c) = (vec![0usize; len], vec![0usize; len], vec![0usize; len]);
            exec.for_each_chunks([&mut a, &mut b, &mut c], chunk, |start, [a, b, c]| {
                for i in 0..a.len() {
                    a[i] += start + i;
                    (b[i], c[i]) = (a[i], a[i]);
                }
            });
            assert_eq!(a, (0..len).collect::<Vec<_>>());
            assert!(a == b && a == c);
        }
        let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        exec.for_each_task(100, |task| _ = counts[task].fetch_add(1, Ordering::Relaxed));
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn rows_of_two_tensors_stay_together() {
    for exec in fast_execs() {
        let (mut wide, mut narrow) = (vec![0usize; 50 * 7], vec![0usize; 50]);
        exec.for_each_rows([(&mut wide, 7), (&mut narrow, 1)], 4, |row, [wide, narrow]| {
            for (i, value) in narrow.iter_mut().enumerate() {
                *value = row + i;
                wide[i * 7..][..7].fill(row + i);
            }
        });
        assert_eq!(narrow, (0..50).collect::<Vec<_>>());
        assert!((0..350).all(|i| wide[i] == i / 7));
    }
}

/// Many threads share one context, inside its pool and outside: buffers are reused, results are not mixed up.
#[test]
fn a_context_may_be_shared() {
    let (m, n, k) = (60, 50, 410);
    let (a, b) = (Numbers(1).vec(m * k, 1.0), Numbers(2).vec(n * k, 1.0));
    let mut want = vec![0.0; m * n];
    gemm(&reference(), Layout::NT, m, n, k, &a, k, &b, k, &mut want, n, false);
    let total = reduce::sum(&reference(), &a);
    for exec in fast_execs() {
        let work = || {
            for _ in 0..5 {
                let mut got = vec![0.0; m * n];
                gemm(&exec, Layout::NT, m, n, k, &a, k, &b, k, &mut got, n, false);
                assert_same(&got, &want, "a shared context");
                assert_eq!(reduce::sum(&exec, &a).to_bits(), total.to_bits());
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(|| exec.install(work));
            scope.spawn(|| exec.for_each_task(4, |_| work()));
        });
    }
}

/// A thread that did not make the context has not passed until it is installed, for the context's path only.
#[test]
fn only_installing_tests_a_thread() {
    let [exec, scalar] = [Path::Portable, Path::Scalar].map(|path| Exec::new(path, 2).unwrap());
    let on_new_thread = || {
        assert!(!exec.has_passed());
        reduce::sum(&exec, &[1.0; 10]);
        assert!(!exec.has_passed());
        assert!(exec.install(|| exec.has_passed() && !scalar.has_passed()));
        assert!(exec.has_passed());
        assert!(scalar.install(|| scalar.has_passed() && !exec.has_passed()));
    };
    std::thread::scope(|scope| scope.spawn(on_new_thread).join().unwrap());
}
