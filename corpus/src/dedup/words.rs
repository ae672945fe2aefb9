//! The words of a text, brought to a form in which near-duplicates agree, as 64-bit hashes.
//!
//! What FineWeb does before it takes MinHashes (datatrove, `simplify_text`): lower case, numbers made equal, punctuation and
//! white space only part words, diacritics folded. Exactly, by character, of a text in NFC:
//!
//! 1. Letters become lower case; of the canonical decomposition the marks (characters of a combining class) go:
//!    `É`, `é`, `e` + U+0301 and `e` are one. Where more than one character would remain (Hangul), the character stays whole.
//! 2. A run of digits (Unicode Nd, Nl, No), with at most one decimal sign (`.` `,` `،` `٫` `⎖` `⎗` `⎘`) between two digits,
//!    becomes `0`: `1789`, `3,14` and `2.5` are one. Letters beside it stay with it: `v2` is `v0`.
//! 3. Soft hyphens, zero-width spaces and joiners, word joiners and byte order marks go without parting a word.
//! 4. A character of a script that is written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar) is a word.
//! 5. Any other character that is neither letter nor number parts words: white space, punctuation, symbols.
//!
//! datatrove parts words by a spaCy model of the language, drops a fixed list of punctuation and keeps other symbols; on text of
//! European languages the words are nearly the same ones. Letters are what the Unicode tables of the compiler's library say: a
//! program built from the same sources by the same compiler gives the same hashes on every machine.

use std::ops::Range;
use std::sync::OnceLock;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};

/// Characters that are looked up: the basic plane.
const TABLE: usize = 1 << 16;
const DROP: u32 = u32::MAX;
const PART: u32 = u32::MAX - 1;
const POINT: u32 = u32::MAX - 2;
const DIGIT: u32 = u32::MAX - 3;
/// Set in what stands for a character that is a word.
const ALONE: u32 = 1 << 24;

/// Odd constants without structure: the first digits of π, as in Blowfish.
const K: [u64; 3] = [0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7345, 0xA409_3822_299F_31D1];

/// The two halves of a 128-bit product, one upon the other: mixes all bits of both.
#[inline(always)]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Spreads each bit of a number over all (the finaliser of SplitMix64: a bijection).
#[inline(always)]
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash of a list of hashes, of its order and of a seed.
#[inline]
pub(crate) fn chain(seed: u64, hashes: &[u64]) -> u64 {
    let start = seed ^ (hashes.len() as u64).wrapping_mul(K[2]);
    mix(hashes.iter().fold(start, |state, &hash| fold(state ^ hash, K[1]).wrapping_add(hash)))
}

/// A seed from a name: what differs in it has hashes that do not meet.
pub(crate) fn seed(label: &str, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    hasher.update(name.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Scripts that are written without spaces between words.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3041..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xAA60..=0xAA7F | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// What stands for a character: itself folded, perhaps with [`ALONE`], or one of the classes.
fn class(c: char) -> u32 {
    match c {
        '.' | ',' | '،' | '٫' | '⎖' | '⎗' | '⎘' => return POINT,
        '\u{AD}' | '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}' => return DROP,
        _ if canonical_combining_class(c) != 0 => return DROP,
        _ if c.is_numeric() => return DIGIT,
        _ if !c.is_alphanumeric() => return PART,
        _ => {}
    }
    let (mut first, mut count) = (c, 0);
    for lower in c.to_lowercase() {
        decompose_canonical(lower, |part| {
            if canonical_combining_class(part) == 0 {
                first = if count == 0 { part } else { first };
                count += 1;
            }
        });
    }
    let mut lower = c.to_lowercase();
    let folded = match (count, lower.next()) {
        (1, _) => first,
        (_, Some(lower)) => lower,
        (_, None) => c,
    };
    u32::from(folded) | if stands_alone(c) { ALONE } else { 0 }
}

fn table() -> &'static [u32; TABLE] {
    static CLASSES: OnceLock<Box<[u32; TABLE]>> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let mut table = Box::new([PART; TABLE]);
        for (code, entry) in table.iter_mut().enumerate() {
            *entry = char::from_u32(code as u32).map_or(PART, class);
        }
        table
    })
}

/// A word that is being read.
struct Word {
    hash: u64,
    begin: usize,
    /// It has a character.
    open: bool,
    /// The last character belongs to a number.
    number: bool,
    /// That number has had its decimal sign.
    point: bool,
}

impl Word {
    const EMPTY: Word = Word { hash: K[0], begin: 0, open: false, number: false, point: false };

    #[inline(always)]
    fn push(&mut self, code: u32, at: usize) {
        if !self.open {
            (self.open, self.begin) = (true, at);
        }
        self.hash = fold(self.hash ^ u64::from(code), K[1]);
    }

    #[inline(always)]
    fn end(&mut self, at: usize, each: &mut impl FnMut(u64, Range<usize>)) {
        if self.open {
            each(mix(self.hash), self.begin..at);
        }
        *self = Word::EMPTY;
    }
}

