//! fastText's supervised models: the file, and what it says of a text.
//!
//! The format is that of fastText 0.9 (`FastText::saveModel`, `Dictionary::save`, `QuantMatrix::save` of
//! <https://github.com/facebookresearch/fastText>), version 12, dense (`.bin`) or quantised (`.ftz`). The computation follows it step by
//! step in float32; sums go from left to right, and `exp` and `log` are libm's in software, so a text has the same probability, bit for
//! bit, on every machine.
//!
//! Why our own: `fasttext` 0.8 has unsafe vector code for each processor, `fasttext-pure-rs` 0.1 takes `exp` from the machine's library;
//! both would give other bits elsewhere.

use super::matrix::Matrix;
use super::model_file::{ModelError, ModelFile};

const MAGIC: i32 = 793_712_314;
const VERSION: i32 = 12;
/// What ends a line.
const END: &[u8] = b"</s>";
const LABEL: &[u8] = b"__label__";
/// Rows, labels and n-grams of a model at most: twenty times those of the largest published one.
const COUNT_MAX: usize = 1 << 26;
const DIM_MAX: usize = 1 << 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    HierarchicalSoftmax,
    /// One sigmoid a label, from a table: negative sampling, and one against all.
    Sigmoids,
    Softmax,
}

/// A model.
#[derive(Debug)]
pub(crate) struct FastText {
    loss: Loss,
    word_ngrams: usize,
    buckets: u32,
    lengths: (usize, usize),
    words: Words,
    /// Names without `__label__`.
    labels: Vec<String>,
    /// Rows of kept n-grams, where a quantised model dropped some.
    pruned: Option<Kept>,
    input: Matrix,
    output: Matrix,
    /// Children of the inner nodes, root last: labels first, then inner nodes.
    tree: Vec<[u32; 2]>,
}

/// Words and their rows.
#[derive(Debug)]
struct Words {
    slots: Vec<u32>,
    text: Vec<u8>,
    ends: Vec<u32>,
}

/// A map of n-grams to rows with open addressing.
#[derive(Debug)]
struct Kept {
    slots: Vec<(u32, u32)>,
}

fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash, &byte| step(hash, byte))
}

/// FNV-1a over signed bytes, as fastText has it.
fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ (byte as i8 as u32)).wrapping_mul(16_777_619)
}

impl Words {
    fn new(words: &[Vec<u8>]) -> Words {
        let mut table =
            Words { slots: vec![0; (2 * words.len()).next_power_of_two().max(2)], text: Vec::new(), ends: Vec::new() };
        for word in words {
            let at = table.find(word).unwrap_or_else(|at| at);
            table.text.extend_from_slice(word);
            table.ends.push(table.text.len() as u32);
            table.slots[at] = table.ends.len() as u32;
        }
        table
    }

    fn get(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[start..self.ends[i] as usize]
    }

    /// Its slot, or the free one where it would be.
    fn find(&self, word: &[u8]) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash(word) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Err(at),
                slot if self.get(slot as usize - 1) == word => return Ok(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn row(&self, word: &[u8]) -> Option<u32> {
        self.find(word).ok().map(|at| self.slots[at] - 1)
    }
}

impl Kept {
    const FREE: u32 = u32::MAX;

    fn new(pairs: &[(u32, u32)]) -> Kept {
        let mut slots = vec![(Kept::FREE, 0); (2 * pairs.len()).next_power_of_two().max(2)];
        let mask = slots.len() - 1;
        for &(ngram, row) in pairs {
            let mut at = Kept::place(ngram) & mask;
            while slots[at].0 != Kept::FREE && slots[at].0 != ngram {
                at = (at + 1) & mask;
            }
            slots[at] = (ngram, row);
        }
        Kept { slots }
    }

    fn place(ngram: u32) -> usize {
        (ngram.wrapping_mul(0x9e37_79b1) >> 7) as usize
    }

    fn row(&self, ngram: u32) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = Kept::place(ngram) & mask;
        loop {
            match self.slots[at] {
                (Kept::FREE, _) => return None,
                (known, row) if known == ngram => return Some(row),
                _ => at = (at + 1) & mask,
            }
        }
    }
}

/// The rows of a text, and room for what is computed.
#[derive(Debug, Default)]
struct Input {
    rows: Vec<u32>,
    hashes: Vec<i32>,
    word: Vec<u8>,
}

