//! Absolute values, for information.

use super::markdown::{head, row};
use crate::contender::ALL;
use crate::end_to_end::CONNECTIONS;
use crate::findings::Findings;
use crate::in_process::InProcess;
use crate::load::Outcome;
use crate::plot::number;
use crate::ratios::size_name;
use crate::sample::SIZES;
use crate::stalled::Held;
use crate::{connections, flood, stalled};

pub fn sections(text: &mut String, findings: &Findings) {
    stalled(text, findings);
    text.push_str(
        "\n## For information: absolute values\n\n\
         These are medians of one run. Do not compare them: on a shared machine they change by tens of \
         percent from minute to minute, and not in the same way for each row. No goal and no plot uses them.\n",
    );
    in_process(text, &findings.in_process);
    end_to_end(text, findings);
    connections(text, findings);
    flood(text, findings);
}

fn in_process(text: &mut String, calm: &InProcess) {
    let sizes = SIZES.map(size_name);
    let sizes: Vec<&str> = [""].into_iter().chain(sizes.iter().map(String::as_str)).collect();
    head(text, 3, "In process: microseconds a call, by size of the body", &sizes);
    for name in InProcess::names() {
        let time = |size| format!("{:.2}", calm.time(name, size) / 1e3);
        row(text, name, (0..SIZES.len()).map(time));
    }
    head(
        text,
        3,
        "In process: cost = constant + slope × size of the body",
        &["", "constant, ns", "slope, ns a byte"],
    );
    for name in InProcess::names() {
        let line = calm.line(name);
        row(text, name, [number(line.constant, 0), format!("{:.3}", line.slope)]);
    }
}

fn end_to_end(text: &mut String, findings: &Findings) {
    let loud = &findings.end_to_end;
    head(
        text,
        3,
        &format!("End to end: {CONNECTIONS} connections"),
        &["", "signature", "requests/s", "CPU µs a request", "p99, ms", "core used"],
    );
    for name in &loud.names {
        let scheme = ALL.iter().find(|contender| contender.name == *name);
        let figures = (|| {
            Some([
                scheme.map_or("HMAC-SHA1", |contender| contender.scheme.name()).to_owned(),
                number(loud.median(name, |outcome| outcome.calls)?, 0),
                format!("{:.2}", loud.median(name, |outcome| outcome.cpu)?),
                format!("{:.2}", loud.median(name, |outcome| outcome.p99)?),
                format!("{:.0} %", loud.median(name, |outcome| outcome.busy)? * 100.0),
            ])
        })();
        row(text, name, figures.into_iter().flatten());
    }
}

fn connections(text: &mut String, findings: &Findings) {
    let connections = &findings.connections;
    head(
        text,
        3,
        "Connections",
        &[
            "",
            "connections",
            "requests/s",
            "CPU µs a request",
            "p99, ms",
            "server memory a connection, KiB",
        ],
    );
    for (name, shown) in connections::NAMES.iter().enumerate() {
        for (at, count) in connections.counts.iter().enumerate() {
            let figure = |figure: fn(&Outcome) -> f64| connections.median(at, name, figure);
            let memory = figure(|outcome| outcome.memory) / 1024.0;
            row(
                text,
                shown,
                [
                    number(*count as f64, 0),
                    number(figure(|outcome| outcome.calls), 0),
                    format!("{:.2}", figure(|outcome| outcome.cpu)),
                    format!("{:.2}", figure(|outcome| outcome.p99)),
                    // A few connections are too small to see among pages.
                    if *count < 64 { "–".to_owned() } else { format!("{memory:.1}") },
                ],
            );
        }
    }
}

fn flood(text: &mut String, findings: &Findings) {
    let flood = &findings.flood;
    head(
        text,
        3,
        "Forged flood",
        &[
            "",
            "good calls/s without",
            "good calls/s with 90 % forged",
            "all calls/s with",
            "CPU µs a call without",
            "with",
        ],
    );
    for (at, name) in flood::NAMES.iter().enumerate() {
        row(
            text,
            name,
            [
                number(flood.median(at, false, |outcome| outcome.good), 0),
                number(flood.median(at, true, |outcome| outcome.good), 0),
                number(flood.median(at, true, |outcome| outcome.calls), 0),
                format!("{:.2}", flood.median(at, false, |outcome| outcome.cpu)),
                format!("{:.2}", flood.median(at, true, |outcome| outcome.cpu)),
            ],
        );
    }
}

/// Bytes are counted, so that no swing of the machine changes them.
fn stalled(text: &mut String, findings: &Findings) {
    let stalled = &findings.stalled;
    head(
        text,
        2,
        "Stalled senders: server memory of each, KiB",
        &[
            "",
            "limit",
            "1 byte sent",
            "limit − 1 bytes sent in pieces",
            "beyond the limit and 1 byte",
            "limit − 1 bytes sent at once",
            "beyond the limit and 1 byte",
        ],
    );
    for (at, limit) in stalled::LIMITS.into_iter().enumerate() {
        for (name, shown) in stalled::NAMES.iter().enumerate() {
            let figure =
                |figure: fn(&Held) -> f64| stalled.spread(at, name, figure).median / 1024.0;
            let limit = limit as f64 / 1024.0;
            row(
                text,
                shown,
                [
                    format!("{limit:.0}"),
                    format!("{:.1}", figure(|held| held.begun)),
                    format!("{:.1}", figure(|held| held.in_pieces)),
                    format!("{:.1}", figure(|held| held.in_pieces - held.begun) - limit),
                    format!("{:.1}", figure(|held| held.at_once)),
                    format!("{:.1}", figure(|held| held.at_once - held.begun) - limit),
                ],
            );
        }
    }
    text.push_str("\nMedians. Memory is counted, not timed, so it is not compared with anything in its round.\n");
}
