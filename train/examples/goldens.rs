//! Prints the golden hashes that `essaim_train::selfcheck` compares with: run it after a deliberate change of the numerics id.
//!
//! `cargo run --release -p essaim-train --example goldens`

use essaim_kernels::{Exec, Path};

fn main() -> Result<(), essaim_kernels::ExecError> {
    for golden in essaim_train::selfcheck::goldens(&Exec::new(Path::Scalar, 1)?) {
        println!("{}: {} (expected {})", golden.what, golden.got, golden.expected);
    }
    Ok(())
}
