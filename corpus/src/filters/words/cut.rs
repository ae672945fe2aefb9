//! What is cut off a piece at its ends, and where it is cut inside.

use super::At;
use super::chars::*;
use super::rules::{Hyphen, Language, Rules};
use super::special;

/// Units that are cut off a number.
const UNITS: &[&str] = &[
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha", "µm", "nm",
    "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa", "Pa", "mbar", "mb",
    "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%",
];
const UNIT_MAX: usize = 4;

/// French pronouns and particles that are cut off a word with their hyphen.
const FRENCH_AFTER_HYPHEN: &[&str] =
    &["ce", "clés", "elle", "en", "il", "ils", "je", "là", "moi", "nous", "on", "t", "vous"];

fn ends_with(piece: &[At], word: &str) -> bool {
    let mut at = piece.iter().rev();
    word.chars().rev().all(|c| at.next().is_some_and(|at| at.c == c))
}

/// The length of what is cut off at the front, characters.
pub(super) fn prefix(piece: &[At], rules: &Rules) -> usize {
    let first = piece[0].c;
    if first.is_ascii_alphanumeric() {
        return elided(piece, rules).max(money(piece));
    }
    let next = piece.get(1).map(|at| at.c);
    match first {
        '§' | '%' | '=' | '—' | '–' | '…' => 1,
        '+' if !next.is_some_and(|c| c.is_ascii_digit()) => 1,
        '.' if next == Some('.') => piece.iter().take_while(|at| at.c == '.').count(),
        '`' if next == Some('`') && rules.language == Language::German => 2,
        ',' if next == Some(',') && rules.language == Language::Dutch => 2,
        c if is_punctuation(c) || is_quote(c) || is_currency(c) || is_icon(c) => 1,
        _ => 0,
    }
}

/// `l'` before a letter, in French.
fn elided(piece: &[At], rules: &Rules) -> usize {
    let elides = rules.language == Language::French
        && matches!(piece[0].c, 'd' | 'l' | 'n' | 'D' | 'L' | 'N')
        && piece.get(1).is_some_and(|at| is_elision(at.c))
        && piece.get(2).is_some_and(|at| is_alpha(at.c));
    if elides { 2 } else { 0 }
}

/// `US$`, `C$` and `A$`.
fn money(piece: &[At]) -> usize {
    let starts = |sign: &str| sign.chars().enumerate().all(|(i, c)| piece.get(i).is_some_and(|at| at.c == c));
    ["US$", "C$", "A$"].iter().find(|sign| starts(sign)).map_or(0, |sign| sign.len())
}

/// The length of what is cut off at the back, characters.
pub(super) fn suffix(piece: &[At], rules: &Rules) -> usize {
    let Some((last, before)) = piece.split_last() else { return 0 };
    let previous = before.last().map(|at| at.c);
    let digit = previous.is_some_and(|c| c.is_ascii_digit());
    let french = rules.language == Language::French;
    match last.c {
        '.' => full_stop(piece, rules),
        's' | 'S' if previous.is_some_and(is_elision) && rules.splits_genitive() => 2,
        '+' if digit => 1,
        '—' | '–' if !french => 1,
        '/' if rules.language == Language::German => 1,
        '\'' if previous == Some('\'') && rules.language == Language::German => 2,
        c if is_punctuation(c) || is_quote(c) => 1,
        c if is_icon(c) && !french => 1,
        c if is_currency(c) && digit => 1,
        c if is_alpha(c) || matches!(c, '%' | '²' | '³') => unit(piece).max(after_hyphen(piece, rules)),
        _ => 0,
    }
}

/// A full stop, or several. One after a single capital (an initial) stays.
fn full_stop(piece: &[At], rules: &Rules) -> usize {
    let dots = piece.iter().rev().take_while(|at| at.c == '.').count();
    if dots > 1 {
        return dots;
    }
    let Some(previous) = piece.len().checked_sub(2) else { return 0 };
    let c = piece[previous].c;
    let capitals = is_upper(c) && previous.checked_sub(1).is_some_and(|i| is_upper(piece[i].c));
    let degrees = matches!(c, 'F' | 'f' | 'C' | 'c' | 'K' | 'k') && previous > 0 && piece[previous - 1].c == '°';
    let after = match rules.language {
        Language::French => matches!(c, '(' | '?' | ':' | ')' | '%' | '²' | '-' | '+') || is_quote(c),
        _ => matches!(c, '%' | '²' | '-' | '+') || is_quote(c) || is_punctuation(c),
    };
    let digit = c.is_ascii_digit() && rules.language != Language::German;
    usize::from(capitals || degrees || after || digit || is_lower(c))
}

fn unit(piece: &[At]) -> usize {
    // The longest one that a digit precedes.
    (1..=UNIT_MAX.min(piece.len().saturating_sub(1)))
        .rev()
        .find(|&length| {
            let at = piece.len() - length;
            piece[at - 1].c.is_ascii_digit()
                && UNITS.iter().any(|unit| unit.chars().count() == length && ends_with(piece, unit))
        })
        .unwrap_or(0)
}

