//! The floor under a model: `xz -9e` of each held-out document by itself.

use liblzma::stream::{Action, Check, Error, Status, Stream};
use rayon::prelude::*;

/// Preset 9 with `LZMA_PRESET_EXTREME`: `xz -9e`.
const PRESET: u32 = 9 | (1 << 31);

/// Documents, their bytes, and the bytes that `xz -9e` makes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// Documents.
    pub documents: u64,
    /// UTF-8 bytes of their text.
    pub text_bytes: u64,
    /// Bytes compressed, each document a file of its own.
    pub xz_bytes: u64,
}

impl Floor {
    /// Bits of compressed data for each byte of text.
    pub fn bits_per_byte(&self) -> f64 {
        8.0 * self.xz_bytes as f64 / self.text_bytes.max(1) as f64
    }
}

/// Length of the file that `xz -9e` makes of `bytes`.
///
/// # Errors
/// The library's, when memory is short: an encoder asks for 674 MiB, though it touches only what a document needs.
pub fn compressed_len(bytes: &[u8]) -> Result<u64, Error> {
    let mut stream = Stream::new_easy_encoder(PRESET, Check::Crc64)?;
    let mut out = vec![0u8; 64 << 10];
    loop {
        let read = stream.total_in() as usize;
        let status = stream.process(&bytes[read..], &mut out, Action::Finish)?;
        if status == Status::StreamEnd {
            return Ok(stream.total_out());
        }
    }
}

/// Compresses each text by itself, on all threads.
///
/// # Errors
/// As [`compressed_len`].
pub fn floor(texts: &[&str], progress: impl Fn(u64) + Sync) -> Result<Floor, Error> {
    let lens: Vec<Result<u64, Error>> = texts
        .par_iter()
        .map(|text| {
            let len = compressed_len(text.as_bytes());
            progress(text.len() as u64);
            len
        })
        .collect();
    let mut floor = Floor::default();
    for (text, len) in texts.iter().zip(lens) {
        floor.documents += 1;
        floor.text_bytes += text.len() as u64;
        floor.xz_bytes += len?;
    }
    Ok(floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn by_command(bytes: &[u8]) -> Option<u64> {
        let mut command = Command::new("xz");
        command.args(["-9e", "-T1", "--format=xz", "--check=crc64", "--stdout"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut stdin = child.stdin.take()?;
        let bytes = bytes.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success());
        Some(output.stdout.len() as u64)
    }

    #[test]
    fn sizes_are_those_of_the_command() {
        let prose = "Longtemps, je me suis couché de bonne heure. ".repeat(3);
        let mixed: String =
            (0..40_000u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
        let texts = ["", "a", "Bonjour.", &prose, &prose.repeat(50), &mixed, &mixed[..1000]];
        for text in texts {
            let Some(expected) = by_command(text.as_bytes()) else {
                println!("skipped: no xz command");
                return;
            };
            assert_eq!(compressed_len(text.as_bytes()).unwrap(), expected, "{} bytes", text.len());
        }
    }

    #[test]
    fn bits_are_summed_over_documents() {
        let prose = "Longtemps, je me suis couché de bonne heure. ".repeat(9);
        let total = floor(&[&prose, "Bonjour."], |_| {}).unwrap();
        let expected = compressed_len(prose.as_bytes()).unwrap() + compressed_len(b"Bonjour.").unwrap();
        assert_eq!(total, Floor { documents: 2, text_bytes: prose.len() as u64 + 8, xz_bytes: expected });
        assert_eq!(total.bits_per_byte(), 8.0 * expected as f64 / (prose.len() + 8) as f64);
    }
}
