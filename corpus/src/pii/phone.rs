//! Telephone numbers. An international one has a `+` (or `00`), a country and as many digits as numbers of that country have (ITU-T E.164,
//! national numbering plans). A national one has its country's form; where that form is also that of other numbers, a word such as `tél.`
//! must stand before it.

/// Countries with national forms.
pub(super) const COUNTRIES: &[&str] = &["be", "ch", "de", "es", "fr", "gb", "it", "lu", "nl", "pt"];

/// What national numbers look like: first digits and how many digits there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct National {
    forms: &'static [(&'static str, usize, usize)],
    /// Five pairs (`01 23 45 67 89`) are sure to be one without a word before them.
    pairs: bool,
}

impl National {
    /// The forms of a country (ISO 3166, small letters).
    pub(super) fn of(country: &str) -> Option<National> {
        let forms: &[(&str, usize, usize)] = match country {
            "be" => &[("0", 9, 10)],
            "ch" => &[("0", 10, 10)],
            "de" => &[("0", 7, 12)],
            "es" => &[("6", 9, 9), ("7", 9, 9), ("8", 9, 9), ("9", 9, 9)],
            "fr" => &[("0", 10, 10)],
            "gb" => &[("0", 10, 11)],
            "it" => &[("0", 6, 11), ("3", 9, 10)],
            "lu" => &[("2", 6, 8), ("3", 6, 8), ("4", 6, 8), ("6", 9, 9), ("8", 6, 8)],
            "nl" => &[("0", 10, 10)],
            "pt" => &[("2", 9, 9), ("9", 9, 9)],
            _ => return None,
        };
        Some(National { forms, pairs: country == "fr" })
    }
}

/// Country codes with the digits that follow them, at least and at most.
const INTERNATIONAL: &[(&str, usize, usize)] = &[
    ("1", 10, 10),
    ("20", 9, 10),
    ("211", 9, 9),
    ("212", 9, 9),
    ("213", 8, 9),
    ("216", 8, 8),
    ("218", 8, 9),
    ("221", 9, 9),
    ("223", 8, 8),
    ("225", 8, 10),
    ("226", 8, 8),
    ("227", 8, 8),
    ("228", 8, 8),
    ("229", 8, 10),
    ("230", 7, 8),
    ("234", 8, 10),
    ("237", 9, 9),
    ("241", 7, 8),
    ("242", 9, 9),
    ("243", 9, 9),
    ("253", 8, 8),
    ("254", 9, 9),
    ("261", 9, 9),
    ("262", 9, 9),
    ("27", 9, 9),
    ("30", 10, 10),
    ("31", 9, 9),
    ("32", 8, 9),
    ("33", 9, 9),
    ("34", 9, 9),
    ("351", 9, 9),
    ("352", 6, 9),
    ("353", 7, 9),
    ("354", 7, 7),
    ("356", 8, 8),
    ("357", 8, 8),
    ("358", 6, 11),
    ("359", 8, 9),
    ("36", 8, 9),
    ("370", 8, 8),
    ("371", 8, 8),
    ("372", 7, 8),
    ("377", 8, 9),
    ("380", 9, 9),
    ("381", 8, 9),
    ("385", 8, 9),
    ("386", 8, 8),
    ("39", 8, 11),
    ("40", 9, 9),
    ("41", 9, 9),
    ("420", 9, 9),
    ("421", 9, 9),
    ("43", 7, 13),
    ("44", 9, 10),
    ("45", 8, 8),
    ("46", 7, 9),
    ("47", 8, 8),
    ("48", 9, 9),
    ("49", 7, 11),
    ("509", 8, 8),
    ("52", 10, 10),
    ("54", 10, 11),
    ("55", 10, 11),
    ("56", 9, 9),
    ("57", 10, 10),
    ("590", 9, 9),
    ("594", 9, 9),
    ("596", 9, 9),
    ("61", 9, 9),
    ("64", 8, 10),
    ("687", 6, 6),
    ("689", 8, 8),
    ("7", 10, 10),
    ("81", 9, 10),
    ("82", 8, 10),
    ("86", 10, 11),
    ("90", 10, 10),
    ("91", 10, 10),
    ("961", 7, 8),
    ("966", 9, 9),
    ("971", 8, 9),
    ("972", 8, 9),
];

/// Words that say that a number is one of a telephone. Lower case; the last letters before the number, signs left aside.
const WORDS: &[&str] = &[
    "tel",
    "tél",
    "tlf",
    "téléphone",
    "telephone",
    "telefon",
    "teléfono",
    "telefono",
    "telefoon",
    "telefone",
    "phone",
    "mobile",
    "mobil",
    "móvil",
    "portable",
    "cellulare",
    "telemóvel",
    "gsm",
    "fax",
    "téléc",
    "télécopie",
    "whatsapp",
    "handy",
    "rufnummer",
    "fixe",
];

/// Digits of a number at most, with its country.
const DIGITS_MAX: usize = 15;

/// Digits with single separators between them.
struct Number {
    digits: String,
    /// Lengths of the groups, at most as many as digits.
    groups: Vec<usize>,
    /// What separates them, if it is always the same.
    separator: Option<char>,
    end: usize,
}

