//! The plot: commits a second over clients, one panel per device, one line per engine, logarithmic.

use crate::report::{Key, Report, number};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 56.0;
const GAP: f64 = 150.0;
const COLOURS: [&str; 10] =
    ["#000000", "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

/// One engine's line: clients, median, lowest, highest.
type Line = Vec<(usize, [f64; 3])>;

/// One panel: the best form of each engine in each column.
struct Panel {
    title: String,
    lines: BTreeMap<&'static str, Line>,
}

fn panels(report: &Report) -> Vec<Panel> {
    let mut panels: BTreeMap<(&str, bool), Panel> = BTreeMap::new();
    for (Key { device, form, mix, clients, depth, engine }, m) in report.medians() {
        if mix != "mix" || depth != 1 {
            continue;
        }
        let place = if form == "socket" { "over the socket" } else { "in process" };
        let panel = panels
            .entry((device, form == "socket"))
            .or_insert_with(|| Panel { title: format!("{device} device, {place}"), lines: BTreeMap::new() });
        let line = panel.lines.entry(engine).or_default();
        match line.iter_mut().find(|(n, _)| *n == clients) {
            Some((_, rate)) if rate[0] < m.rate[0] => *rate = m.rate,
            Some(_) => {}
            None => line.push((clients, m.rate)),
        }
        line.sort_by_key(|(n, _)| *n);
    }
    panels.into_values().collect()
}

/// Place of a value on a logarithmic axis of `length` pixels.
fn scale(value: f64, low: f64, high: f64, length: f64) -> f64 {
    (value.max(low).ln() - low.ln()) / (high.ln() - low.ln()) * length
}

fn draw(panel: &Panel, x0: f64, colours: &BTreeMap<&'static str, &'static str>, out: &mut String) {
    let rates = || panel.lines.values().flatten().flat_map(|(_, r)| r.iter().copied()).filter(|r| *r > 0.0);
    let low = 10_f64.powf(rates().fold(f64::INFINITY, f64::min).log10().floor());
    let high = 10_f64.powf(rates().fold(1.0, f64::max).log10().ceil()).max(low * 10.0);
    let most = panel.lines.values().flatten().map(|(n, _)| *n).max().unwrap_or(1).max(2) as f64;
    let x = |clients: usize| x0 + LEFT + scale(clients as f64, 1.0, most, WIDTH);
    let y = |rate: f64| TOP + HEIGHT - scale(rate, low, high, HEIGHT);
    let _ = writeln!(out, r#"<text x="{}" y="{}" font-weight="bold">{}</text>"#, x0 + LEFT, TOP - 12.0, panel.title);
    let mut grid = low;
    while grid <= high * 1.001 {
        let (at, right) = (y(grid), x0 + LEFT + WIDTH);
        let _ = writeln!(
            out,
            r##"<path d="M{:.1} {at:.1}H{right:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            x0 + LEFT,
            x0 + LEFT - 6.0,
            at + 4.0,
            number(grid)
        );
        grid *= 10.0;
    }
    let mut ticks: Vec<usize> = panel.lines.values().flatten().map(|(n, _)| *n).collect();
    ticks.sort_unstable();
    ticks.dedup();
    for n in ticks {
        let below = TOP + HEIGHT + 18.0;
        let _ = writeln!(out, r#"<text x="{:.1}" y="{below:.1}" text-anchor="middle">{n}</text>"#, x(n));
    }
    let mut labels: Vec<(f64, &str)> = Vec::new();
    for (engine, line) in &panel.lines {
        let colour = colours[engine];
        let points: Vec<String> = line.iter().map(|(n, r)| format!("{:.1} {:.1}", x(*n), y(r[0]))).collect();
        let width = if *engine == "storedd" { 3 } else { 1 };
        let _ =
            writeln!(out, r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="{width}"/>"#, points.join("L"));
        for (n, r) in line {
            let (x, low, high) = (x(*n), y(r[1]), y(r[2]));
            let _ = writeln!(out, r#"<path d="M{x:.1} {low:.1}V{high:.1}" stroke="{colour}" opacity="0.5"/>"#);
        }
        if let Some((_, r)) = line.last() {
            labels.push((y(r[0]), engine));
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0_f64;
    for (at, engine) in labels {
        let at = at.max(free);
        free = at + 14.0;
        let (right, colour) = (x0 + LEFT + WIDTH + 8.0, colours[engine]);
        let _ = writeln!(out, r#"<text x="{right:.1}" y="{:.1}" fill="{colour}">{engine}</text>"#, at + 4.0);
    }
}

/// The plot as SVG; `None` if nothing was measured that it shows.
pub fn svg(report: &Report, machine: &str) -> Option<String> {
    let panels = panels(report);
    let mut colours = BTreeMap::new();
    for engine in ["raw", "storedd"].into_iter().chain(panels.iter().flat_map(|p| p.lines.keys().copied())) {
        let next = COLOURS[colours.len() % COLOURS.len()];
        colours.entry(engine).or_insert(next);
    }
    let width = (LEFT + WIDTH + GAP) * panels.len() as f64;
    let height = TOP + HEIGHT + 60.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="20">durable commits a second over clients; median, lowest and highest round; {machine}</text>"##
    );
    for (i, panel) in panels.iter().enumerate() {
        draw(panel, i as f64 * (LEFT + WIDTH + GAP), &colours, &mut out);
    }
    out.push_str("</svg>\n");
    (!panels.is_empty()).then_some(out)
}
