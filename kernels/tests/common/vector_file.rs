//! Cases of `vectors/*.txt` in memory, as text and back. The format is described in `vectors/README.md`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::common::{Numbers, bits};
use std::fmt::Write as _;

/// Where the elements of an input come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Written out, as bits or integers.
    Words(Vec<u32>),
    /// `Numbers::vec`: the seed, how many, and the scale.
    Unit(u64, usize, f32),
    /// `Numbers::wild`: the seed and how many.
    Wild(u64, usize),
    /// `Numbers::ids`: the seed, how many, and the bound.
    Below(u64, usize, usize),
}

impl Source {
    /// The elements, float32 as bits.
    pub fn words(&self) -> Vec<u32> {
        let bits = |values: Vec<f32>| bits(&values);
        match *self {
            Source::Words(ref words) => words.clone(),
            Source::Unit(seed, len, scale) => bits(Numbers(seed).vec(len, scale)),
            Source::Wild(seed, len) => bits(Numbers(seed).wild(len)),
            Source::Below(seed, len, bound) => Numbers(seed).ids(len, bound),
        }
    }

    fn parse(fields: &[&str], words: &mut dyn FnMut(usize) -> Vec<u32>) -> Source {
        let number = |text: &str| text.parse::<u64>().unwrap();
        let len = |text: &str| text.parse::<usize>().unwrap();
        match *fields {
            ["words", count] => Source::Words(words(len(count))),
            ["unit", seed, count, scale] => Source::Unit(number(seed), len(count), f32::from_bits(hex(scale))),
            ["wild", seed, count] => Source::Wild(number(seed), len(count)),
            ["below", seed, count, bound] => Source::Below(number(seed), len(count), len(bound)),
            _ => panic!("no source of elements: {fields:?}"),
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Source::Words(words) => write_words(text, words),
            Source::Unit(seed, len, scale) => writeln!(text, "unit {seed} {len} {:08x}", scale.to_bits()).unwrap(),
            Source::Wild(seed, len) => writeln!(text, "wild {seed} {len}").unwrap(),
            Source::Below(seed, len, bound) => writeln!(text, "below {seed} {len} {bound}").unwrap(),
        }
    }
}

/// What must come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Every element's bits; any NaN is `7fc00000`.
    Words(Vec<u32>),
    /// How many elements, and BLAKE3 of their bits in little-endian order, any NaN as `7fc00000`.
    Digest(usize, String),
}

impl Expected {
    /// `values` written out, or their digest.
    pub fn of(values: &[f32], is_written_out: bool) -> Expected {
        let words = bits(values);
        if is_written_out { Expected::Words(words) } else { Expected::Digest(words.len(), digest(&words)) }
    }

    /// Whether `values` are what must come out.
    pub fn matches(&self, values: &[f32]) -> bool {
        *self == Expected::of(values, matches!(self, Expected::Words(_)))
    }
}

fn digest(words: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new();
    words.iter().for_each(|word| _ = hasher.update(&word.to_le_bytes()));
    hasher.finalize().to_hex().to_string()
}

/// One case: an operation, its sizes and scalars, its inputs and, in a file, its outputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Case {
    pub operation: String,
    pub ints: Vec<(String, u64)>,
    pub floats: Vec<(String, f32)>,
    pub doubles: Vec<(String, f64)>,
    pub inputs: Vec<(String, Source)>,
    pub outputs: Vec<(String, Expected)>,
}

