//! Words that are kept whole though the rules would cut them: abbreviations, fixed compounds, addresses.

use super::At;
use super::chars::{is_alpha, is_elision, is_lower};
use super::rules::{Language, Rules};

/// The longest special word, characters.
const LENGTH_MAX: usize = 24;

const FRENCH: &[&str] = &[
    "av.",
    "janv.",
    "févr.",
    "avr.",
    "juill.",
    "sept.",
    "oct.",
    "nov.",
    "déc.",
    "apr.",
    "Dr.",
    "M.",
    "Mr.",
    "Mme.",
    "Mlle.",
    "n°",
    "d°",
    "St.",
    "Ste.",
    "après-midi",
    "au-delà",
    "au-dessus",
    "celle-ci",
    "celles-ci",
    "celui-ci",
    "cf.",
    "ci-dessous",
    "elle-même",
    "en-dessous",
    "etc.",
    "jusque-là",
    "lui-même",
    "MM.",
    "No.",
    "peut-être",
    "pp.",
    "quelques-uns",
    "rendez-vous",
    "Vol.",
    "aujourd'hui",
    "Aujourd'hui",
    "aujourd’hui",
    "Aujourd’hui",
];
const ENGLISH: &[&str] = &[
    "and/or", "a.m.", "p.m.", "Adm.", "Bros.", "co.", "Co.", "Corp.", "D.C.", "Dr.", "e.g.", "E.g.", "E.G.", "Gen.",
    "Gov.", "i.e.", "I.e.", "I.E.", "Inc.", "Jr.", "Ltd.", "Md.", "Messrs.", "Mr.", "Mrs.", "Ms.", "Ph.D.", "Prof.",
    "Rep.", "Rev.", "Sen.", "St.", "vs.", "v.s.", "Mt.", "Jan.", "Feb.", "Mar.", "Apr.", "Jun.", "Jul.", "Aug.",
    "Sep.", "Sept.", "Oct.", "Nov.", "Dec.",
];
const GERMAN: &[&str] = &[
    "Inc.", "engl.", "Abb.", "Abs.", "Bd.", "Bsp.", "Dr.", "Fr.", "Hr.", "Jan.", "Feb.", "Mär.", "Apr.", "Jun.",
    "Jul.", "Aug.", "Sep.", "Sept.", "Okt.", "Nov.", "Dez.", "Jh.", "Mio.", "Mrd.", "MwSt.", "Nr.", "Prof.", "Std.",
    "Str.", "Tel.", "Univ.", "allg.", "bspw.", "bzgl.", "bzw.", "ca.", "d.h.", "e.g.", "etc.", "evtl.", "ggf.",
    "i.d.R.", "i.e.", "inkl.", "insb.", "max.", "min.", "mind.", "o.g.", "orig.", "s.o.", "sog.", "u.a.", "u.s.w.",
    "usf.", "usw.", "v.a.", "vgl.", "vs.", "z.B.", "z.T.", "zzgl.",
];
const SPANISH: &[&str] = &[
    "aprox.", "dpto.", "ej.", "pág.", "p.ej.", "Ud.", "Vd.", "Uds.", "Vds.", "vol.", "a.C.", "d.C.", "Av.", "Avda.",
    "Cía.", "Dr.", "Dra.", "EE.UU.", "etc.", "fig.", "km/h", "Lic.", "n°", "núm.", "Prof.", "S.A.", "S.L.", "Sr.",
    "Sra.", "Srta.",
];
const ITALIAN: &[&str] = &[
    "a.C.",
    "al.",
    "all'art.",
    "art.",
    "Art.",
    "att.",
    "avv.",
    "by-pass",
    "c/c",
    "check-up",
    "Cod.",
    "d.C.",
    "dell'art.",
    "e-mail",
    "e/o",
    "ecc.",
    "etc.",
    "l'art.",
    "n°",
    "nord-est",
    "pag.",
    "po'",
    "prof.",
    "tel.",
    "week-end",
];
const DUTCH: &[&str] = &[
    "'t", "'s", "'n", "Inc.", "etc.", "it.", "a.u.b.", "afb.", "alg.", "art.", "bijv.", "blz.", "bv.", "ca.", "d.m.v.",
    "d.w.z.", "dhr.", "dr.", "e.d.", "enz.", "evt.", "i.p.v.", "i.v.m.", "incl.", "m.a.w.", "m.b.t.", "max.", "mevr.",
    "min.", "nl.", "nr.", "o.a.", "resp.", "t.a.v.", "t/m", "vgl.", "z.g.",
];
const PORTUGUESE: &[&str] = &[
    "Inc.", "Art.", "art.", "Av.", "av.", "Cia.", "Dr.", "dr.", "e.g.", "e/ou", "ed.", "etc.", "i.e.", "km/h", "p.m.",
    "pág.", "pag.", "Sr.", "sr.", "Sra.", "sra.", "tel.", "vs.",
];

