//! Which implementation runs: one enum, chosen at run time.

use std::fmt;
use std::str::FromStr;

/// An implementation of `f32-exact/1`. All of them give the same bits; they differ in speed only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// The scalar reference, which is the semantics. Slow, single-threaded, obvious.
    Scalar,
    /// Plain Rust for any CPU, vectorised by the compiler, with a software fused multiply-add where the build target has none.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, VL, DQ, BW), AVX2 and FMA.
    Avx512,
    /// 64-bit Arm with NEON.
    Neon,
}

impl Path {
    /// Every path, slowest first, whether this CPU can run it or not.
    pub const ALL: [Path; 5] = [Path::Scalar, Path::Portable, Path::Avx2, Path::Avx512, Path::Neon];

    /// The fastest path that this CPU can run.
    pub fn detect() -> Path {
        Path::available().last().copied().unwrap_or(Path::Portable)
    }

    /// Every path that this CPU can run, slowest first.
    pub fn available() -> Vec<Path> {
        Path::ALL.into_iter().filter(|path| path.is_available()).collect()
    }

    /// Whether this CPU can run the path.
    pub fn is_available(self) -> bool {
        match self {
            Path::Scalar | Path::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => {
                Path::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Path::Avx2 | Path::Avx512 => false,
            // Part of the base architecture, and of every build for it that has hardware floats.
            Path::Neon => cfg!(target_arch = "aarch64"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Scalar => "scalar",
            Path::Portable => "portable",
            Path::Avx2 => "avx2",
            Path::Avx512 => "avx512",
            Path::Neon => "neon",
        })
    }
}

/// A name that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kernel path {name:?}: use scalar, portable, avx2, avx512 or neon")]
pub struct ParsePathError {
    /// What was given.
    pub name: String,
}

impl FromStr for Path {
    type Err = ParsePathError;

    fn from_str(name: &str) -> Result<Path, ParsePathError> {
        match name {
            "scalar" => Ok(Path::Scalar),
            "portable" => Ok(Path::Portable),
            "avx2" => Ok(Path::Avx2),
            "avx512" => Ok(Path::Avx512),
            "neon" => Ok(Path::Neon),
            _ => Err(ParsePathError { name: name.chars().take(40).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for path in Path::ALL {
            assert_eq!(path.to_string().parse::<Path>(), Ok(path));
        }
        assert_eq!("AVX2".parse::<Path>(), Err(ParsePathError { name: "AVX2".into() }));
    }

    #[test]
    fn the_detected_path_is_available() {
        assert!(Path::available().contains(&Path::detect()));
    }
}