impl Case {
    pub fn new(operation: &str, ints: &[(&str, u64)], floats: &[(&str, f32)], inputs: &[(&str, Source)]) -> Case {
        fn named<T: Clone>(pairs: &[(&str, T)]) -> Vec<(String, T)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        }
        let (ints, floats, inputs) = (named(ints), named(floats), named(inputs));
        Case { operation: operation.to_owned(), ints, floats, inputs, ..Case::default() }
    }

    fn find<'a, T>(&self, what: &str, pairs: &'a [(String, T)], name: &str) -> &'a T {
        let found = pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        found.unwrap_or_else(|| panic!("{}: no {what} {name:?}", self.operation))
    }

    /// A size; 0 or 1 for a flag.
    pub fn int(&self, name: &str) -> usize {
        *self.find("int", &self.ints, name) as usize
    }

    pub fn float(&self, name: &str) -> f32 {
        *self.find("float", &self.floats, name)
    }

    pub fn double(&self, name: &str) -> f64 {
        *self.find("double", &self.doubles, name)
    }

    /// An input of float32.
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.u32s(name).into_iter().map(f32::from_bits).collect()
    }

    /// An input of integers.
    pub fn u32s(&self, name: &str) -> Vec<u32> {
        self.find("input", &self.inputs, name).words()
    }

    /// What identifies a case to people.
    pub fn name(&self) -> String {
        self.ints.iter().fold(self.operation.clone(), |name, (key, value)| format!("{name} {key}={value}"))
    }

    /// The case as text.
    pub fn write(&self, text: &mut String) {
        writeln!(text, "\ncase {}", self.operation).unwrap();
        self.ints.iter().for_each(|(name, value)| writeln!(text, "int {name} {value}").unwrap());
        self.floats.iter().for_each(|(name, value)| writeln!(text, "float {name} {:08x}", value.to_bits()).unwrap());
        self.doubles.iter().for_each(|(name, value)| writeln!(text, "double {name} {:016x}", value.to_bits()).unwrap());
        for (name, source) in &self.inputs {
            write!(text, "in {name} ").unwrap();
            source.write(text);
        }
        for (name, expected) in &self.outputs {
            write!(text, "out {name} ").unwrap();
            match expected {
                Expected::Words(words) => write_words(text, words),
                Expected::Digest(len, digest) => writeln!(text, "blake3 {len} {digest}").unwrap(),
            }
        }
        text.push_str("end\n");
    }
}

fn hex(text: &str) -> u32 {
    assert_eq!(text.len(), 8, "{text:?} are not eight hexadecimal digits");
    u32::from_str_radix(text, 16).unwrap()
}

fn write_words(text: &mut String, words: &[u32]) {
    writeln!(text, "words {}", words.len()).unwrap();
    for line in words.chunks(12) {
        let line: Vec<String> = line.iter().map(|word| format!("{word:08x}")).collect();
        writeln!(text, "{}", line.join(" ")).unwrap();
    }
}

/// The cases of a file.
pub fn parse(text: &str) -> Vec<Case> {
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut cases, mut case) = (Vec::new(), Case::default());
    while let Some(line) = lines.next() {
        let fields: Vec<&str> = line.split(' ').collect();
        let mut words = |count: usize| {
            let of_line = |line: &str| line.split(' ').map(hex).collect::<Vec<u32>>();
            let words: Vec<u32> = lines.by_ref().take(count.div_ceil(12)).flat_map(of_line).collect();
            assert_eq!(words.len(), count, "words after {line:?}");
            words
        };
        match fields[..] {
            ["case", operation] => case = Case { operation: operation.to_owned(), ..Case::default() },
            ["int", name, value] => case.ints.push((name.to_owned(), value.parse().unwrap())),
            ["float", name, value] => case.floats.push((name.to_owned(), f32::from_bits(hex(value)))),
            ["double", name, value] => {
                case.doubles.push((name.to_owned(), f64::from_bits(u64::from_str_radix(value, 16).unwrap())));
            }
            ["in", name, ref source @ ..] => case.inputs.push((name.to_owned(), Source::parse(source, &mut words))),
            ["out", name, "words", count] => {
                case.outputs.push((name.to_owned(), Expected::Words(words(count.parse().unwrap()))));
            }
            ["out", name, "blake3", len, digest] => {
                case.outputs.push((name.to_owned(), Expected::Digest(len.parse().unwrap(), digest.to_owned())));
            }
            ["end"] => cases.push(std::mem::take(&mut case)),
            _ => panic!("unknown line {line:?}"),
        }
    }
    cases
}