/// Calls `each` with every word of a text in order: its hash, and where it stands in the text.
#[inline]
pub(crate) fn words(text: &str, mut each: impl FnMut(u64, Range<usize>)) {
    let table = table();
    let lookup = |c: char| table.get(c as usize).copied().unwrap_or_else(|| class(c));
    let (mut word, mut at) = (Word::EMPTY, 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let (here, code) = (at, lookup(c));
        at += c.len_utf8();
        if code < ALONE {
            word.push(code, here);
            word.number = false;
            continue;
        }
        match code {
            DROP => {}
            PART => word.end(here, &mut each),
            DIGIT => {
                if !word.number {
                    word.push(u32::from('0'), here);
                    (word.number, word.point) = (true, false);
                }
            }
            POINT => {
                let decimal = word.number && !word.point && chars.clone().next().is_some_and(|c| lookup(c) == DIGIT);
                match decimal {
                    true => word.point = true,
                    false => word.end(here, &mut each),
                }
            }
            alone => {
                word.end(here, &mut each);
                word.push(alone, here);
                word.end(at, &mut each);
            }
        }
    }
    word.end(at, &mut each);
}

/// Appends the hashes of a text's words.
#[inline]
pub(crate) fn hashes(text: &str, into: &mut Vec<u64>) {
    words(text, |hash, _| into.push(hash));
}

/// Hashes of all runs of `n` words, in order: polynomials over the words' hashes mod 2^64, then mixed. Two runs of different words
/// have the same with a chance of about 2^-63.
#[inline]
pub(crate) fn runs(words: &[u64], n: usize, mut each: impl FnMut(u64)) {
    if n == 0 || words.len() < n {
        return;
    }
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
    let leading = (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut sum = words[..n].iter().fold(n as u64, |sum, &word| sum.wrapping_mul(BASE).wrapping_add(word));
    each(mix(sum));
    // The run's length is the polynomial's first coefficient and never leaves it.
    let keep = (n as u64).wrapping_mul(leading).wrapping_mul(BASE.wrapping_sub(1));
    for (gone, &word) in words.iter().zip(&words[n..]) {
        let out = gone.wrapping_mul(leading).wrapping_add(keep);
        sum = sum.wrapping_mul(BASE).wrapping_add(word).wrapping_sub(out);
        each(mix(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        hashes(text, &mut all);
        all
    }

    fn same(a: &str, b: &str) {
        assert_eq!(forms(a), forms(b), "{a:?} {b:?}");
    }

    fn differ(a: &str, b: &str) {
        assert_ne!(forms(a), forms(b), "{a:?} {b:?}");
    }

    #[test]
    fn case_accents_punctuation_and_space_do_not_matter() {
        same("Élève, déjà… VU!", "eleve deja vu");
        same("e\u{301}te\u{301}", "été");
        same("L’élève «lit»", "l eleve lit");
        same("a\n\t b\u{a0}c—d", "A B C D");
        same("ΆΛΦΑ Йод Ångström çà", "αλφα иод angstrom ca");
        same("co\u{ad}opé\u{200b}ration", "cooperation");
        same("İstanbul", "istanbul");
        differ("a b", "ab");
        differ("ab", "ba");
        differ("chat", "chats");
        differ("한글", "한국");
        assert!(forms(" …—!? ").is_empty() && forms("").is_empty());
    }

    #[test]
    fn numbers_are_one() {
        same("1789", "0");
        same("3,14 et 2.5", "7 et 8");
        same("v2 2e5 3rd", "v9 1e8 0rd");
        same("١٢٣", "5");
        same("1.2.3", "0 0");
        same("1. 2", "0 0");
        same("1,", "1");
        same(".5", "5");
        differ("1 2", "12");
        differ("a1", "a");
    }

    #[test]
    fn scripts_without_spaces_have_words_too() {
        assert_eq!(forms("日本語 text").len(), 4);
        assert_eq!(forms("x日y").len(), 3);
        differ("日本", "本日");
    }

    #[test]
    fn words_know_their_place() {
        let mut places = Vec::new();
        let text = " L’été, 3,5 日本 fin";
        words(text, |_, place| places.push(&text[place]));
        assert_eq!(places, ["L", "été", "3,5", "日", "本", "fin"]);
    }

    #[test]
    fn runs_roll_as_they_would_be_computed_alone() {
        let words = forms("un deux trois quatre cinq six sept huit un deux trois quatre cinq");
        for n in 1..=13 {
            let mut rolled = Vec::new();
            runs(&words, n, |hash| rolled.push(hash));
            let mut alone = Vec::new();
            words.windows(n).for_each(|window| runs(window, n, |hash| alone.push(hash)));
            assert_eq!(rolled, alone);
            assert_eq!(rolled.len(), words.len() + 1 - n);
        }
        let (mut five, mut six) = (Vec::new(), Vec::new());
        runs(&[1, 2, 3, 4, 5], 5, |hash| five.push(hash));
        runs(&[0, 1, 2, 3, 4, 5], 6, |hash| six.push(hash));
        assert_ne!(five, six);
    }

    #[test]
    fn hashes_are_what_they_were() {
        let mut all = forms("Déjà vu 12");
        all.push(chain(7, &[1, 2]));
        runs(&[1, 2, 3], 2, |hash| all.push(hash));
        assert_eq!(all, FIXED);
    }

    const FIXED: [u64; 6] = [
        7_242_361_870_691_492_183,
        15_421_305_207_809_145_314,
        553_531_607_826_028_042,
        14_164_130_714_958_273_196,
        12_551_275_269_606_642_811,
        4_128_356_252_462_341_503,
    ];
}
