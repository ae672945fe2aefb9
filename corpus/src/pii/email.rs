//! E-mail addresses: a dot-atom (RFC 5322, §3.2.3), less the signs that are rather part of what stands around it, at a host name whose
//! last label has letters only.

/// The longest local part, bytes (RFC 5321, §4.5.3.1.1). What is longer is no address.
const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 255;
/// Names that are nobody's: RFC 2606, §2 and §3.
const RESERVED_TOP: &[&str] = &["example", "test", "invalid", "localhost"];
const RESERVED: &[&str] = &["example.com", "example.net", "example.org"];

/// Finds addresses, each once, from left to right.
pub(super) fn find(text: &str, mut found: impl FnMut(usize, usize)) {
    let mut free = 0;
    for (at, _) in text.match_indices('@') {
        let Some(start) = local(&text[free..at]).map(|start| free + start) else { continue };
        let Some(length) = domain(&text[at + 1..]) else { continue };
        let end = at + 1 + length;
        if !reserved(&text[at + 1..end]) {
            found(start, end);
            free = end;
        }
    }
}

/// Where the local part at the end of `before` begins.
fn local(before: &str) -> Option<usize> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-');
    let mut start = before.len();
    for (at, c) in before.char_indices().rev() {
        if !fits(c) {
            break;
        }
        start = at;
        if before.len() - start > LOCAL_MAX {
            return None;
        }
    }
    let part = &before[start..];
    let trimmed = part.trim_start_matches(|c: char| !c.is_alphanumeric());
    let whole = !trimmed.is_empty() && !trimmed.ends_with('.') && !trimmed.contains("..");
    whole.then_some(before.len() - trimmed.len())
}

/// The length of the host name at the start of `after`, if it has two labels at least and ends with letters.
fn domain(after: &str) -> Option<usize> {
    let bytes = &after.as_bytes()[..after.len().min(DOMAIN_MAX + 1)];
    let run = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).count();
    if run > DOMAIN_MAX {
        return None;
    }
    let name = after[..run].trim_end_matches(['.', '-']);
    let label = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edges
    };
    let (rest, top) = name.rsplit_once('.')?;
    // A letter outside ASCII goes on with the name.
    let ends = !after[run..].starts_with(char::is_alphanumeric);
    let letters = top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_alphabetic());
    (ends && (letters || top.starts_with("xn--")) && label(top) && rest.split('.').all(label)).then_some(name.len())
}

fn reserved(domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    let below = |name: &str| domain.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    RESERVED_TOP.iter().any(|top| below(top)) || RESERVED.iter().any(|name| below(name))
}