/// `-il`, `-t` and their like, in French.
fn after_hyphen(piece: &[At], rules: &Rules) -> usize {
    if rules.language != Language::French {
        return 0;
    }
    let tail = &piece[piece.len().saturating_sub(6)..];
    let Some(hyphen) = tail.iter().rposition(|at| matches!(at.c, '-' | '–' | '—' | '‐' | '‑')) else {
        return 0;
    };
    let at = piece.len() - tail.len() + hyphen;
    if at == 0 || !is_alpha(piece[at - 1].c) {
        return 0;
    }
    let after = &piece[at + 1..];
    let is = |word: &str| {
        let same = |fold: fn(char) -> char| word.chars().map(fold).eq(after.iter().map(|at| at.c));
        same(|c| c) || same(|c| c.to_uppercase().next().unwrap_or(c))
    };
    if FRENCH_AFTER_HYPHEN.iter().any(|word| is(word)) { piece.len() - at } else { 0 }
}

/// Cuts a piece at what stands between its letters, and names the parts by their bounds.
pub(super) fn inside(piece: &[At], rules: &Rules, mut push: impl FnMut(usize, usize)) {
    if let Some(at) = special::contraction(piece, rules) {
        push(0, at);
        push(at, piece.len());
        return;
    }
    let (mut start, mut i) = (0, 1);
    while i < piece.len() {
        // A cut at the very start would leave nothing.
        match separator(piece, i, rules) {
            Some(length) => {
                push(start, i);
                push(i, i + length);
                start = i + length;
                i = start.max(i + 1);
            }
            None => i += 1,
        }
    }
    push(start, piece.len());
}

/// The length of the separator at `i > 0`; zero between an elision and its word.
fn separator(piece: &[At], i: usize, rules: &Rules) -> Option<usize> {
    let c = piece[i].c;
    let before = piece[i - 1].c;
    let after = piece.get(i + 1).map(|at| at.c);
    if c.is_ascii_alphanumeric() || is_alpha(c) {
        return elision(piece, i, rules).then_some(0);
    }
    let letter_after = after.is_some_and(is_alpha);
    let found = match c {
        '…' => true,
        '.' if after == Some('.') => return Some(piece[i..].iter().take_while(|at| at.c == '.').count()),
        '.' if rules.splits_at_marks() => is_lower(before) && after.is_some_and(is_upper),
        '.' => (is_lower(before) || is_quote(before)) && after.is_some_and(|c| is_upper(c) || is_quote(c)),
        ',' => is_alpha(before) && letter_after,
        '!' | '?' => rules.splits_at_marks() && is_alpha(before) && letter_after,
        '+' | '*' | '^' if !rules.splits_at_marks() && before.is_ascii_digit() => {
            after.is_some_and(|c| c.is_ascii_digit() || c == '-')
        }
        '-' if before.is_ascii_digit() && after.is_some_and(|c| c.is_ascii_digit() || c == '-') => {
            !matches!(rules.language, Language::Spanish | Language::Dutch)
        }
        '-' | '–' | '—' | '~' => return hyphen(piece, i, rules),
        '/' if rules.language == Language::German => {
            let is = |c: char| is_alpha(c) || c.is_ascii_digit();
            is(before) && after.is_some_and(is)
        }
        '/' if rules.language == Language::Dutch => false,
        ':' | '<' | '>' | '=' | '/' => {
            let digit = before.is_ascii_digit() && !rules.splits_at_marks();
            (is_alpha(before) || digit) && letter_after
        }
        '(' | '[' | ']' | ')' => rules.splits_at_marks() && is_alpha(before) && letter_after,
        c if is_icon(c) => true,
        c if rules.splits_at_marks() && is_quote(c) && c != '\'' => is_alpha(before) && letter_after,
        '"' if elision(piece, i, rules) => return Some(0),
        _ => false,
    };
    found.then_some(1)
}

/// Between an apostrophe after a letter and the letter at `i`.
fn elision(piece: &[At], i: usize, rules: &Rules) -> bool {
    let elides = i >= 2 && is_elision(piece[i - 1].c) && is_alpha(piece[i - 2].c);
    let c = piece[i].c;
    elides
        && match rules.language {
            Language::French => is_alpha(c),
            Language::Italian => is_alpha(c) || c.is_ascii_digit() || c == '"',
            _ => false,
        }
}

/// A hyphen or dash at `i`, or a double or triple one.
fn hyphen(piece: &[At], i: usize, rules: &Rules) -> Option<usize> {
    let run = match piece[i].c {
        c @ ('-' | '—') => piece[i..].iter().take_while(|at| at.c == c).count(),
        _ => 1,
    };
    let longest = if piece[i].c == '-' { 3 } else { 2 };
    let (before, after) = (piece[i - 1].c, piece.get(i + run)?.c);
    let splits = run <= longest
        && match rules.hyphen {
            Hyphen::Letters => is_alpha(before) && is_alpha(after),
            Hyphen::LettersAndDigits => (is_alpha(before) || before.is_ascii_digit()) && is_alpha(after),
            Hyphen::Small => is_alpha(before) && is_lower(after),
            Hyphen::Double => piece[i].c == '-' && run == 2 && is_alpha(before) && is_alpha(after),
            Hyphen::Never => false,
        };
    splits.then_some(run)
}
