//! The demo's folder: an earlier demo there is replaced, anything else is left alone.

use anyhow::{Context, Result, bail};
use std::path::Path;

const MARK: &str = ".essaim-demo";
const OURS: [&str; 7] =
    ["coordinator", "dataset", "run.toml", "summary.json", "coordinator.log", "corpus.log", "verify.json"];

/// Makes `dir` an empty folder that is marked as a demo's.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    let context = || format!("preparing {}", dir.display());
    std::fs::create_dir_all(dir).with_context(context)?;
    let is_empty = std::fs::read_dir(dir).with_context(context)?.next().is_none();
    let mark = dir.join(MARK);
    if !is_empty && !mark.exists() {
        bail!("{} holds other files; name an empty folder with --dir", dir.display());
    }
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if OURS.contains(&name) || name.starts_with("node-") || name.starts_with("dataset.") {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
    }
    std::fs::write(&mark, "A folder of the demo of Essaim; the next demo replaces it.\n").with_context(context)
}
