//! IP addresses that the whole Internet may reach.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Finds addresses.
pub(super) fn find(text: &str, mut found: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut at = 0;
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| part(byte)).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let (start, end) = (at, at + run);
        at = end;
        // A stop or colon at the end belongs to the sentence, unless it is `::`.
        let candidate = text[start..end].trim_end_matches('.');
        let candidate = match candidate.ends_with(':') && !candidate.ends_with("::") {
            true => &candidate[..candidate.len() - 1],
            false => candidate,
        };
        let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let before = &text[..start];
        if before.ends_with(joins) || text[start + candidate.len()..].starts_with(joins) {
            continue;
        }
        if is_public(candidate) && !is_version(before) {
            found(start, start + candidate.len());
        } else if let Some((host, port)) = candidate.split_once(':')
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && is_public(host)
            && !is_version(before)
        {
            found(start, start + host.len());
        }
    }
}

fn is_public(text: &str) -> bool {
    // The longest form has 45 characters.
    if text.len() < 7 || text.len() > 45 {
        return text.len() >= 4 && text.len() < 7 && text.parse().is_ok_and(is_public_v6);
    }
    text.parse().is_ok_and(is_public_v4) || text.parse().is_ok_and(is_public_v6)
}

/// Not in IANA's registry of special addresses (RFC 6890), no multicast.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special =
        matches!((a, b, c), (0 | 10 | 127 | 224.., _, _) | (100, 64..128, _) | (169, 254, _) | (172, 16..32, _))
            || matches!(
                (a, b, c),
                (192, 0, 0 | 2) | (192, 88, 99) | (192, 168, _) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113)
            );
    !special
}

/// Global unicast (2000::/3) without protocol assignments (2001::/23) and documentation (2001:db8::/32, 3fff::/20).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || (a == 0x3fff && b < 0x1000);
    (0x2000..0x4000).contains(&a) && !special
}

/// The number is said to be a version.
fn is_version(before: &str) -> bool {
    let word = before.trim_end_matches([' ', ':', '\u{a0}']);
    let start = word
        .rfind(|c: char| !c.is_alphabetic())
        .map_or(0, |at| at + word[at..].chars().next().map_or(1, char::len_utf8));
    let word = word[start..].to_lowercase();
    ["version", "versión", "versione", "versie", "versão", "release", "build"].contains(&word.as_str())
}
