//! The compiled kernels, as they are handed to NVIDIA's driver.

/// PTX of `cuda/essaim.cu` for compute capability 7.5 and above, made by `cuda/build_ptx.py`.
pub const PTX: &str = include_str!("../../cuda/essaim.ptx");

/// The oldest compute capability that takes [`PTX`].
pub const COMPUTE_CAPABILITY_MIN: (u32, u32) = (7, 5);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// FNV-1a over names and contents, as build_ptx.py writes it into the PTX.
    fn fingerprint() -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_cuda = |path: &Path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh");
        let mut paths: Vec<_> = entries.filter(|path| is_cuda(path)).collect();
        paths.sort();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap().as_bytes();
            for byte in [name, &[0], &std::fs::read(&path).unwrap(), &[0]].concat() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }

    /// Without a compiler at hand this much can be seen: the PTX was made from these very sources.
    #[test]
    fn the_ptx_belongs_to_the_sources() {
        let said = PTX.lines().find_map(|line| line.strip_prefix("// Sources: "));
        assert_eq!(
            said,
            Some(fingerprint().as_str()),
            "run python3 kernels/cuda/build_ptx.py and commit what it writes"
        );
    }

    #[test]
    fn the_ptx_is_for_the_card_we_say() {
        let (major, minor) = COMPUTE_CAPABILITY_MIN;
        assert!(PTX.contains(&format!("\n.target sm_{major}{minor}\n")));
        assert!(PTX.contains("\n.version 7.8\n"), "a newer PTX needs a newer driver than we ask for");
        assert!(!PTX.contains('\0'));
    }
}
