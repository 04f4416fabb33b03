//! Plots as SVG, by hand: bars and lines, each with error bars from quartile to quartile.

use std::fmt::Write;

use crate::rounds::Spread;

const WIDTH: f64 = 800.0;
/// Room for the longest name.
const LEFT: f64 = 220.0;
const TOP: f64 = 72.0;
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;

/// Contrast of all text is at least 4.5, of all marks at least 3.
pub struct Theme {
    pub name: &'static str,
    paper: &'static str,
    text: &'static str,
    soft: &'static str,
    grid: &'static str,
    /// Of what is to be seen.
    ours: &'static str,
    /// Of bars, which have their names beside them.
    others: &'static str,
    /// Of lines.
    lines: [&'static str; 4],
}

impl Theme {
    pub const LIGHT: Self = Self {
        name: "light",
        paper: "#ffffff",
        text: "#1f2328",
        soft: "#59636e",
        grid: "#d1d9e0",
        ours: "#0969da",
        others: "#8c959f",
        lines: ["#bc4c00", "#1a7f37", "#8250df", "#9a6700"],
    };
    pub const DARK: Self = Self {
        name: "dark",
        paper: "#0d1117",
        text: "#f0f6fc",
        soft: "#9198a1",
        grid: "#3d444d",
        ours: "#4493f8",
        others: "#656c76",
        lines: ["#db6d28", "#3fb950", "#ab7df8", "#d29922"],
    };
}

pub struct Caption<'a> {
    pub title: &'a str,
    pub subtitle: &'a str,
    /// What the steps along the bottom are.
    pub axis: &'a str,
}

/// Of the bars, from 0 up.
pub struct Scale {
    pub tick: f64,
    /// After the point, of the figures beside the bars.
    pub digits: usize,
    pub unit: &'static str,
}

/// A bar for each row.
pub fn bars(
    theme: &Theme,
    caption: &Caption<'_>,
    rows: &[(&str, Spread)],
    ours: &str,
    scale: &Scale,
) -> String {
    let bottom = TOP + rows.len() as f64 * ROW;
    let most = rows.iter().map(|(_, spread)| spread.high).fold(scale.tick, f64::max);
    let steps = (most / scale.tick).ceil();
    let x = |value: f64| LEFT + (WIDTH - LEFT - 100.0) * value / (steps * scale.tick);
    let mut svg = begun(theme, caption, (LEFT + x(steps * scale.tick)) / 2.0, bottom + 52.0);
    let digits = usize::from(scale.tick.fract() != 0.0);
    for at in 0..=steps as usize {
        let value = at as f64 * scale.tick;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{0:.1}" x2="{0:.1}" y1="{1:.0}" y2="{bottom:.0}"/>
<text class="soft" x="{0:.1}" y="{2:.0}" text-anchor="middle">{value:.digits$}</text>
"#,
            x(value),
            TOP - 6.0,
            bottom + 18.0
        );
    }
    for (at, (name, spread)) in rows.iter().enumerate() {
        let middle = TOP + at as f64 * ROW + ROW / 2.0 - 3.0;
        let (class, colour) = if *name == ours { ("ours", theme.ours) } else { ("", theme.others) };
        let [low, end, high] = [spread.low, spread.median, spread.high].map(x);
        let _ = write!(
            svg,
            r#"<text class="{class}" x="{name_end:.0}" y="{line:.1}" text-anchor="end">{name}</text>
<rect x="{LEFT:.0}" y="{top:.1}" width="{width:.1}" height="{BAR:.0}" fill="{colour}"/>
<path class="spread" d="M{low:.1} {middle:.1}H{high:.1}M{low:.1} {cap:.1}v8M{high:.1} {cap:.1}v8"/>
<text class="{class}" x="{figure:.1}" y="{line:.1}">{value}{unit}</text>
"#,
            name_end = LEFT - 10.0,
            line = middle + 4.5,
            top = middle - BAR / 2.0,
            width = (end - LEFT).max(1.0),
            cap = middle - 4.0,
            figure = high + 8.0,
            value = number(spread.median, scale.digits),
            unit = scale.unit
        );
    }
    svg + "</svg>\n"
}

