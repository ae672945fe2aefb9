//! International bank account numbers, by country, length and check digits (ISO 13616, ISO 7064 mod 97-10).

/// Lengths by country, from SWIFT's IBAN registry.
const LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SC", 31),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
];

/// Finds account numbers.
pub(super) fn find(text: &str, mut found: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = next_start(bytes, at) {
        at = start + 2;
        if text[..start].ends_with(char::is_alphanumeric) {
            continue;
        }
        let country = &text[start..start + 2];
        let Some(&(_, length)) = LENGTHS.iter().find(|(name, _)| *name == country) else { continue };
        if let Some(end) = read(text, start, length) {
            found(start, end);
            at = end;
        }
    }
}

/// The next place with two capitals and two digits.
fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    let fits = |four: &[u8]| four[..2].iter().all(u8::is_ascii_uppercase) && four[2..].iter().all(u8::is_ascii_digit);
    bytes.get(from..)?.windows(4).position(fits).map(|at| from + at)
}

/// The end of an account number of `length` letters and digits, single spaces or hyphens between them left aside.
fn read(text: &str, start: usize, length: usize) -> Option<usize> {
    let (mut count, mut last_space, mut digits) = (0, false, Vec::with_capacity(length));
    for (at, c) in text[start..].char_indices() {
        match c {
            c if c.is_ascii_digit() || c.is_ascii_uppercase() => {
                digits.push(c);
                count += 1;
                last_space = false;
                if count == length {
                    let end = start + at + 1;
                    let apart = !text[end..].starts_with(char::is_alphanumeric);
                    return (apart && is_right(&digits)).then_some(end);
                }
            }
            ' ' | '-' | '\u{a0}' | '\u{202f}' if !last_space => last_space = true,
            _ => return None,
        }
    }
    None
}

/// The first four characters put at the end, letters read as 10 to 35, it is 1 modulo 97.
fn is_right(characters: &[char]) -> bool {
    let rotated = characters[4..].iter().chain(&characters[..4]);
    let rest = rotated.filter_map(|c| c.to_digit(36)).fold(0, |rest, value| match value {
        0..=9 => (rest * 10 + value) % 97,
        _ => (rest * 100 + value) % 97,
    });
    rest == 1
}
