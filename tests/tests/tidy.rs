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

/// Lines of a file, and files that may have more. House style asks for 400; what is a little longer is not cut in the middle of a thought.
const FILE_LINES: usize = 450;
const LONG_FILES: [(&str, usize); 2] = [
    // All keys of corpus.toml in the order of the example, most of their lines being documentation.
    ("corpus/src/config.rs", 520),
    // The invariants on the store's files are kept by all of its functions together.
    ("network/src/blob/store.rs", 490),
];

#[test]
fn files_are_short() {
    let files = sources();
    let long = |(file, text): &(PathBuf, String)| {
        let lines = text.lines().count();
        let allowed =
            LONG_FILES.iter().find(|(name, _)| file == Path::new(name)).map_or(FILE_LINES, |(_, lines)| *lines);
        (lines > allowed).then(|| format!("{} has {lines} lines, {allowed} are allowed", file.display()))
    };
    report("files that hold more than one purpose", files.iter().filter_map(long).collect());
    for (name, _) in LONG_FILES {
        let is_long = |(file, text): &(PathBuf, String)| file == Path::new(name) && text.lines().count() > FILE_LINES;
        assert!(files.iter().any(is_long), "{name} needs no exception");
    }
}

/// Lines of a function, and functions that may have more.
const FUNCTION_LINES: usize = 70;
const LONG_FUNCTIONS: [(&str, &str, usize); 6] = [
    // The stages of a build, one after the other.
    ("corpus/src/build.rs", "stages", 85),
    // A form with its answers.
    ("corpus/src/publish/ai_act.rs", "summary", 85),
    // A data set with one of each kind of document, and one scenario over it.
    ("corpus/tests/remove.rs", "dataset", 80),
    ("corpus/tests/remove.rs", "nothing_of_a_removed_document_is_left_and_all_else_stays", 105),
    // What a node starts, each needing what came before.
    ("node/src/driver/start.rs", "join", 85),
    // One sentence for each event.
    ("node/src/events.rs", "fmt", 75),
];

/// Name and lines of each function, as the formatter leaves it: it ends with the first brace that stands where it began.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let mut words = line.trim_start().split(' ');
        let is_qualifier = |word: &&str| {
            ["pub", "const", "async", "unsafe", "extern"].iter().any(|start| word.starts_with(start))
                || word.starts_with('"')
        };
        let is_function = words.find(|word| !is_qualifier(word)) == Some("fn");
        if !is_function || line.ends_with([';', '}']) {
            continue;
        }
        let name = words.next().unwrap_or_default().split(['(', '<']).next().unwrap_or_default();
        let end = lines[start..].iter().position(|line| line.len() == indent + 1 && line.ends_with('}'));
        found.extend(end.map(|end| (name, end + 1)));
    }
    found
}

#[test]
fn functions_fit_a_screen() {
    let example = "fn one() {}\n\npub(crate) unsafe fn two<T>(\n    x: T,\n) {\n    if x {\n    }\n}\n    const fn three() {\n    }\n";
    assert_eq!(functions(example), [("two", 6), ("three", 2)]);
    let (mut found, mut count) = (Vec::new(), 0);
    let mut used: BTreeSet<&(&str, &str, usize)> = BTreeSet::new();
    for (file, text) in sources() {
        for (name, lines) in functions(&text) {
            count += 1;
            let exception = LONG_FUNCTIONS.iter().find(|(path, of, _)| file == Path::new(path) && *of == name);
            let allowed = exception.map_or(FUNCTION_LINES, |(.., lines)| *lines);
            if lines > allowed {
                found.push(format!("{}: {name} has {lines} lines, {allowed} are allowed", file.display()));
            }
            if lines > FUNCTION_LINES {
                used.extend(exception);
            }
        }
    }
    assert!(count > 2000, "only {count} functions");
    report("functions that do not fit a screen", found);
    report(
        "functions that need no exception",
        LONG_FUNCTIONS.iter().filter(|long| !used.contains(long)).map(|long| long.1.to_owned()).collect(),
    );
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
