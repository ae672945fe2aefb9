//! The program's errors: one line that says how to mend, and another exit code than 0.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn fails(args: &[&str], dir: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_essaim-coordinator");
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?}");
    text
}

#[test]
fn bad_input_gets_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("key.toml", "name = 'x'\ndataset = 'd'\nrounds = 3\nbogus = 1\n");
    write("data.toml", "name = 'x'\ndataset = 'd'\nrounds = 3\n");
    std::fs::create_dir(dir.path().join("full")).unwrap();
    write("full/file", "");
    std::fs::create_dir(dir.path().join("other")).unwrap();
    write("other/version", "essaim-coordinator 99\n");
    for (args, part) in [
        (["init", "none.toml", "--data-dir", "new"].as_slice(), "cannot read none.toml"),
        (&["init", "key.toml", "--data-dir", "new"], "key.toml:4: unknown field `bogus`"),
        (&["init", "data.toml", "--data-dir", "new"], "d/dataset.manifest is missing"),
        (&["init", "data.toml", "--data-dir", "full"], "full is not empty"),
        (&["serve", "--data-dir", "full"], "is no coordinator's data directory"),
        (&["serve", "--data-dir", "other"], "was written by 'essaim-coordinator 99'"),
    ] {
        let text = fails(args, dir.path());
        assert!(text.starts_with("essaim-coordinator: ") && text.contains(part), "{args:?}: {text}");
    }
    assert!(!dir.path().join("new").exists());
}

#[test]
fn the_example_is_printed_whole() {
    let output = Command::new(env!("CARGO_BIN_EXE_essaim-coordinator")).arg("example").output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, include_bytes!("../run.example.toml"));
}
