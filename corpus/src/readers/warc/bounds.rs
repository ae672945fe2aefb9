//! What of HTML is refused before it is parsed. Parsers build trees, and some pages are made, by mistake or not, so that the tree is
//! thousands deep (the time to score it grows with the cube, and recursion runs out of stack) or millions large. A wall clock
//! would make the result depend on the machine; counting does not.

/// Elements within elements at most. Browsers stop at 512; the pages that we measured have less than 60.
const DEPTH_MAX: u32 = 256;
/// Elements of a kind that mark up text and are open at one time at most, as far as their tags tell.
const MARKS_MAX: u32 = 512;
/// Elements at most, with those that a parser repeats because marks are left open (the adoption agency of HTML, 13.2.6.4.7).
const ELEMENTS_MAX: u64 = 400_000;
/// Attributes of one element at most: a parser compares each with all others.
const ATTRIBUTES_MAX: u32 = 1024;

/// Elements without content.
const VOID: [&str; 16] = [
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta",
    "param", "source", "wbr",
];
/// Elements that end where the next one begins.
const ENDED_BY_NEXT: [&str; 14] =
    ["p", "li", "dd", "dt", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup", "colgroup", "rp"];
/// Elements that mark up text; pages often leave them open.
const MARKS: [&str; 15] =
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "span", "strike", "strong", "tt", "u"];
/// Elements whose content is no markup.
const RAW: [&str; 7] = ["script", "style", "textarea", "title", "xmp", "iframe", "noembed"];

/// Whether a page can be parsed in bounded time and memory.
///
/// # Errors
/// Why not.
pub(super) fn check(html: &str) -> Result<(), String> {
    let bytes = html.as_bytes();
    let (mut depth, mut marks, mut elements) = (0u32, 0u32, 0u64);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'<', &bytes[at..]) {
        at += found + 1;
        let rest = &bytes[at..];
        if rest.starts_with(b"!--") {
            at += memchr::memmem::find(rest, b"-->").map_or(rest.len(), |end| end + 3);
            continue;
        }
        let closing = rest.first() == Some(&b'/');
        let name_at = at + usize::from(closing);
        let name_len =
            bytes[name_at..].iter().take(32).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
        if name_len == 0 {
            continue;
        }
        let name = html[name_at..name_at + name_len].to_ascii_lowercase();
        let (end, attributes) = tag(bytes, name_at + name_len);
        at = end;
        if attributes > ATTRIBUTES_MAX {
            return Err(format!("an HTML element with more than {ATTRIBUTES_MAX} attributes"));
        }
        let is_mark = MARKS.contains(&name.as_str());
        elements += 1 + if is_mark { 0 } else { u64::from(marks) };
        let open = if is_mark { &mut marks } else { &mut depth };
        match closing {
            true if VOID.contains(&name.as_str()) || ENDED_BY_NEXT.contains(&name.as_str()) => {}
            true => *open = open.saturating_sub(1),
            false if VOID.contains(&name.as_str()) || ENDED_BY_NEXT.contains(&name.as_str()) => {}
            false if RAW.contains(&name.as_str()) => at = raw_end(bytes, at, &name),
            false => *open += 1,
        }
        if depth > DEPTH_MAX || marks > MARKS_MAX {
            return Err(format!("HTML elements nested deeper than {}", if is_mark { MARKS_MAX } else { DEPTH_MAX }));
        }
        if elements > ELEMENTS_MAX {
            return Err(format!("more than {ELEMENTS_MAX} HTML elements"));
        }
    }
    Ok(())
}

/// Where a tag ends, and how many attributes it has at most.
fn tag(bytes: &[u8], from: usize) -> (usize, u32) {
    let (mut at, mut attributes, mut in_word) = (from, 0, false);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'>' => break,
            // A quote is one only where a value begins.
            b'"' | b'\'' if bytes[..at - 1].trim_ascii_end().ends_with(b"=") => {
                at = memchr::memchr(byte, &bytes[at..]).map_or(bytes.len(), |end| at + end + 1);
                in_word = false;
            }
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'/' => in_word = false,
            _ if !in_word => {
                in_word = true;
                attributes += 1;
            }
            _ => {}
        }
    }
    (at, attributes)
}

/// Where the content of a script or the like ends.
fn raw_end(bytes: &[u8], from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(found) = memchr::memmem::find(&bytes[at..], b"</") {
        at += found;
        let rest = &bytes[at + 2..];
        if rest.len() >= name.len() && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn pages_that_would_take_for_ever_are_refused() {
        assert_eq!(check(&"<p>Bonjour <b>le</b> monde<br></p>".repeat(50_000)), Ok(()));
        assert_eq!(check(&"<div><table><tr><td>x</td></tr></table></div>".repeat(20_000)), Ok(()));
        assert_eq!(check(&format!("{}{}", "<div>".repeat(256), "</div>".repeat(256)).repeat(20)), Ok(()));
        let script = format!("<script>{}</script><!-- {} -->", "\"<div>\"".repeat(1000), "<ul>".repeat(1000));
        assert_eq!(check(&script), Ok(()));
        assert_eq!(check(&format!("<img src=\"data:{}\">", "a b/c ".repeat(5000))), Ok(()));
        for (page, reason) in [
            ("<div>".repeat(257), "nested deeper than 256"),
            ("<ul><li>".repeat(257), "nested deeper than 256"),
            ("<x-y>".repeat(257), "nested deeper than 256"),
            ("<span>".repeat(513), "nested deeper than 512"),
            (format!("{}{}", "<font color=red>".repeat(500), "<p>x".repeat(2000)), "more than 400000"),
            ("<p>".repeat(400_001), "more than 400000"),
            (format!("<div {}>", "a=b ".repeat(1025)), "more than 1024 attributes"),
            (format!("<div {}>", "a/".repeat(1025)), "more than 1024 attributes"),
        ] {
            let got = check(&page).unwrap_err();
            assert!(got.contains(reason), "{got}");
        }
        for odd in [
            "<",
            "</",
            "<!--",
            "<!-- <",
            "<a",
            "<a href=\"",
            "<a href=\"x",
            "<script",
            "<script>",
            "<script></",
            "<é>",
            "<div é=\"è>",
        ] {
            assert_eq!(check(odd), Ok(()), "{odd}");
        }
    }
}
