//! `essaim-corpus remove`

use super::{print, print_json};
use anyhow::Context;
use clap::Args;
use essaim_corpus::dataset::Dataset;
use essaim_corpus::publish::remove::{Removal, remove};
use essaim_corpus::publish::runs::{Run, runs};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of ids at most, bytes.
const IDS_MAX: u64 = 256 << 20;

/// Take documents out of a data set: a new one without them, and which shards and runs had them.
///
///   essaim-corpus remove wiki/fr/Untel --from dataset --out dataset-2
///   essaim-corpus remove @requests.txt --from dataset --out dataset-2 --runs public/
///
/// Shards that held none of the documents stay the same files (hard links where the file system has them). The new data set has
/// another hash: a run that goes on with the old one still trains on the documents. Figures of duplicates, masked data and removed
/// lines stay as the build counted them. A later build of the same corpus takes the ids as removal requests in
/// its settings.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Remove {
    /// Ids of documents; @FILE takes them from a file, one a line
    #[arg(required = true, value_name = "IDS")]
    ids: Vec<String>,
    /// The data set
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The folder to write
    #[arg(long, value_name = "NEW")]
    out: PathBuf,
    /// Folders of runs (a coordinator's public/, or a folder of such) to search for the shards
    #[arg(long, value_name = "DIR", num_args = 1..)]
    runs: Vec<PathBuf>,
}

impl Remove {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let ids = self.ids()?;
        let dataset = Dataset::open(&self.from)?;
        let removal = remove(&dataset, &ids, &self.out)?;
        let held: BTreeSet<&str> = removal.shards.iter().map(|(shard, _)| shard.as_str()).collect();
        let used = runs(&self.runs, &held)?;
        match json {
            true => {
                let mut value = serde_json::to_value(&removal)?;
                value["runs"] = json!(used);
                print_json(&value)
            }
            false => print(&text(&removal, &used, !self.runs.is_empty(), &self.out)),
        }
    }

    fn ids(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        for given in &self.ids {
            let Some(path) = given.strip_prefix('@') else {
                ids.insert(given.clone());
                continue;
            };
            let len = std::fs::metadata(path).with_context(|| path.to_owned())?.len();
            anyhow::ensure!(len <= IDS_MAX, "{path}: {len} bytes, at most {IDS_MAX} are read");
            let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
            ids.extend(
                text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()).map(str::to_owned),
            );
        }
        anyhow::ensure!(!ids.is_empty(), "no ids: name documents, or a file of ids as @FILE");
        Ok(ids)
    }
}

fn text(removal: &Removal, used: &[Run], searched: bool, out: &Path) -> String {
    let mut text = String::new();
    for (old, new) in &removal.shards {
        let new = new.as_ref().map_or("nothing is left of it".to_owned(), |new| format!("now {new}"));
        text += &format!("shard {old}: {new}\n");
    }
    for run in used {
        let shards = match run.shards {
            1 => "1 of these shards".to_owned(),
            count => format!("{count} of these shards"),
        };
        text += &format!("run {} ({}): data set {}, {shards}\n", run.name, run.folder, run.dataset);
    }
    if searched && used.is_empty() {
        text += "no run there used these shards\n";
    }
    removal.missing.iter().for_each(|id| text += &format!("not there: {}\n", id.replace(char::is_control, " ")));
    if !removal.left_out.is_empty() {
        text += &format!("files not taken over, as they may name the documents: {}\n", removal.left_out.join(", "));
    }
    text + &format!(
        "{}: {} ids taken out, {} shards changed\ndata set {} (was {})\n",
        out.display(),
        removal.removed.len(),
        removal.shards.len(),
        removal.to,
        removal.from
    )
}