/// First parts of French compounds that stay whole: `anti-virus`, `sous-titre`.
const FRENCH_FIRST: &[&str] = &[
    "abat", "afro", "anglo", "anti", "après", "archi", "arrière", "audio", "auto", "avant", "aéro", "bas", "basse",
    "basses", "beau", "belle", "bi", "bien", "bio", "bois", "cache", "casse", "chasse", "clair", "claire", "co",
    "compte", "contre", "court", "couvre", "cyber", "demi", "dix", "double", "doubles", "dé", "e", "entre", "est",
    "ex", "extra", "faux", "franco", "garde", "grand", "grande", "gros", "géo", "haut", "haute", "hors", "hyper",
    "indo", "infra", "inter", "intra", "jean", "macro", "mal", "marque", "meta", "mi", "micro", "mini", "mono", "mont",
    "mot", "mots", "multi", "méta", "neo", "non", "nord", "notre", "néo", "ouest", "outre", "pare", "passe", "petit",
    "petite", "petits", "photo", "pied", "pieds", "pique", "poly", "post", "pro", "proto", "pré", "pseudo", "quasi",
    "quatre", "radio", "re", "retro", "ré", "rétro", "saint", "sans", "semi", "socio", "soixante", "sous", "sub",
    "sud", "super", "sur", "sus", "techno", "trans", "trente", "trois", "télé", "ultra", "vice", "vidéo", "vingt",
    "électro", "états",
];
/// Middle parts of French compounds that stay whole: `arc-en-ciel`.
const FRENCH_MIDDLE: &[&str] =
    &["les", "lès", "le", "lè", "la", "en", "de", "des", "du", "sur", "sous", "au", "aux", "à", "et", "près", "saint"];

/// Marks that the reference takes for one word, faces mostly, also where programs end a line with `):`.
const FACES: &[&str] = &[
    "''", "):", "8)", "(=", "(:", "(;", ":*", ";)", ":)", ":(", "=)", "=(", ":/", ":]", ":}", ":>", ":|", "[:", "[=",
    "]=", "=]", "=/", "=|", ":-)", ":-(", ";-)", ":-/", ":-*", "(-:", ")-:", "0.0", "-_-", "^_^", ":))", ":((", "<.<",
    ">.>", ">.<", "._.",
];

fn is_one_of(piece: &[At], words: &[&str]) -> bool {
    let is = |word: &&str| word.chars().eq(piece.iter().map(|at| at.c));
    words.iter().any(is)
}

/// The piece is a face, or another run of marks that is one word.
pub(super) fn is_face(piece: &[At]) -> bool {
    (2..=3).contains(&piece.len()) && !is_alpha(piece[0].c) && is_one_of(piece, FACES)
}

/// The piece is one word.
pub(super) fn is_whole(piece: &[At], rules: &Rules) -> bool {
    if piece.len() < 2 || piece.len() > 2 * LENGTH_MAX {
        return false;
    }
    let [first, last] = [piece[0].c, piece[piece.len() - 1].c];
    // A small letter and a full stop.
    if piece.len() == 2 && last == '.' {
        return matches!(first, 'a'..='z' | 'ä' | 'ö' | 'ü') || is_one_of(piece, words_of(rules));
    }
    if is_face(piece) {
        return true;
    }
    // Special words have letters and a few marks, and one mark at least: a quick no for most.
    let mut marks = false;
    for at in piece {
        match at.c {
            '.' | '-' | '\'' | '’' | '/' | '°' | '–' | '—' | '‐' | '‑' => marks = true,
            c if is_alpha(c) => (),
            _ => return false,
        }
    }
    if !marks {
        return false;
    }
    (piece.len() <= LENGTH_MAX && is_one_of(piece, words_of(rules)))
        || (rules.language == Language::French && is_french_compound(piece))
}

fn words_of(rules: &Rules) -> &'static [&'static str] {
    match rules.language {
        Language::French => FRENCH,
        Language::English => ENGLISH,
        Language::German => GERMAN,
        Language::Spanish => SPANISH,
        Language::Italian => ITALIAN,
        Language::Dutch => DUTCH,
        Language::Portuguese => PORTUGUESE,
        Language::Other => &[],
    }
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '–' | '—' | '‐' | '‑')
}

