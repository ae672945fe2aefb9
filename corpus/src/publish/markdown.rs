//! Text that comes from documents and settings, made harmless in Markdown and YAML.

/// A text for a line or table cell: on one line, nothing in it is markup, links or HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '{' | '}' | '!' => out.extend(['\\', c]),
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

/// Paragraphs: as [`escape`], with line breaks kept.
pub fn paragraphs(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// A text as YAML: a string in double quotes, which takes JSON's escapes.
pub fn yaml(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
        .replace('\u{7f}', "\\u007f")
}

/// A table: its head, then rows; columns whose head begins with `#` hold numbers and stand right.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let names: Vec<&str> = head.iter().map(|name| name.trim_start_matches('#')).collect();
    let rules: Vec<&str> = head.iter().map(|name| if name.starts_with('#') { "---:" } else { "---" }).collect();
    let mut text = format!("| {} |\n|{}|\n", names.join(" | "), rules.join("|"));
    rows.into_iter().for_each(|row| text += &format!("| {} |\n", row.join(" | ")));
    text
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_through_as_markup() {
        assert_eq!(escape("a|b\n<script>*x*</script> [l](u)"), "a\\|b &lt;script&gt;\\*x\\*&lt;/script&gt; \\[l\\](u)");
        assert_eq!(yaml("a: \"b\"\n# c"), "\"a: \\\"b\\\"\\n# c\"");
        assert_eq!([0, 999, 1000, 1234567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
