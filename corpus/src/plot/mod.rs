//! Plots as SVG: text of our own making, without scripts, the same bytes for the same figures.
//!
//! A plot has no background and takes tones that stand out from white as from black: text has a contrast of 4.3 to 1 on both
//! (WCAG 2.1 asks for 3 to 1 in graphics). It has a title and a description for those who do not see it, and each bar a title of its
//! own, which browsers show under the pointer.

mod bars;
mod facts;
mod histogram;

pub use bars::{BarRow, Bars};
pub use facts::plots;
pub use histogram::{Histogram, Panel};

/// Grey for text, lines and what is left over.
pub const INK: &str = "#787d85";
/// Colours of series, after Okabe and Ito (2008), who chose them to be told apart with any colour vision; darkened where a tone
/// would vanish on white.
pub const COLOURS: [&str; 8] = ["#0a7abf", "#d5760e", "#0b9e73", "#c25a95", "#4fa5d8", "#a8882a", "#c8521b", "#7d6fc4"];
/// For the last series where there are more than colours, and for what was dropped.
pub const REST: &str = "#9a9fa7";
/// Width of a character of 12 px in a sans-serif font, on average, px.
const CHARACTER: f64 = 6.7;

/// An SVG in the making.
#[derive(Debug, Clone)]
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// Text for XML: what has a meaning there is escaped, control characters that XML does not know are dropped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
            c => out.push(c),
        }
    }
    out
}

/// The width of a text, roughly, px.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// A text cut to a width, with an ellipsis where something is missing.
pub fn fit(text: &str, width: f64) -> String {
    let room = (width / CHARACTER) as usize;
    match text.chars().count() <= room {
        true => text.to_owned(),
        false => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
    }
}

impl Svg {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Svg {
        Svg { body: String::new(), width, height }
    }

    /// A filled rectangle; `title` is shown under the pointer. One without area is left out.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: &str, title: &str) {
        if width > 0.0 && height > 0.0 {
            let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
            self.body += &format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\">{title}</rect>\n"
            );
        }
    }

    /// A thin line.
    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4]) {
        self.body += &format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.35\"/>\n"
        );
    }

    /// A text on its base line.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        self.styled(x, y, anchor, "", text);
    }

    /// A heading.
    pub fn heading(&mut self, x: f64, y: f64, text: &str) {
        self.styled(x, y, Anchor::Start, " font-size=\"15\" font-weight=\"600\"", text);
    }

    /// A bold text.
    pub fn bold(&mut self, x: f64, y: f64, text: &str) {
        self.styled(x, y, Anchor::Start, " font-weight=\"600\"", text);
    }

    fn styled(&mut self, x: f64, y: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.body += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}{style}>{}</text>\n", escape(text));
    }

    /// The file.
    pub fn finish(self, title: &str, description: &str) -> String {
        let Svg { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
             role=\"img\" aria-labelledby=\"title description\" font-family=\"system-ui, 'Helvetica Neue', Arial, sans-serif\" \
             font-size=\"12\" fill=\"{INK}\">\n<title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n{body}</svg>\n",
            escape(title),
            escape(description)
        )
    }
}

/// A number as people write it: `950`, `12.3 k`, `4.56 M`.
pub fn short(number: u64) -> String {
    let units = [(1_000_000_000_000, " T"), (1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")];
    match units.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => {
            let value = number as f64 / unit as f64;
            let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            format!("{value:.digits$}{name}")
        }
        None => number.to_string(),
    }
}

/// A share in percent; small ones keep a digit that is not zero.
pub fn percent(part: u64, whole: u64) -> String {
    let value = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    match value {
        _ if part == 0 => "0 %".into(),
        value if value < 0.1 => "< 0.1 %".into(),
        value if value > 99.9 && part < whole => "> 99.9 %".into(),
        value if value < 9.95 => format!("{value:.1} %"),
        value => format!("{value:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_texts_harmless() {
        let shown = [0, 999, 1_000, 12_345, 999_400, 4_560_000, 7_000_000_000_000].map(short);
        assert_eq!(shown, ["0", "999", "1.00 k", "12.3 k", "999 k", "4.56 M", "7.00 T"]);
        let shares = [(0, 5), (1, 100_000), (99_999, 100_000), (1, 40), (1, 2), (5, 5), (0, 0)];
        let shares = shares.map(|(part, whole)| percent(part, whole));
        assert_eq!(shares, ["0 %", "< 0.1 %", "> 99.9 %", "2.5 %", "50 %", "100 %", "0 %"]);
        assert_eq!(escape("a<b>&\"'\n\u{1}é"), "a&lt;b&gt;&amp;&quot;&#39; é");
        assert_eq!(fit("abcdefghij", 5.0 * CHARACTER), "abcd…");
    }
}
