//! Horizontal bars, each a row of segments, with names before and figures behind.

use super::{Anchor, COLOURS, REST, Svg, fit, text_width};

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
/// Names at most, px.
const NAMES_MAX: f64 = 230.0;
/// Figures at most, px.
const NOTES_MAX: f64 = 220.0;

/// A plot of bars.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// The same in a sentence or two, for those who do not see it.
    pub description: String,
    /// What segments stand for; with one name or none there is no legend.
    pub series: Vec<String>,
    /// Whether the last series is what is left over or dropped, and grey.
    pub last_is_rest: bool,
    /// The rows, from above.
    pub rows: Vec<BarRow>,
    /// Each row is as long as the others: segments are shares.
    pub shares: bool,
}

/// A bar.
#[derive(Debug, Clone, Default)]
pub struct BarRow {
    /// Its name.
    pub name: String,
    /// A value for each series.
    pub values: Vec<u64>,
    /// What stands behind it.
    pub note: String,
}

impl Bars {
    fn colour(&self, series: usize) -> &'static str {
        match self.last_is_rest && series + 1 == self.series.len() {
            true => REST,
            false => COLOURS[series % COLOURS.len()],
        }
    }

    /// Draws it.
    pub fn draw(&self) -> String {
        let widest = |texts: &mut dyn Iterator<Item = &String>, most: f64| {
            texts.map(|text| text_width(text)).fold(20.0, f64::max).min(most)
        };
        let names = widest(&mut self.rows.iter().map(|row| &row.name), NAMES_MAX);
        let notes = widest(&mut self.rows.iter().map(|row| &row.note), NOTES_MAX);
        let left = MARGIN + names + 10.0;
        let room = WIDTH - left - notes - MARGIN - 10.0;
        let legend = self.legend();
        let top = 40.0 + legend.last().map_or(0.0, |(_, y, _)| y + 24.0);
        let height = top + ROW * self.rows.len().max(1) as f64 + MARGIN;
        let mut svg = Svg::new(WIDTH, height);
        svg.heading(MARGIN, 26.0, &self.title);
        for (series, (x, y, name)) in legend.iter().enumerate() {
            svg.rect([*x, 40.0 + y, 11.0, 11.0], self.colour(series), "");
            svg.text(x + 16.0, 50.0 + y, Anchor::Start, name);
        }
        if self.rows.is_empty() {
            svg.text(MARGIN, top + 16.0, Anchor::Start, "nothing to show");
        }
        let longest = self.rows.iter().map(|row| row.values.iter().sum::<u64>()).max().unwrap_or(0);
        for (i, row) in self.rows.iter().enumerate() {
            let y = top + ROW * i as f64;
            svg.text(left - 8.0, y + 12.5, Anchor::End, &fit(&row.name, names));
            let end = self.row(&mut svg, row, [left, y, room], longest);
            svg.text(end + 8.0, y + 12.5, Anchor::Start, &fit(&row.note, NOTES_MAX));
        }
        svg.line([left, top - 4.0, left, height - MARGIN + 2.0]);
        svg.finish(&self.title, &self.description)
    }

    /// Draws a bar; gives where it ends.
    fn row(&self, svg: &mut Svg, row: &BarRow, [left, y, room]: [f64; 3], longest: u64) -> f64 {
        let sum: u64 = row.values.iter().sum();
        let whole = if self.shares { sum } else { longest };
        let mut x = left;
        for (series, &value) in row.values.iter().enumerate().filter(|(_, value)| **value > 0) {
            // What is there is seen, if as a hair's breadth.
            let width = (room * value as f64 / whole.max(1) as f64).max(0.6);
            let of = self.series.get(series).map_or(String::new(), |name| format!(", {name}"));
            let title = format!("{}{of}: {} ({})", row.name, super::short(value), super::percent(value, sum));
            svg.rect([x, y, width, BAR], self.colour(series), &title);
            x += width;
        }
        x
    }

    /// Where each series' name stands: x, y below the heading, and the name.
    fn legend(&self) -> Vec<(f64, f64, String)> {
        if self.series.len() < 2 {
            return Vec::new();
        }
        let (mut x, mut y, mut places) = (MARGIN, 0.0, Vec::new());
        for name in &self.series {
            let name = fit(name, 200.0);
            let width = text_width(&name) + 32.0;
            if x + width > WIDTH - MARGIN && x > MARGIN {
                (x, y) = (MARGIN, y + 18.0);
            }
            places.push((x, y, name));
            x += width;
        }
        places
    }
}
