//! Plots as SVG, by hand: two kinds are all there is.

use std::fmt::Write;

const WIDTH: f64 = 800.0;
/// For the longest name.
const LEFT: f64 = 240.0;
const TOP: f64 = 64.0;
/// Legible on white and on black; the first is that of what is to be seen.
const COLOURS: [&str; 8] =
    ["#2f81f7", "#d1661d", "#2e9e6b", "#b565c9", "#a88108", "#d84a6f", "#3a9fb5", "#7d8590"];
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 } \
.title { font-size: 16px; font-weight: 600 } \
.soft { fill: #59636e } \
.ours { font-weight: 600 } \
.paper { fill: #ffffff } \
.grid { stroke: #d1d9e0 } \
@media (prefers-color-scheme: dark) { \
text { fill: #f0f6fc } .soft { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #3d444d } }";

/// A bar for each row, the longest as wide as there is room.
pub fn bars(title: &str, unit: &str, rows: &[(&str, f64)], ours: &str, digits: usize) -> String {
    let height = TOP + rows.len() as f64 * 30.0 + 12.0;
    let most = rows.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = begun(title, unit, height);
    for (at, (name, value)) in rows.iter().enumerate() {
        let y = TOP + at as f64 * 30.0;
        let width = (value / most * (WIDTH - LEFT - 90.0)).max(1.0);
        let (class, colour) = look(name, ours, COLOURS.len() - 1);
        let _ = write!(
            svg,
            r#"<text class="{class}" x="{:.0}" y="{:.0}" text-anchor="end">{name}</text>
<rect x="{LEFT:.0}" y="{y:.0}" width="{width:.1}" height="20" rx="2" fill="{colour}"/>
<text class="{class}" x="{:.1}" y="{:.0}">{}</text>
"#,
            LEFT - 10.0,
            y + 15.0,
            LEFT + width + 8.0,
            y + 15.0,
            number(*value, digits)
        );
    }
    svg + "</svg>\n"
}

/// A line for each row, over the same steps, from 1 or less up; its name at its end.
pub fn lines(
    title: &str,
    unit: &str,
    steps: &[String],
    rows: &[(&str, Vec<f64>)],
    ours: &str,
) -> String {
    let (left, right, bottom) = (56.0, WIDTH - 200.0, 380.0);
    let values = || rows.iter().flat_map(|(_, values)| values.iter().copied());
    let (least, most) = (values().fold(1.0, f64::min), values().fold(1.0, f64::max));
    let tick = [0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0]
        .into_iter()
        .find(|tick| (most - least) / tick <= 7.0)
        .unwrap_or(100.0);
    let least = (least / tick).floor() * tick;
    let most = least + ((most - least) / tick).ceil().max(1.0) * tick;
    let x = |step: usize| left + (right - left) * step as f64 / (steps.len() - 1) as f64;
    let y = |value: f64| bottom - (bottom - TOP) * (value - least) / (most - least);
    let mut svg = begun(title, unit, bottom + 40.0);
    for at in 0..=((most - least) / tick).round() as usize {
        let value = least + at as f64 * tick;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{left}" x2="{right}" y1="{0:.1}" y2="{0:.1}"/>
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
            bottom + 24.0
        );
    }
    // Names of lines that end close together are moved apart, from the top down.
    let mut ends: Vec<(usize, f64)> = rows
        .iter()
        .enumerate()
        .map(|(at, (_, values))| (at, y(values[values.len() - 1])))
        .collect();
    ends.sort_by(|one, other| one.1.total_cmp(&other.1));
    let lowest = bottom - 17.0 * ends.len() as f64;
    let mut free = f64::MIN;
    for (place, (at, end)) in ends.into_iter().enumerate() {
        let (name, values) = &rows[at];
        let label = end.max(free).min(lowest + 17.0 * (place + 1) as f64);
        free = label + 17.0;
        let (class, colour) = look(name, ours, at + 1);
        let points: Vec<String> = (values.iter().enumerate())
            .map(|(step, value)| format!("{:.1},{:.1}", x(step), y(*value)))
            .collect();
        let _ = write!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{}"/>
<line x1="{right}" x2="{:.0}" y1="{end:.1}" y2="{label:.1}" stroke="{colour}"/>
<text class="{class}" x="{:.0}" y="{:.1}">{name}</text>
"#,
            points.join(" "),
            if *name == ours { 3.5 } else { 1.75 },
            right + 14.0,
            right + 18.0,
            label + 4.0
        );
    }
    svg + "</svg>\n"
}

fn begun(title: &str, unit: &str, height: f64) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" role="img" aria-label="{title}">
<style>{STYLE}</style>
<rect class="paper" width="{WIDTH:.0}" height="{height:.0}" rx="6"/>
<text class="title" x="16" y="26">{title}</text>
<text class="soft" x="16" y="46">{unit}</text>
"#
    )
}

fn look(name: &str, ours: &str, at: usize) -> (&'static str, &'static str) {
    if name == ours {
        ("ours", COLOURS[0])
    } else {
        ("", COLOURS[1 + (at - 1) % (COLOURS.len() - 1)])
    }
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
    use super::number;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(number(1234567.0, 0), "1,234,567");
        assert_eq!(number(12345.678, 1), "12,345.7");
    }
}