impl FastText {
    /// Reads a model.
    pub(crate) fn read(file: &mut ModelFile) -> Result<FastText, ModelError> {
        if file.int()? != MAGIC {
            return Err(file.malformed("it does not begin as fastText's models do"));
        }
        let version = file.int()?;
        if version != VERSION {
            return Err(file.malformed(&format!("version {version}, expected {VERSION}")));
        }
        let [dim, _, _, _, _, word_ngrams, loss, kind, buckets, min, max, _] = file.ints()?;
        file.skip(8)?;
        if kind != 3 {
            return Err(file.malformed("it holds word vectors: a supervised model is needed"));
        }
        let loss = match loss {
            1 => Loss::HierarchicalSoftmax,
            2 | 4 => Loss::Sigmoids,
            3 => Loss::Softmax,
            loss => return Err(file.malformed(&format!("loss {loss} is unknown"))),
        };
        let dim = file.count(i64::from(dim), DIM_MAX)?;
        let buckets = file.count(i64::from(buckets), COUNT_MAX)? as u32;
        let word_ngrams = file.count(i64::from(word_ngrams), 64)?;
        let lengths = (file.count(i64::from(min), 64)?, file.count(i64::from(max), 64)?);
        let (words, labels, counts, pruned, ngram_rows) = read_dictionary(file, buckets)?;
        let quantised = file.byte()? != 0;
        let input = Matrix::read(file, quantised)?;
        let output_quantised = file.byte()? != 0;
        let output = Matrix::read(file, quantised && output_quantised)?;
        let shapes = (input.columns(), output.columns(), output.rows()) == (dim, dim, labels.len());
        if !shapes || input.rows() < words.ends.len() + ngram_rows || dim == 0 {
            return Err(file.malformed("its matrices do not fit its words and labels"));
        }
        let tree = if loss == Loss::HierarchicalSoftmax { huffman(&counts) } else { Vec::new() };
        Ok(FastText { loss, word_ngrams, buckets, lengths, words, labels, pruned, input, output, tree })
    }

    /// Names of the labels, without `__label__`.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The label of the greatest probability, if the text has anything that the model knows. Parts are read as one text with spaces
    /// between them; line feeds are spaces too.
    pub(crate) fn predict(&self, parts: &[&str]) -> Option<(usize, f32)> {
        let mut input = Input::default();
        for part in parts {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c | 0);
            let tokens = part.as_bytes().split(is_space).filter(|token| !token.is_empty());
            tokens.for_each(|token| self.add_token(token, &mut input));
        }
        self.add_token(END, &mut input);
        self.add_word_ngrams(&mut input);
        if input.rows.is_empty() {
            return None;
        }
        let mut hidden = vec![0.0; self.input.columns()];
        input.rows.iter().for_each(|&row| self.input.add_row(row as usize, &mut hidden));
        let scale = (1.0 / input.rows.len() as f64) as f32;
        hidden.iter_mut().for_each(|value| *value *= scale);
        let (label, log) = match self.loss {
            Loss::HierarchicalSoftmax => self.descend(&hidden),
            Loss::Softmax => self.softmax(&hidden),
            Loss::Sigmoids => {
                best((0..self.labels.len()).map(|label| sigmoid_of_table(self.output.dot(label, &hidden))))
            }
        }?;
        Some((label, libm::exp(f64::from(log)) as f32))
    }

    fn add_token(&self, token: &[u8], input: &mut Input) {
        let row = self.words.row(token);
        if row.is_none() && token.starts_with(LABEL) {
            return;
        }
        input.hashes.push(hash(token) as i32);
        input.rows.extend(row);
        if (row.is_none() || self.lengths.1 > 0) && token != END {
            let Input { word, rows, .. } = input;
            word.clear();
            word.push(b'<');
            word.extend_from_slice(token);
            word.push(b'>');
            self.add_ngrams(word, rows);
        }
    }

    /// N-grams of characters of a word in angle brackets.
    fn add_ngrams(&self, word: &[u8], rows: &mut Vec<u32>) {
        let continues = |at: usize| word.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let (min, max) = self.lengths;
        for start in (0..word.len()).filter(|&start| !continues(start)) {
            let (mut at, mut hash) = (start, 2_166_136_261);
            for n in 1..=max {
                if at >= word.len() {
                    break;
                }
                hash = step(hash, word[at]);
                at += 1;
                while continues(at) {
                    hash = step(hash, word[at]);
                    at += 1;
                }
                let bracket = n == 1 && (start == 0 || at == word.len());
                if n >= min && !bracket {
                    self.push(u64::from(hash), rows);
                }
            }
        }
    }

    fn add_word_ngrams(&self, input: &mut Input) {
        let Input { rows, hashes, .. } = input;
        for (i, &first) in hashes.iter().enumerate() {
            let mut hash = first as u64;
            for &next in hashes[i + 1..].iter().take(self.word_ngrams.saturating_sub(1)) {
                hash = hash.wrapping_mul(116_049_371).wrapping_add(next as u64);
                self.push(hash, rows);
            }
        }
    }

    fn push(&self, hash: u64, rows: &mut Vec<u32>) {
        if self.buckets == 0 {
            return;
        }
        let ngram = match u32::try_from(hash) {
            Ok(hash) => hash % self.buckets,
            Err(_) => (hash % u64::from(self.buckets)) as u32,
        };
        let row = match &self.pruned {
            Some(kept) => kept.row(ngram),
            None => Some(ngram),
        };
        rows.extend(row.map(|row| self.words.ends.len() as u32 + row));
    }

    /// Down the tree; branches that cannot win are not entered.
    fn descend(&self, hidden: &[f32]) -> Option<(usize, f32)> {
        let labels = self.labels.len();
        let mut found: Option<(usize, f32)> = None;
        let mut branches = vec![((labels + self.tree.len()).checked_sub(1)?, 0.0_f32)];
        while let Some((node, score)) = branches.pop() {
            if found.is_some_and(|(_, best)| score < best) {
                continue;
            }
            match node.checked_sub(labels) {
                None if found.is_none_or(|(_, best)| score > best) => found = Some((node, score)),
                None => (),
                Some(inner) => {
                    let right = sigmoid(self.output.dot(inner, hidden));
                    let [a, b] = self.tree[inner].map(|child| child as usize);
                    branches.push((b, score + log(right)));
                    branches.push((a, score + log(1.0 - right)));
                }
            }
        }
        found
    }

    fn softmax(&self, hidden: &[f32]) -> Option<(usize, f32)> {
        let values: Vec<f32> = (0..self.labels.len()).map(|label| self.output.dot(label, hidden)).collect();
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = values.iter().map(|value| libm::exp(f64::from(value - most)) as f32).collect();
        let sum = powers.iter().fold(0.0_f32, |sum, power| sum + power);
        best(powers.iter().map(|power| power / sum))
    }
}

