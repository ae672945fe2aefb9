//! The test vectors of `kernels/vectors/`, on a device.

use super::on_device::Run;
use super::shim;
use super::vector_file::{self, Case};
use essaim_kernels::cuda::Device;

/// A file of vectors: within the program, which may run where the sources are not.
macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../vectors/", $name))
    };
}

/// Cases of a file that a device carried out and cases it does not have.
fn check(device: &Device, text: &str) -> (usize, usize) {
    let cases = vector_file::parse(text);
    let done = cases.iter().filter(|case| passes(device, case)).count();
    (done, cases.len() - done)
}

fn passes(device: &Device, case: &Case) -> bool {
    let outputs = Run { device, case }.outputs().unwrap_or_else(|error| panic!("{}: {error}", case.name()));
    let Some(outputs) = outputs else { return false };
    assert_eq!(outputs.len(), case.outputs.len(), "{}", case.name());
    for ((name, got), (expected_name, expected)) in outputs.iter().zip(&case.outputs) {
        assert_eq!(name, expected_name, "{}", case.name());
        assert!(expected.matches(got), "{name} of {}", case.name());
    }
    true
}

#[test]
fn products() {
    assert_eq!(check(&shim(), file!("products.txt")).1, 0);
}

#[test]
fn layers() {
    let (done, left) = check(&shim(), file!("layers.txt"));
    assert!(done > 40 && left == 3, "only the rotary tables are no operation of a device: {done}, {left}");
}

#[test]
fn attention() {
    assert_eq!(check(&shim(), file!("attention.txt")).1, 0);
}

#[test]
fn parameters() {
    assert_eq!(check(&shim(), file!("parameters.txt")).1, 0);
}
