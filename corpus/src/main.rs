//! corpus
fn main() {}