/// Finds numbers.
pub(super) fn find(text: &str, countries: &[National], mut found: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| byte.is_ascii_digit()).map(|next| at + next) {
        let plus = text[..start].ends_with('+');
        let open = text[..start].ends_with('(');
        let before = &text[..start - usize::from(plus || open)];
        let number = read(text, start);
        at = number.end;
        // Part of a word, a longer number, an address or a path.
        let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '+' | '/' | '=' | '#' | '$');
        let tail = &text[number.end..];
        let goes_on = tail.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            || tail
                .strip_prefix(['.', ',', '-', '/', ':'])
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if before.ends_with(joins) || goes_on || number.digits.len() > DIGITS_MAX || follows_digit(before) {
            continue;
        }
        let fits = match plus {
            true => is_international(&number.digits),
            false => {
                number
                    .digits
                    .strip_prefix("00")
                    .is_some_and(|digits| number.groups.len() > 1 && is_international(digits))
                    || is_national(&number, before, countries)
            }
        };
        if fits {
            found(start - usize::from(plus), number.end);
        }
    }
}

/// The number goes on to the left: a digit, and one sign between.
fn follows_digit(before: &str) -> bool {
    let sign = before.trim_end_matches(['.', ',', '-', ':']);
    before.len() - sign.len() == 1 && sign.ends_with(|c: char| c.is_ascii_digit())
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '.' | '-' | '/' | '(' | ')' | '\u{a0}' | '\u{202f}' | '\u{2011}')
}

/// Reads digits and what separates them: one sign, or ` (0) ` and the like, which counts as one; `(0)` itself is left out.
fn read(text: &str, start: usize) -> Number {
    let mut number = Number { digits: String::new(), groups: vec![0], separator: None, end: start };
    let (mut gap, mut mixed) = (String::new(), false);
    for (at, c) in text[start..].char_indices() {
        if c.is_ascii_digit() {
            if !gap.is_empty() {
                let optional = c == '0' && gap.ends_with('(') && text[start + at + 1..].starts_with(')');
                if optional {
                    gap.clear();
                    gap.push('(');
                    continue;
                }
                let sign = gap.chars().next();
                mixed |= gap.chars().count() > 1 || (number.separator.is_some() && number.separator != sign);
                number.separator = number.separator.or(sign);
                number.groups.push(0);
                gap.clear();
            }
            number.digits.push(c);
            if let Some(group) = number.groups.last_mut() {
                *group += 1;
            }
            number.end = start + at + 1;
        } else if is_separator(c) && gap.chars().count() < 3 && !gap.contains(['.', '-', '/']) {
            gap.push(c);
            // Two spaces are columns.
            if gap.contains("  ") {
                break;
            }
        } else {
            break;
        }
    }
    if mixed {
        number.separator = None;
    }
    number
}

fn is_international(digits: &str) -> bool {
    INTERNATIONAL.iter().any(|&(code, least, most)| {
        digits
            .strip_prefix(code)
            .is_some_and(|rest| (least..=most).contains(&rest.len()) && !rest.bytes().all(|byte| byte == b'0'))
    })
}

fn is_national(number: &Number, before: &str, countries: &[National]) -> bool {
    let pairs = number.groups == [2; 5] && number.separator.is_some_and(|sign| !matches!(sign, '/' | '(' | ')'));
    let first = number.digits.starts_with('0') && !number.digits.starts_with("00");
    if pairs && first && countries.iter().any(|country| country.pairs) && !is_count(&number.digits) {
        return true;
    }
    let fits = |&(first, least, most): &(&str, usize, usize)| {
        number.digits.starts_with(first) && (least..=most).contains(&number.digits.len())
    };
    countries.iter().any(|country| country.forms.iter().any(fits)) && is_announced(before)
}

/// `01 02 03 04 05` and the like: a list.
fn is_count(digits: &str) -> bool {
    let pairs: Vec<u32> = (0..5).filter_map(|i| digits[2 * i..2 * i + 2].parse().ok()).collect();
    let steps: Vec<i64> = pairs.windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0])).collect();
    steps.iter().all(|&step| step == steps[0] && (-9..=9).contains(&step))
}

/// A word of [`WORDS`] stands before the number, with nothing but signs and `no` or `n°` between.
fn is_announced(before: &str) -> bool {
    let signs =
        |c: char| matches!(c, ' ' | '.' | ':' | '(' | ')' | '\u{a0}' | '\u{202f}' | '°' | '+' | '-' | '*' | '\t');
    let trimmed = before.trim_end_matches(signs);
    let trimmed = trimmed.strip_suffix(" no").or_else(|| trimmed.strip_suffix(" n")).unwrap_or(trimmed);
    // More signs than anybody writes.
    if before.len() - trimmed.len() > 16 {
        return false;
    }
    let start = trimmed.char_indices().rev().take(16).take_while(|(_, c)| c.is_alphabetic()).last().map(|(at, _)| at);
    start.is_some_and(|start| WORDS.contains(&trimmed[start..].to_lowercase().as_str()))
}
