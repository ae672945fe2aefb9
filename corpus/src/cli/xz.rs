//! `essaim-corpus xz`

use super::progress::Bars;
use super::{print, print_json, thousands};
use anyhow::Context;
use clap::Args;
use essaim_corpus::build::Progress;
use essaim_corpus::dataset::Dataset;
use essaim_corpus::xz::{Floor, floor};
use serde_json::{Map, json};
use std::path::PathBuf;
use std::time::Instant;

/// Measure the floor under a model: `xz -9e` of each held-out document by itself.
///
/// Prints, for each language, bits of compressed data for each byte of text, summed over its documents. A model that needs
/// more bits than that knows less of the language than a general-purpose compressor. Sizes are those of the files that the
/// xz command writes.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Xz {
    /// A data set's folder
    dataset: PathBuf,
}

impl Xz {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let dataset = Dataset::open(&self.dataset)?;
        let encoder = dataset.encoder()?;
        let bars = Bars::new();
        let progress: &dyn Progress = if json { &() } else { &bars };
        let total = dataset.manifest.heldout.iter().map(|heldout| heldout.text_bytes).sum();
        progress.stage("compressing held-out documents", Some(total));
        let mut floors = Vec::new();
        for heldout in &dataset.manifest.heldout {
            let lines = dataset.heldout(heldout, &encoder)?;
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let measured = floor(&texts, |done| progress.advance(done)).context("compressing with xz")?;
            floors.push((heldout.language.clone(), measured));
        }
        bars.finish();
        match json {
            true => {
                let bits = floors.iter().map(|(language, floor)| (language.clone(), json!(floor.bits_per_byte())));
                let details = floors.iter().map(|(language, floor)| {
                    let Floor { documents, text_bytes, xz_bytes } = floor;
                    (language.clone(), json!({"documents": documents, "text_bytes": text_bytes, "xz_bytes": xz_bytes}))
                });
                print_json(&json!({
                    "xz_bits_per_byte": bits.collect::<Map<_, _>>(),
                    "languages": details.collect::<Map<_, _>>(),
                    "seconds": began.elapsed().as_secs_f64(),
                }))
            }
            false => print(&table(&floors)),
        }
    }
}

fn table(floors: &[(String, Floor)]) -> String {
    let mut text =
        format!("{:10} {:>10} {:>12} {:>12} {:>10}\n", "language", "documents", "bytes", "xz -9e", "bits/byte");
    for (language, floor) in floors {
        let [documents, text_bytes, xz_bytes] = [floor.documents, floor.text_bytes, floor.xz_bytes].map(thousands);
        let bits = floor.bits_per_byte();
        text += &format!("{language:10} {documents:>10} {text_bytes:>12} {xz_bytes:>12} {bits:>10.4}\n");
    }
    text
}
