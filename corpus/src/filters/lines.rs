//! Lines and paragraphs, cut as the references cut them.

/// The lines of a text as Python's `str.splitlines` has them: also at `\r`, `\v`, `\f`, the separators of ASCII and Unicode. A break
/// at the end begins no line.
pub(crate) fn all_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_break =
            |c| matches!(c, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let Some(at) = rest.find(is_break) else { return Some(std::mem::take(&mut rest)) };
        let (line, tail) = rest.split_at(at);
        let length = match tail.starts_with("\r\n") {
            true => 2,
            false => tail.chars().next().map_or(0, char::len_utf8),
        };
        rest = &tail[length..];
        Some(line)
    })
}

/// Bounds of the parts between runs of at least `breaks` line feeds (`re.split("\n{breaks,}")`): one more than runs, so there may be
/// an empty one at either end.
pub(crate) fn split_at_breaks(text: &str, breaks: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    let bytes = text.as_bytes();
    let (mut start, mut done) = (0, false);
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut at = start;
        while at < bytes.len() {
            let run = bytes[at..].iter().take_while(|&&byte| byte == b'\n').count();
            if run >= breaks {
                let part = (start, at);
                start = at + run;
                return Some(part);
            }
            at += run;
            at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
        }
        done = true;
        Some((start, bytes.len()))
    })
}

/// Characters of a text.
pub(crate) fn chars(text: &str) -> u64 {
    // Bytes that do not continue a character.
    text.as_bytes().iter().map(|&byte| u64::from((byte as i8) >= -0x40)).sum()
}

/// `part / whole > limit`, as doubles. False where there is no whole.
pub(crate) fn exceeds(part: u64, whole: u64, limit: f64) -> bool {
    whole > 0 && part as f64 / whole as f64 > limit
}

/// `part / whole < limit`, as doubles. False where there is no whole.
pub(crate) fn falls_short(part: u64, whole: u64, limit: f64) -> bool {
    whole > 0 && (part as f64 / whole as f64) < limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_all_breaks() {
        let lines: Vec<&str> = all_lines("a\nb\r\nc\u{2028}d\u{b}\n").collect();
        assert_eq!(lines, ["a", "b", "c", "d", ""]);
        assert_eq!(all_lines("").count(), 0);
        assert_eq!(all_lines("\n").count(), 1);
    }

    #[test]
    fn parts_between_breaks() {
        let split = |text: &str, breaks| -> Vec<String> {
            split_at_breaks(text, breaks).map(|(start, end)| text[start..end].to_owned()).collect()
        };
        assert_eq!(split("a\n\nb\nc\n\n\nd", 2), ["a", "b\nc", "d"]);
        assert_eq!(split("\na\n\nb\n", 1), ["", "a", "b", ""]);
        assert_eq!(split("", 1), [""]);
        assert_eq!(split("\n\n", 2), ["", ""]);
    }

    #[test]
    fn characters_and_shares() {
        assert_eq!(chars("aé€😀"), 4);
        assert!(exceeds(3, 10, 0.2) && !exceeds(2, 10, 0.2) && !exceeds(1, 0, 0.0));
        assert!(falls_short(1, 10, 0.2) && !falls_short(2, 10, 0.2) && !falls_short(0, 0, 0.5));
    }
}