fn is_french_compound(piece: &[At]) -> bool {
    let Some(first) = piece.iter().position(|at| is_hyphen(at.c)) else {
        return is_elided_compound(piece);
    };
    if first == 0 || first + 1 == piece.len() {
        return false;
    }
    let small = |at: &At| at.c.to_lowercase().next().unwrap_or(at.c);
    let is = |part: &[At], word: &&str| word.chars().eq(part.iter().map(small));
    let rest = &piece[first + 1..];
    // A verb, not the east.
    if ["est-ce", "est-il"].iter().any(|verb| is(piece, verb)) {
        return false;
    }
    let plain = |at: &At| is_alpha(at.c) || is_elision(at.c) || is_hyphen(at.c);
    if is_alpha(rest[0].c) && rest.iter().all(plain) && FRENCH_FIRST.iter().any(|word| is(&piece[..first], word)) {
        return true;
    }
    let Some(second) = rest.iter().position(|at| is_hyphen(at.c)) else { return false };
    let mut after = &rest[second + 1..];
    if after.len() > 2 && after[0].c == 'l' && is_elision(after[1].c) {
        after = &after[2..];
    }
    let letters = |part: &[At]| !part.is_empty() && part.iter().all(|at| is_alpha(at.c));
    letters(&piece[..first]) && letters(after) && FRENCH_MIDDLE.iter().any(|word| is(&rest[..second], word))
}

/// `entr'ouvert`, `grand'mère`.
fn is_elided_compound(piece: &[At]) -> bool {
    let Some(at) = piece.iter().position(|at| is_elision(at.c)) else { return false };
    let first: String = piece[..at].iter().flat_map(|at| at.c.to_lowercase()).collect();
    let rest = &piece[at + 1..];
    matches!(first.as_str(), "entr" | "grand" | "grande") && !rest.is_empty() && rest.iter().all(|at| is_lower(at.c))
}

/// Where an English contraction is cut: `do|n't`, `I|'m`, `can|not`.
pub(super) fn contraction(piece: &[At], rules: &Rules) -> Option<usize> {
    if rules.language != Language::English || piece.len() < 3 || piece.len() > LENGTH_MAX {
        return None;
    }
    let small = |at: &At| match at.c {
        '’' => '\'',
        c => c.to_ascii_lowercase(),
    };
    if "cannot".chars().eq(piece.iter().map(small)) {
        return Some(3);
    }
    let ends = |end: &&str| {
        let length = end.len();
        length < piece.len() && end.chars().eq(piece[piece.len() - length..].iter().map(small))
    };
    let end = ["n't", "'m", "'ll", "'ve", "'d", "'re"].into_iter().find(|end| ends(end))?;
    let base = &piece[..piece.len() - end.len()];
    base.iter().all(|at| at.c.is_ascii_alphabetic()).then_some(base.len())
}

/// The piece is an address of the web: a host with a lower-case end, with or without a scheme and a path.
pub(super) fn is_address(piece: &[At]) -> bool {
    if !piece.iter().any(|at| at.c == '.') {
        return false;
    }
    let find =
        |from: usize, wanted: &[char]| piece[from..].iter().position(|at| wanted.contains(&at.c)).map(|at| from + at);
    let mut host = 0;
    if let Some(colon) = find(0, &[':'])
        && colon >= 2
        && piece[colon + 1..].iter().take(2).filter(|at| at.c == '/').count() == 2
    {
        host = colon + 3;
    }
    let path = find(host, &['/', '?', '#']).unwrap_or(piece.len());
    let name_start = piece[host..path].iter().rposition(|at| at.c == '@').map_or(host, |at| host + at + 1);
    let colon = piece[name_start..path].iter().position(|at| at.c == ':').map(|at| name_start + at);
    let end = colon.unwrap_or(path);
    let port = &piece[(end + 1).min(path)..path];
    let port_fits = colon.is_none() || ((2..=5).contains(&port.len()) && port.iter().all(|at| at.c.is_ascii_digit()));
    port_fits && is_host(&piece[name_start..end])
}

fn is_host(name: &[At]) -> bool {
    let mut labels = name.split(|at| at.c == '.');
    let Some(top) = labels.next_back() else { return false };
    let letter = |at: &At| at.c.is_ascii_alphanumeric() || at.c >= '\u{a1}';
    let label = |label: &[At]| {
        let ends = label.first().is_some_and(letter) && label.last().is_some_and(letter);
        ends && label.len() <= 64 && label.iter().all(|at| letter(at) || matches!(at.c, '-' | '_'))
    };
    let numbers =
        name.iter().all(|at| at.c.is_ascii_digit() || at.c == '.') && name.split(|at| at.c == '.').count() == 4;
    numbers
        || (labels.clone().next().is_some()
            && labels.all(label)
            && (2..=63).contains(&top.len())
            && top.iter().all(|at| is_lower(at.c)))
}