/// A line for each row, over the same steps, from 1 or less up; its name at its end.
pub fn lines(
    theme: &Theme,
    caption: &Caption<'_>,
    steps: &[String],
    rows: &[(&str, Vec<Spread>)],
    ours: &str,
) -> String {
    let (left, right, bottom) = (56.0, WIDTH - 190.0, 392.0);
    let spreads = || rows.iter().flat_map(|(_, spreads)| spreads);
    let least = spreads().map(|spread| spread.low).fold(1.0, f64::min);
    let most = spreads().map(|spread| spread.high).fold(1.0, f64::max);
    let tick = [0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0]
        .into_iter()
        .find(|tick| (most - least) / tick <= 7.0)
        .unwrap_or(100.0);
    let least = (least / tick).floor() * tick;
    let most = least + ((most - least) / tick).ceil().max(1.0) * tick;
    // Side by side, so that error bars do not cover each other.
    let aside = |at: usize| (at as f64 - (rows.len() - 1) as f64 / 2.0) * 6.0;
    let room = 24.0;
    let (first, last) = (left + room, right - room);
    let x = |step: usize| first + (last - first) * step as f64 / (steps.len() - 1) as f64;
    let y = |value: f64| bottom - (bottom - TOP) * (value - least) / (most - least);
    let mut svg = begun(theme, caption, (left + right) / 2.0, bottom + 52.0);
    for at in 0..=((most - least) / tick).round() as usize {
        let value = least + at as f64 * tick;
        let class = if (value - 1.0).abs() < 1e-9 { "base" } else { "grid" };
        let _ = write!(
            svg,
            r#"<line class="{class}" x1="{left}" x2="{right}" y1="{0:.1}" y2="{0:.1}"/>
<text class="soft" x="{1:.0}" y="{2:.1}" text-anchor="end">{value:.2}</text>
"#,
            y(value),
            left - 8.0,
            y(value) + 4.0
        );
    }
    for (at, step) in steps.iter().enumerate() {
        let _ = writeln!(
            svg,
            r#"<text class="soft" x="{:.1}" y="{:.0}" text-anchor="middle">{step}</text>"#,
            x(at),
            bottom + 18.0
        );
    }
    let ends = rows.iter().map(|(_, spreads)| y(spreads[spreads.len() - 1].median));
    let labels = apart(&ends.collect::<Vec<_>>(), bottom);
    let mut others = theme.lines.iter().cycle();
    for (at, (name, spreads)) in rows.iter().enumerate() {
        let (class, colour, width) = if *name == ours {
            ("ours", theme.ours, 3.0)
        } else {
            ("", others.next().copied().unwrap_or(theme.others), 1.5)
        };
        let (mut points, mut marks) = (String::new(), String::new());
        for (step, spread) in spreads.iter().enumerate() {
            let x = x(step) + aside(at);
            let _ = write!(points, "{x:.1},{:.1} ", y(spread.median));
            let _ = write!(
                marks,
                "M{x:.1} {:.1}V{:.1}M{2:.1} {3:.1}h5M{2:.1} {4:.1}h5",
                y(spread.low),
                y(spread.high),
                x - 2.5,
                y(spread.low),
                y(spread.high)
            );
        }
        let label = labels[at];
        let (from, end) = (x(steps.len() - 1) + aside(at), y(spreads[spreads.len() - 1].median));
        let _ = write!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}"/>
<path d="{marks}" fill="none" stroke="{colour}" stroke-width="1.5"/>
<line x1="{from:.1}" x2="{:.1}" y1="{end:.1}" y2="{label:.1}" stroke="{colour}"/>
<text class="{class}" x="{:.1}" y="{:.1}">{name}</text>
"#,
            points.trim_end(),
            right + 8.0,
            right + 12.0,
            label + 4.0
        );
    }
    svg + "</svg>\n"
}

