//! Compiles the CUDA kernels as C++, with a table of their names.
//!
//! This is done to the sources on the way: after each declaration of shared memory comes `SHIM_SHARED(name)`, which fills it with
//! NaN at the start of a block; kernels lose their `extern "C"`, so that they can be compiled twice; and `#line` keeps the compiler's messages at the
//! original.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let shim = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let (cuda, cpp) = (shim.join("../cuda"), shim.join("cpp"));
    println!("cargo::rerun-if-changed={}", cuda.display());
    println!("cargo::rerun-if-changed={}", cpp.display());

    let (mut names, mut namespaces) = (Vec::new(), BTreeSet::new());
    for folder in [&cuda, &cpp] {
        for path in sources(folder) {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            names.extend(kernels(&text));
            let opened = text.lines().filter_map(|line| line.strip_prefix("namespace ")?.strip_suffix(" {"));
            namespaces.extend(opened.map(str::to_owned));
            let file = path.file_name().expect("a file of a folder");
            let marked = format!(
                "#line 1 \"{}\"\n{}",
                file.display(),
                mark_shared(&text).replace("extern \"C\" __global__", "__global__")
            );
            fs::write(out.join(file), marked).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
        }
    }

    for (variant, flags) in [("plain", &PLAIN[..]), ("checked", &CHECKED[..])] {
        let path = out.join(format!("{variant}.cpp"));
        fs::write(&path, unit(variant, &names, &namespaces))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        compile(variant, &path, &[&out, &cpp], flags);
    }
    compile("runtime", &cpp.join("runtime.cpp"), &[&cpp], &["-O2"]);
    link_stand_in(&cpp, &out);
}

/// The stand-in for NVIDIA's library, under its name and in a folder of its own. The kernels are compiled once more for it: what a thread has of
/// its own lies elsewhere in a library.
fn link_stand_in(cpp: &Path, out: &Path) {
    let folder = out.join("stand_in");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let library = folder.join("libcuda.so.1");
    let mut build = cc::Build::new();
    build.cpp(true).debug(false).opt_level(1).includes([out, cpp]);
    flags(&mut build, &["-fPIC", "-shared", "-DSHIM_LIBRARY", "-Wl,-Bsymbolic", "-lpthread"]);
    let mut command = build.get_compiler().to_command();
    command.arg("-o").arg(&library);
    command.args([cpp.join("stand_in/libcuda.cpp"), out.join("plain.cpp"), cpp.join("runtime.cpp")]);
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
    println!("cargo::rustc-env=ESSAIM_STAND_IN={}", library.display());
}

/// Fast: the compiler may use vectors, since it may not reorder what it vectorises.
const PLAIN: [&str; 2] = ["-O2", "-ftree-vectorize"];
/// Every access to memory is reported to the runtime, which defines what ThreadSanitizer's library would.
const CHECKED: [&str; 2] = ["-O1", "-fsanitize=thread"];

/// The kernels and a table of them. All of it is private to its file, for there are two such files.
fn unit(variant: &str, names: &[String], namespaces: &BTreeSet<String>) -> String {
    let mut unit = String::new();
    for header in ["<math.h>", "<stdint.h>", "<string.h>", "<type_traits>", "<utility>", "\"interface.h\""] {
        let _ = writeln!(unit, "#include {header}");
    }
    unit.push_str("namespace {\n");
    for part in ["shim.h", "essaim.cu", "tests.cu", "registry.h"] {
        let _ = writeln!(unit, "#include \"{part}\"");
    }
    for namespace in namespaces {
        let _ = writeln!(unit, "using namespace {namespace};");
    }
    unit.push_str("const ::shim::Kernel TABLE[] = {\n");
    for name in names {
        let _ = writeln!(unit, "    SHIM_KERNEL({name}),");
    }
    let _ = writeln!(unit, "}};\n}}  // namespace");
    let _ = writeln!(unit, "extern \"C\" const ::shim::Kernel* essaim_shim_kernels_{variant}(uint32_t* count) {{");
    let _ = writeln!(unit, "    *count = {};\n    return TABLE;\n}}", names.len());
    unit
}

/// As exact as the device: no contraction, no reassociation, fused multiply-adds by instruction.
fn compile(name: &str, file: &Path, include: &[&Path], flags: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).file(file).includes(include).debug(false);
    self::flags(&mut build, flags);
    build.compile(&format!("essaim_cuda_shim_{name}"));
}

fn flags(build: &mut cc::Build, flags: &[&str]) {
    for flag in ["-std=c++14", "-ffp-contract=off", "-fno-fast-math", "-Wall", "-Wextra"].iter().chain(flags) {
        build.flag(flag);
    }
    // CUDA's own words, and what a macro of the shim leaves unused.
    for flag in ["-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter"] {
        build.flag(flag);
    }
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        build.flag("-mavx2").flag("-mfma");
    }
}

/// CUDA sources and headers of a folder, by name.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let is_cuda = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_cuda).collect();
    paths.sort();
    paths
}

/// Names after `__global__`, in the order of the text.
fn kernels(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for rest in code.split("__global__").skip(1) {
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("void").unwrap_or(rest).trim_start();
        let rest = match rest.strip_prefix("__launch_bounds__") {
            Some(bounds) => bounds.split_once(')').map_or("", |(_, rest)| rest).trim_start(),
            None => rest,
        };
        let rest = rest.strip_prefix("void").unwrap_or(rest).trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        assert!(
            name.starts_with("essaim_") || name.starts_with("shim_test_"),
            "a kernel is written out as `extern \"C\" __global__ void essaim_NAME(…)`, not made by a macro or template: `{name}`"
        );
        names.push(name);
    }
    names
}

/// Adds `SHIM_SHARED(name);` after each `__shared__ … name[…];`, on the same line.
fn mark_shared(text: &str) -> String {
    let mut marked = String::new();
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or("");
        let Some((_, declaration)) = code.split_once("__shared__") else {
            marked.push_str(line);
            continue;
        };
        let declarator = declaration.split(['[', ';']).next().unwrap_or("").trim();
        let name = declarator.rsplit([' ', '*']).next().unwrap_or("");
        let is_one = code.trim_end().ends_with(';') && code.matches(';').count() == 1 && !declaration.contains(',');
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        assert!(is_one && is_name, "write `__shared__ type name[size];`, one on a line: {}", line.trim());
        let _ = writeln!(marked, "{} SHIM_SHARED({name});", code.trim_end());
    }
    marked
}