/// The first of the greatest, and its logarithm.
fn best(values: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    let greater = |best: Option<(usize, f32)>, (label, value)| match best {
        Some((_, most)) if most >= value => best,
        _ => Some((label, value)),
    };
    values.enumerate().fold(None, greater).map(|(label, value)| (label, log(value)))
}

/// fastText's logarithm: never of zero.
fn log(x: f32) -> f32 {
    libm::log(f64::from(x) + 1e-5) as f32
}

fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + libm::exp(-f64::from(x)))) as f32
}

/// fastText's table of 512 values between -8 and 8.
fn sigmoid_of_table(x: f32) -> f32 {
    match x {
        x if x < -8.0 => 0.0,
        x if x > 8.0 => 1.0,
        x => sigmoid(((x + 8.0) * 512.0 / 8.0 / 2.0).trunc() * 16.0 / 512.0 - 8.0),
    }
}

type Dictionary = (Words, Vec<String>, Vec<i64>, Option<Kept>, usize);

fn read_dictionary(file: &mut ModelFile, buckets: u32) -> Result<Dictionary, ModelError> {
    let [size, words, labels] = file.ints()?;
    file.skip(8)?;
    let pruned = file.long()?;
    let [size, words, labels] = [size, words, labels].map(i64::from);
    let size = file.count(size, COUNT_MAX)?;
    let (words, labels) = (file.count(words, COUNT_MAX)?, file.count(labels, COUNT_MAX)?);
    if words + labels != size || labels == 0 {
        return Err(file.malformed(&format!("{words} words and {labels} labels in {size} entries")));
    }
    let (mut names, mut label_names, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..size {
        let (name, count, kind) = (file.name()?, file.long()?, file.byte()?);
        if (kind != 0) != (i >= words) {
            return Err(file.malformed("words after labels"));
        }
        match kind {
            0 => names.push(name),
            _ => {
                let name = String::from_utf8_lossy(&name).into_owned();
                label_names.push(name.strip_prefix("__label__").map_or(name.clone(), String::from));
                counts.push(count);
            }
        }
    }
    if pruned < 0 {
        return Ok((Words::new(&names), label_names, counts, None, buckets as usize));
    }
    let pruned = file.count(pruned, COUNT_MAX)?;
    let (mut pairs, mut rows) = (Vec::new(), 0);
    for _ in 0..pruned {
        let [ngram, row] = file.ints()?;
        let (ngram, row) = (file.count(i64::from(ngram), COUNT_MAX)?, file.count(i64::from(row), COUNT_MAX)?);
        rows = rows.max(row + 1);
        pairs.push((ngram as u32, row as u32));
    }
    Ok((Words::new(&names), label_names, counts, Some(Kept::new(&pairs)), rows))
}

/// Children of the inner nodes of the tree that fastText builds from the labels' counts, which fall.
fn huffman(counts: &[i64]) -> Vec<[u32; 2]> {
    let labels = counts.len();
    let mut weights = counts.to_vec();
    let mut tree = Vec::with_capacity(labels.saturating_sub(1));
    let (mut leaf, mut inner) = (labels, labels);
    for _ in 1..labels {
        let mut take = || {
            // fastText gives nodes that do not exist yet a weight of 1e15.
            let next = weights.get(inner).copied().unwrap_or(1_000_000_000_000_000);
            if leaf > 0 && (weights[leaf - 1] < next || inner >= weights.len()) {
                leaf -= 1;
                leaf
            } else {
                inner += 1;
                inner - 1
            }
        };
        let children = [take(), take()];
        let [a, b] = children.map(|child| weights[child]);
        weights.push(a.saturating_add(b));
        tree.push(children.map(|child| child as u32));
    }
    tree
}