/// Places for names that would else be over each other, none of them below `bottom`.
fn apart(ends: &[f64], bottom: f64) -> Vec<f64> {
    const LINE: f64 = 18.0;
    let mut order: Vec<usize> = (0..ends.len()).collect();
    order.sort_by(|one, other| ends[*one].total_cmp(&ends[*other]));
    let (mut places, mut free) = (ends.to_vec(), f64::MIN);
    for &at in &order {
        places[at] = ends[at].max(free);
        free = places[at] + LINE;
    }
    let mut lowest = bottom;
    for &at in order.iter().rev() {
        places[at] = places[at].min(lowest);
        lowest = places[at] - LINE;
    }
    places
}

/// Everything but the data. The name of the steps is written around `middle`.
fn begun(theme: &Theme, caption: &Caption<'_>, middle: f64, height: f64) -> String {
    let Theme { paper, text, soft, grid, .. } = theme;
    let Caption { title, subtitle, axis } = caption;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" role="img" aria-label="{title}">
<style>text {{ font: 13px system-ui, sans-serif; fill: {text} }} .title {{ font-size: 16px; font-weight: 600 }} .soft {{ fill: {soft} }} .ours {{ font-weight: 600 }} .grid {{ stroke: {grid} }} .base {{ stroke: {soft}; stroke-dasharray: 4 3 }} .spread {{ stroke: {text}; stroke-width: 1.5; fill: none }}</style>
<rect width="{WIDTH:.0}" height="{height:.0}" rx="6" fill="{paper}"/>
<text class="title" x="16" y="26">{title}</text>
<text class="soft" x="16" y="47">{subtitle}</text>
<text class="soft" x="{middle:.0}" y="{:.0}" text-anchor="middle">{axis}; error bars: middle half of the rounds</text>
"#,
        height - 14.0
    )
}

/// With commas between the thousands.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::{Caption, Scale, Theme, apart, bars, lines, number};
    use crate::rounds::Spread;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(number(1234567.0, 0), "1,234,567");
        assert_eq!(number(12345.678, 1), "12,345.7");
    }

    #[test]
    fn names_do_not_overlap() {
        assert_eq!(apart(&[10.0, 300.0, 12.0], 390.0), [10.0, 300.0, 28.0]);
        assert_eq!(apart(&[389.0, 100.0, 388.0], 390.0), [390.0, 100.0, 372.0]);
    }

    const CAPTION: Caption<'static> = Caption { title: "t", subtitle: "s", axis: "a" };

    #[test]
    fn bars_show_median_and_spread() {
        let spread = Spread { low: 20.0, median: 50.0, high: 100.0 };
        let scale = Scale { tick: 50.0, digits: 0, unit: " %" };
        let svg = bars(&Theme::LIGHT, &CAPTION, &[("one", spread)], "one", &scale);
        // 480 wide, from 220 on.
        assert!(svg.contains(r#"width="240.0""#) && svg.contains(">50 %<"));
        assert!(svg.contains("M316.0 84.0H700.0M"));
    }

    #[test]
    fn themes_differ_in_colours_only() {
        let spread = Spread { low: 1.0, median: 1.1, high: 1.2 };
        let steps = ["a", "b"].map(str::to_owned);
        let drawn = |theme| lines(theme, &CAPTION, &steps, &[("one", vec![spread; 2])], "one");
        let (mut light, dark) = (drawn(&Theme::LIGHT), drawn(&Theme::DARK));
        assert_ne!(light, dark);
        let Theme { paper, text, soft, grid, ours, .. } = Theme::LIGHT;
        let (from, other) = ([paper, text, soft, grid, ours], Theme::DARK);
        let to = [other.paper, other.text, other.soft, other.grid, other.ours];
        for (from, to) in from.iter().zip(to) {
            light = light.replace(from, to);
        }
        assert_eq!(light, dark);
    }
}
