//! The rules of the house that a compiler does not know.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 9] =
    ["protocol", "kernels", "train", "corpus", "network", "node", "coordinator", "verifier", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file that git knows or would take, below the root.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let files: Vec<PathBuf> = text.lines().map(PathBuf::from).filter(|file| root().join(file).is_file()).collect();
    assert!(files.len() > 50, "git lists only {} files", files.len());
    files
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = files().into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|file| (file.clone(), std::fs::read_to_string(root().join(&file)).unwrap())).collect()
}

/// Lines of code: without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn report(title: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{title}:\n  {}", found.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = |(file, text): &(PathBuf, String)| {
        let lines = text.lines().count();
        (lines > 600).then(|| format!("{} has {lines} lines, 600 are allowed", file.display()))
    };
    report("files that hold more than one purpose", sources().iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_unfinished() {
    let words = ["todo!(", "unimplemented!(", "dbg!(", concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut found = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.ends_with("tidy.rs")) {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    report("unfinished", found);
}

#[test]
fn only_kernels_has_unsafe_code() {
    let mut found = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.starts_with("kernels") && !file.ends_with("tidy.rs"))
    {
        for (number, line) in code(text) {
            let is_code = line.contains("unsafe ") && !line.contains("unsafe_op") && !line.contains('"');
            if is_code {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    report("unsafe code outside kernels", found);
}

#[test]
fn the_protocol_has_no_clock_files_network_or_floats() {
    let banned = [
        "std::time",
        "std::fs",
        "std::net",
        "std::thread",
        "HashMap",
        "HashSet",
        "async fn",
        "f32",
        "f64",
        "rand::",
        "to_ne_bytes",
        "println!",
    ];
    let mut found = Vec::new();
    let name_of = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    let is_for_tests = |file: &Path| {
        let name = name_of(file);
        name.ends_with("tests.rs") || name == "fixtures.rs" || name == "vectors.rs"
    };
    let files = sources();
    for (file, text) in files.iter().filter(|(file, _)| file.starts_with("protocol/src") && !is_for_tests(file)) {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in code(text) {
            let line_code = line.split("//").next().unwrap();
            for word in banned {
                let is_name = line_code.contains("f32-exact") || line_code.contains("f64_bits");
                if line_code.contains(word) && !is_name {
                    found.push(format!("{}:{number}: {word}", file.display()));
                }
            }
        }
    }
    report("not for the protocol", found);
}

/// Which of our crates each crate may use.
fn arrows() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let all = BTreeSet::from(CRATES);
    BTreeMap::from([
        ("protocol", BTreeSet::new()),
        ("kernels", BTreeSet::new()),
        ("kernels/shim", BTreeSet::from(["kernels"])),
        ("train", BTreeSet::from(["protocol", "kernels"])),
        ("corpus", BTreeSet::from(["protocol", "train"])),
        ("network", BTreeSet::from(["protocol"])),
        ("node", BTreeSet::from(["network", "train", "kernels", "protocol"])),
        ("coordinator", BTreeSet::from(["network", "train", "kernels", "protocol"])),
        ("verifier", BTreeSet::from(["train", "kernels", "protocol"])),
        ("tests", all),
    ])
}

#[test]
fn arrows_point_one_way() {
    let mut found = Vec::new();
    for (name, allowed) in arrows() {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap();
        for other in CRATES.iter().filter(|other| dependencies.contains(&format!("\nessaim-{other} ="))) {
            if !allowed.contains(other) {
                found.push(format!("{name} depends on {other}"));
            }
        }
        // It runs device code for tests, and is no backend.
        if dependencies.contains("\nessaim-cuda-shim =") {
            found.push(format!("{name} depends on the shim, which is for tests"));
        }
    }
    report("arrows against the design", found);
}

fn dependency_tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_verifier_has_no_runtime_and_no_network_stack() {
    let tree = dependency_tree("essaim-verifier");
    assert!(tree.contains("ureq") && tree.contains("essaim-kernels"), "the tree is not the verifier's");
    let banned =
        ["tokio", "async-std", "smol", "futures", "hyper", "reqwest", "libp2p", "quinn", "candle-core", "axum"];
    let found: Vec<String> = banned.iter().filter(|name| tree.contains(**name)).map(ToString::to_string).collect();
    report("in the verifier's dependency tree", found);
    assert!(tree.len() <= 110, "the verifier's tree has grown to {} packages", tree.len());
}

#[test]
fn training_does_not_need_candle() {
    let tree = dependency_tree("essaim-train");
    assert!(!tree.contains("candle-core"), "candle-core is an oracle in tests, not a dependency of train");
    let protocol = dependency_tree("essaim-protocol");
    assert!(protocol.len() <= 45, "the protocol's tree has grown to {} packages", protocol.len());
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let reasons = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let names = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let missing = names.filter(|name| !name.starts_with("essaim-") && !reasons.contains(&format!("`{name}`")));
    report("dependencies without a reason in docs/dependencies.md", missing.map(str::to_owned).collect());
}

#[test]
fn no_path_of_one_machine_and_no_private_host_is_written_down() {
    let words =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("artifac", "tory"), concat!("crates.io", ":443")];
    let mut found = Vec::new();
    for file in files().iter().filter(|file| !file.ends_with("LICENSE")) {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        for word in words.iter().filter(|word| text.contains(**word)) {
            found.push(format!("{}: {word}", file.display()));
        }
    }
    report("names that only one machine knows", found);
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            let is_outside = path.is_empty() || path.contains("://") || path.contains(' ');
            if !is_outside && !root().join(file).parent().unwrap().join(path).exists() {
                found.push(format!("{}: {target}", file.display()));
            }
        }
    }
    report("dead links", found);
}
