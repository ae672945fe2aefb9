//! Reads a file or folder, one file after the other, and prints what came out, how fast, and the most memory that it took:
//! `cargo run --release -p essaim-corpus --example read -- PATH`.

use essaim_corpus::config::SourceConfig;
use essaim_corpus::readers::{Item, quiet_guarded_panics, read_unit, units};
use std::ops::ControlFlow;
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    quiet_guarded_panics();
    let path = std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("which file or folder?"))?;
    let config = SourceConfig { path: path.into(), language: Some("und".into()), ..SourceConfig::default() };
    let began = Instant::now();
    let (mut documents, mut other, mut text_bytes, mut file_bytes) = (0, 0, 0u64, 0u64);
    let mut bad = Vec::new();
    for unit in units(std::slice::from_ref(&config))? {
        let counts = read_unit(&unit, &config, &mut |item| {
            match item {
                Item::Document(document) => text_bytes += document.text.len() as u64,
                Item::Bad(row) => bad.push(format!("{}: {row}", unit.name)),
            }
            ControlFlow::Continue(())
        })?;
        documents += counts.documents;
        other += counts.other;
        file_bytes += unit.len_bytes;
    }
    let seconds = began.elapsed().as_secs_f64();
    bad.iter().take(10).for_each(|bad| println!("{bad}"));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("");
    println!(
        "{documents} documents, {} bad, {other} others; {:.1} MB of files, {:.1} MB of text, {seconds:.2} s, {:.0} documents/s; {memory}",
        bad.len(),
        file_bytes as f64 / 1e6,
        text_bytes as f64 / 1e6,
        documents as f64 / seconds
    );
    Ok(())
}
