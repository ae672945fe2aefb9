//! `robots.txt` by RFC 9309: which rules are for an agent, and what they say of a path.

use std::fmt::Write;

/// A file is read so far, bytes (RFC 9309, 2.5, asks for at least 500 KiB).
pub const BODY_MAX: usize = 500 << 10;

/// `Allow` or `Disallow`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Whether it allows.
    pub allow: bool,
    /// The path, normalised; `*` stands for anything, `$` at its end for the end.
    pub pattern: Box<str>,
}

/// What a file says to some agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Robots {
    /// For each agent that was asked for, in their order, its rules; `None` where no group names it.
    pub named: Vec<Option<Vec<Rule>>>,
    /// The rules for all others.
    pub star: Vec<Rule>,
    /// Whether the file is no `robots.txt`: it has lines, and none of them is one.
    pub malformed: bool,
}

/// Reads a file. Groups that name the same agent are taken together (RFC 9309, 2.2.1). Agents are compared without regard to case.
pub fn parse(body: &[u8], agents: &[String]) -> Robots {
    let cut = body.len() > BODY_MAX;
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut body = &body[..body.len().min(BODY_MAX)];
    if cut {
        // The last line is not whole.
        let end = body.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(0);
        body = &body[..end];
    }
    let mut robots = Robots { named: vec![None; agents.len()], ..Robots::default() };
    let (mut lines, mut known) = (0u32, 0u32);
    // Whom the current group is for, and whether its rules have begun.
    let (mut group, mut star, mut in_rules) = (Vec::new(), false, false);
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        lines += u32::from(!line.is_empty());
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        match key.to_ascii_lowercase().as_slice() {
            b"user-agent" => {
                known += 1;
                if std::mem::take(&mut in_rules) {
                    (group, star) = (Vec::new(), false);
                }
                star |= value.split(|byte| byte.is_ascii_whitespace()).next() == Some(b"*");
                let token = product_token(value);
                for (index, agent) in agents.iter().enumerate() {
                    if agent.as_bytes().eq_ignore_ascii_case(token) {
                        group.push(index);
                        robots.named[index].get_or_insert_default();
                    }
                }
            }
            rule @ (b"allow" | b"disallow") => {
                known += 1;
                in_rules = true;
                if value.is_empty() || (group.is_empty() && !star) {
                    continue;
                }
                let rule = Rule { allow: rule == b"allow", pattern: normalise(value, true).into() };
                group.iter().for_each(|&index| robots.named[index].get_or_insert_default().push(rule.clone()));
                if star {
                    robots.star.push(rule);
                }
            }
            // Others are no part of a group and end none (RFC 9309, 2.2.4).
            b"sitemap" | b"crawl-delay" | b"host" | b"clean-param" | b"noindex" | b"request-rate" | b"visit-time" => {
                known += 1
            }
            _ => {}
        }
    }
    robots.malformed = lines > 0 && known == 0;
    robots
}

/// The name of an agent at the start of a value. RFC 9309 has letters, `_` and `-`; agents in use also have digits (AI2Bot).
fn product_token(value: &[u8]) -> &[u8] {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    &value[..value.iter().take_while(|byte| is_token(byte)).count()]
}

/// One form for paths and patterns (RFC 9309, 2.2.2): unreserved characters as they are, all others that a URI does not hold as `%XX`, `XX`
/// in capitals. In a path, `*` and `$` are encoded; in a pattern, a `$` that is not at its end.
pub fn normalise(path: &[u8], is_pattern: bool) -> String {
    let mut out = String::with_capacity(path.len());
    let hex = |at: usize| {
        let digits = path.get(at + 1..at + 3)?;
        u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 16).ok()
    };
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        let encoded = if byte == b'%' { hex(at) } else { None };
        at += if encoded.is_some() { 3 } else { 1 };
        let kept = match (byte, encoded) {
            (_, Some(value)) => value.is_ascii_alphanumeric() || b"-._~".contains(&value),
            (b'*', _) => is_pattern,
            (b'$', _) => is_pattern && at == path.len(),
            (byte, _) => byte.is_ascii_graphic() && !b"\"%<>[]\\^`{|}".contains(&byte),
        };
        let value = encoded.unwrap_or(byte);
        match kept {
            true => out.push(char::from(value)),
            // Writing to a string does not fail.
            false => drop(write!(out, "%{value:02X}")),
        }
    }
    out
}

/// Whether a pattern matches the start of a path, both normalised.
pub fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut pieces = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return !to_end || rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if to_end && pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        // The first place is as good as any later one.
        match memchr::memmem::find(rest.as_bytes(), piece.as_bytes()) {
            Some(found) => rest = &rest[found + piece.len()..],
            None => return false,
        }
    }
    true
}

/// The rule that decides on a normalised path: the longest that matches, of equal ones that which allows. `None`: allowed.
pub fn deciding<'a>(rules: &'a [Rule], path: &str) -> Option<&'a Rule> {
    // Never forbidden (RFC 9309, 2.2.2).
    if path == "/robots.txt" {
        return None;
    }
    let matching = rules.iter().filter(|rule| matches(&rule.pattern, path));
    matching.max_by_key(|rule| (rule.pattern.len(), rule.allow))
}

/// Whether a file allows an agent an address.
pub fn allows(body: &[u8], agent: &str, url: &url::Url) -> bool {
    let robots = parse(body, &[agent.to_owned()]);
    let rules = robots.named[0].as_ref().unwrap_or(&robots.star);
    deciding(rules, &path_of(url)).is_none_or(|rule| rule.allow)
}

/// Path and query of an address, normalised.
pub fn path_of(url: &url::Url) -> String {
    normalise(url[url::Position::BeforePath..url::Position::AfterQuery].as_bytes(), false)
}
