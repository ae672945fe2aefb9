//! The two compilations of the kernels, PTX for cards and C++ for here, are of the same kernels.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use essaim_cuda_shim::{Parameter, kernels};
use essaim_kernels::cuda::PTX;

/// Entries of the module with the kinds of their parameters.
fn entries() -> BTreeMap<&'static str, Vec<Parameter>> {
    let parameter = |line: &str| match line.trim_start().strip_prefix(".param .")?.split_whitespace().next()? {
        "u64" => Some(Parameter::U64),
        "u32" => Some(Parameter::U32),
        "f32" => Some(Parameter::F32),
        other => panic!("a kernel has a parameter of type {other}"),
    };
    let entry = |text: &'static str| {
        let (name, rest) = text.split_once('(').unwrap();
        (name, rest.split(')').next().unwrap().lines().filter_map(parameter).collect())
    };
    PTX.split(".visible .entry ").skip(1).map(entry).collect()
}

#[test]
fn both_have_the_same_kernels_with_the_same_parameters() {
    // In PTX a pointer is a number of 64 bits.
    let as_ptx = |parameter: &Parameter| match parameter {
        Parameter::Address => Parameter::U64,
        other => *other,
    };
    let ours = kernels().into_iter().filter(|kernel| !kernel.name.starts_with("shim_test_"));
    let ours: BTreeMap<_, Vec<_>> =
        ours.map(|kernel| (kernel.name, kernel.parameters.iter().map(as_ptx).collect())).collect();
    assert!(ours.contains_key("essaim_fill"));
    assert_eq!(entries(), ours);
}
