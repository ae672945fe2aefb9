//! `essaim-corpus explain`

use super::{print, print_json, thousands};
use clap::Args;
use essaim_corpus::dataset::Dataset;
use essaim_corpus::license::LicenseFrom;
use essaim_corpus::publish::explain::{Explanation, explain};
use serde_json::json;
use std::path::PathBuf;

/// Say what happened to a document: kept (where, how often, under which licence), held out, refused (by which rule), or never seen.
///
///   essaim-corpus explain dataset wiki/fr/Forêt
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Explain {
    /// A data set's folder
    dataset: PathBuf,
    /// The document's id
    id: String,
}

impl Explain {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let found = explain(&Dataset::open(&self.dataset)?, &self.id)?;
        match json {
            true => {
                let mut value = serde_json::to_value(&found)?;
                value["seen"] = json!(found.seen());
                print_json(&value)
            }
            false => print(&text(&found)),
        }
    }
}

/// An explanation for people.
pub(super) fn text(found: &Explanation) -> String {
    let mut text = String::new();
    for kept in &found.kept {
        let what = if kept.heldout { "held out of training" } else { "kept" };
        text += &format!(
            "{what}: {} bytes of {} from {}, {}; text in {}\n",
            thousands(kept.text_bytes),
            kept.language,
            kept.source,
            kept.license,
            kept.file
        );
        if let Some(from) = kept.license_from {
            let from = match from {
                LicenseFrom::Column => "the document's own column or field",
                LicenseFrom::Source => "its source's settings",
                LicenseFrom::Link => "a Creative Commons link in it",
            };
            text += &format!("  licence from: {from}\n");
        }
        if let Some(size) = kept.cluster_size {
            text += &match size {
                1 => "  duplicates: none\n".to_owned(),
                _ => format!("  duplicates: it stands for {} documents like it\n", thousands(size)),
            };
        }
        let known = [("url", &kept.url), ("title", &kept.title), ("date", &kept.date)];
        let known = known.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        known.for_each(|(name, value)| text += &format!("  {name}: {}\n", value.replace(char::is_control, " ")));
    }
    for place in &found.places {
        let numbers: Vec<String> = place.documents.iter().take(8).map(u32::to_string).collect();
        let more = if place.documents.len() > 8 { ", …" } else { "" };
        text += &format!(
            "mix {}: {} in shard {}, document {}{more}\n",
            place.mix,
            if place.copies == 1 { "once".to_owned() } else { format!("{} copies", place.copies) },
            place.shard,
            numbers.join(", ")
        );
    }
    for fate in &found.rejected {
        text += &format!(
            "refused: {}: {} ({} bytes of {} from {}, {})\n",
            fate.rule,
            fate.detail,
            thousands(fate.bytes),
            fate.language,
            fate.source,
            fate.license
        );
    }
    if !found.seen() {
        text += "never seen: no document with this id was read\n";
        if !found.similar.is_empty() {
            text += "ids that look like it:\n";
            found.similar.iter().for_each(|id| text += &format!("  {}\n", id.replace(char::is_control, " ")));
        }
    }
    text
}
