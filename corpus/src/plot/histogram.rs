//! Histograms over powers of two, a small panel for each group.

use super::{Anchor, COLOURS, Svg, fit, percent, short};

const PANEL: [f64; 2] = [264.0, 118.0];
const COLUMNS: usize = 3;
const MARGIN: f64 = 16.0;

/// Histograms side by side on one scale of lengths.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// What they show.
    pub title: String,
    /// The same in a sentence or two.
    pub description: String,
    /// The panels, in order.
    pub panels: Vec<Panel>,
}

/// A histogram.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Its name.
    pub name: String,
    /// How many there are of 2^k to 2^(k+1) − 1.
    pub counts: Vec<u64>,
}

fn power(k: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    format!("{} {}", 1_u64 << (k % 10), units.get(k / 10).unwrap_or(&"?"))
}

impl Histogram {
    /// Draws them.
    pub fn draw(&self) -> String {
        let used = |panel: &Panel| panel.counts.iter().take(64).rposition(|count| *count > 0);
        let last = self.panels.iter().filter_map(used).max();
        let firsts = self.panels.iter().filter_map(|panel| panel.counts.iter().take(64).position(|count| *count > 0));
        let (first, last) = (firsts.min().unwrap_or(0), last.unwrap_or(0));
        let rows = self.panels.len().div_ceil(COLUMNS).max(1);
        let (width, height) = (2.0 * MARGIN + PANEL[0] * COLUMNS as f64, 44.0 + PANEL[1] * rows as f64 + MARGIN);
        let mut svg = Svg::new(width, height);
        svg.heading(MARGIN, 26.0, &self.title);
        if self.panels.is_empty() {
            svg.text(MARGIN, 60.0, Anchor::Start, "nothing to show");
        }
        for (i, panel) in self.panels.iter().enumerate() {
            let x = MARGIN + PANEL[0] * (i % COLUMNS) as f64;
            let y = 44.0 + PANEL[1] * (i / COLUMNS) as f64;
            draw_panel(&mut svg, panel, [x, y], [first, last]);
        }
        svg.finish(&self.title, &self.description)
    }
}

fn draw_panel(svg: &mut Svg, panel: &Panel, [x, y]: [f64; 2], [first, last]: [usize; 2]) {
    let (width, high, base) = (PANEL[0] - 24.0, PANEL[1] - 62.0, y + PANEL[1] - 30.0);
    let total: u64 = panel.counts.iter().sum();
    svg.bold(x, y + 14.0, &fit(&panel.name, 130.0));
    svg.text(x + width, y + 14.0, Anchor::End, &format!("{} documents", short(total)));
    let most = panel.counts.iter().copied().max().unwrap_or(0).max(1);
    let bins = last + 1 - first;
    let step = width / bins as f64;
    for (k, &count) in panel.counts.iter().enumerate().take(last + 1).skip(first) {
        let tall = if count == 0 { 0.0 } else { (high * count as f64 / most as f64).max(0.8) };
        let title =
            format!("{}, {} to {}: {} ({})", panel.name, power(k), power(k + 1), short(count), percent(count, total));
        svg.rect([x + step * (k - first) as f64 + 0.5, base - tall, step - 1.0, tall], COLOURS[0], &title);
    }
    svg.line([x, base, x + width, base]);
    // Names for about four of the bounds; one too near to the last would run into it.
    let every = bins.div_ceil(4).max(1);
    let named = (first..=last).step_by(every).filter(|k| step * (last + 1 - k) as f64 > 84.0 || *k == first);
    for k in named.chain([last + 1]) {
        let at = x + step * (k - first) as f64;
        svg.line([at, base, at, base + 4.0]);
        let anchor = match k {
            k if k == first => Anchor::Start,
            k if k == last + 1 => Anchor::End,
            _ => Anchor::Middle,
        };
        svg.text(at, base + 17.0, anchor, &power(k));
    }
}
