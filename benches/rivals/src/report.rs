//! The findings as Markdown, with the goals beside them.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::contender::{ALL, FLOOR, HAND, LAYER};
use crate::end_to_end::CONNECTIONS;
use crate::findings::Findings;
use crate::in_process::{BARE, InProcess};
use crate::plot::{self, number};
use crate::sample::{SIZES, Scheme, USUAL};
use crate::{connections, flood, foreign, machine, stalled, workers};

/// Into the folder above this crate.
pub fn write(findings: &Findings) -> io::Result<()> {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::create_dir_all(benches.join("plots"))?;
    for (name, svg) in plots(findings) {
        fs::write(benches.join("plots").join(name), svg)?;
    }
    fs::write(benches.join("RESULTS.md"), text(findings))
}

pub fn plots(findings: &Findings) -> [(&'static str, String); 3] {
    let (calm, loud) = (&findings.in_process, &findings.end_to_end);
    // Of those who do the same job; the other schemes are in the table.
    let ratios: Vec<_> = (ALL.iter().filter(|contender| contender.scheme == Scheme::Inqud))
        .map(|contender| {
            let ratio = |size| calm.ratio_to_least(contender.name, size);
            (contender.name, (0..SIZES.len()).map(ratio).collect())
        })
        .collect();
    let requests: Vec<_> = (loud.names.iter())
        .filter_map(|name| Some((*name, loud.median(name, |outcome| outcome.calls)?)))
        .collect();
    let slopes: Vec<_> = InProcess::names().map(|name| (name, calm.line(name).slope)).collect();
    [
        (
            "ratio.svg",
            plot::lines(
                "What a call costs, against the least it could",
                "times (axum route that reads the body + HMAC-SHA1 + parse), by size of the body; in process",
                &SIZES.map(size_name),
                &ratios,
                LAYER,
            ),
        ),
        (
            "requests.svg",
            plot::bars(
                "Requests per second",
                "over loopback HTTP, body of 1 KB, server on one core",
                &requests,
                LAYER,
                0,
            ),
        ),
        (
            "bytes.svg",
            plot::bars(
                "Cost of a byte",
                "nanoseconds for each byte of the body; in process",
                &slopes,
                LAYER,
                2,
            ),
        ),
    ]
}

pub fn text(findings: &Findings) -> String {
    let mut text = format!(
        "# Results\n\nMeasured on {} by `benches/rivals`{}: {}.\n\n\
         All figures are medians; ratios are medians of the ratios of paired rounds. Compare ratios, not times, \
         between machines. The load was {} when it began.\n",
        machine::date(),
        machine::commit().map_or(String::new(), |commit| format!(" at commit {commit}")),
        machine::machine(),
        findings.load
    );
    goals(&mut text, findings);
    in_process(&mut text, &findings.in_process);
    end_to_end(&mut text, findings);
    connections(&mut text, findings);
    others(&mut text, findings);
    method(&mut text, findings);
    text
}

// ---------------------------------------------------------------- goals

enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    Above(f64),
}

impl Bound {
    fn is_met(&self, figure: f64) -> bool {
        match *self {
            Self::AtMost(bound) => figure <= bound,
            Self::AtLeast(bound) => figure >= bound,
            Self::Below(bound) => figure < bound,
            Self::Above(bound) => figure > bound,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::AtMost(bound) => format!("at most {bound:.2}"),
            Self::AtLeast(bound) => format!("at least {bound:.2}"),
            Self::Below(bound) => format!("below {bound:.2}"),
            Self::Above(bound) => format!("above {bound:.2}"),
        }
    }
}

fn goals(text: &mut String, findings: &Findings) {
    let (calm, loud) = (&findings.in_process, &findings.end_to_end);
    let usual = usual();
    let rivals =
        ALL.iter().map(|contender| contender.name).filter(|name| ![FLOOR, LAYER].contains(name));
    let fastest = rivals.map(|name| calm.ratio(name, LAYER, usual)).reduce(f64::min);
    let least_cpu = |names: &[&str]| {
        names.iter().filter_map(|name| loud.cpu_ratio(name, LAYER)).reduce(f64::min)
    };
    let stalled = &findings.stalled;
    let layer = position(&stalled::NAMES, LAYER);
    let beyond = |figure: fn(&stalled::Held) -> f64| {
        let (at, limit) = (stalled::LIMITS.len() - 1, stalled::LIMITS[stalled::LIMITS.len() - 1]);
        let held = |held: &stalled::Held| figure(held) - held.begun;
        Some((stalled.median(at, layer, held) - limit as f64) / 1024.0)
    };
    let rows = [
        (
            "in process, 1 KB: throughput over the hand-written version's",
            Bound::AtLeast(1.25),
            Some(calm.ratio(HAND, LAYER, usual)),
        ),
        (
            "in process, 1 KB: throughput over that of the fastest rival in Rust",
            Bound::Above(1.0),
            fastest,
        ),
        (
            "end to end: CPU time over that of the floor",
            Bound::AtMost(1.2),
            loud.cpu_ratio(LAYER, FLOOR),
        ),
        (
            "end to end: CPU time over that of the hand-written version",
            Bound::Below(1.0),
            loud.cpu_ratio(LAYER, HAND),
        ),
        (
            "end to end: CPU time of Node (the better one) over this",
            Bound::AtLeast(5.0),
            least_cpu(&foreign::NODE),
        ),
        (
            "end to end: CPU time of Python over this",
            Bound::AtLeast(10.0),
            least_cpu(&[foreign::PYTHON]),
        ),
        (
            "cost of a byte over that of HMAC + parse alone",
            Bound::AtMost(1.1),
            Some(calm.slope_ratio(LAYER, BARE)),
        ),
        (
            "memory of a stalled body beyond its limit of 256 KiB, in KiB: come in pieces",
            Bound::AtMost(4.0),
            beyond(|held| held.in_pieces),
        ),
        ("the same, come at once", Bound::AtMost(4.0), beyond(|held| held.at_once)),
    ];
    head(text, "Goals", &["goal", "bound", "measured", "met"]);
    for (goal, bound, figure) in rows {
        let (figure, met) = match figure {
            None => ("not run here".to_owned(), ""),
            Some(figure) => {
                (format!("{figure:.2}"), if bound.is_met(figure) { "yes" } else { "**no**" })
            }
        };
        row(text, goal, [bound.text(), figure, met.to_owned()]);
    }
    let bare = calm.time(BARE, usual) / 1e3;
    if let Some(floor) = loud.median(FLOOR, |outcome| outcome.cpu) {
        let _ = writeln!(
            text,
            "\nHMAC + parse alone take {bare:.1} µs, a call of the floor {floor:.1} µs: nobody who \
             checks and parses can get below {:.2} times the floor.",
            (floor + bare) / floor
        );
    }
    let _ = writeln!(
        text,
        "\nA stalled body is counted without what each connection takes anyway (that with one byte \
         of its body), and together with hyper's read buffer; what the layer alone holds is counted \
         in `tests/memory.rs`. What comes at once makes that buffer grow, up to its `max_buf_size` of \
         about 400 KiB, and hyper keeps it beside the layer's copy. Whoever keeps the frames instead of \
         a copy, as axum's `Bytes` does, saves that, and pays twice the body when it comes in pieces, \
         because each of them keeps a buffer alive."
    );
}

// ---------------------------------------------------------------- tables

fn in_process(text: &mut String, calm: &InProcess) {
    let sizes = SIZES.map(size_name);
    let sizes: Vec<&str> = [""].into_iter().chain(sizes.iter().map(String::as_str)).collect();
    let each = |figure: &dyn Fn(usize) -> String| (0..SIZES.len()).map(figure).collect::<Vec<_>>();

    head(text, "In process: microseconds a call, by size of the body", &sizes);
    for name in InProcess::names() {
        row(text, name, each(&|size| format!("{:.2}", calm.time(name, size) / 1e3)));
    }
    head(text, "In process: times the least (floor + HMAC + parse)", &sizes);
    for name in names().filter(|name| *name != FLOOR) {
        row(text, name, each(&|size| format!("{:.3}", calm.ratio_to_least(name, size))));
    }
    head(text, "In process: throughput of this crate over the other's", &sizes);
    for name in names().filter(|name| ![FLOOR, LAYER].contains(name)) {
        row(text, name, each(&|size| format!("{:.2}", calm.ratio(name, LAYER, size))));
    }
    head(
        text,
        "Cost = constant + slope × size of the body",
        &["", "constant, ns", "slope, ns a byte", "slope over HMAC + parse"],
    );
    for name in InProcess::names() {
        let line = calm.line(name);
        row(
            text,
            name,
            [
                number(line.constant, 0),
                format!("{:.3}", line.slope),
                format!("{:.3}", calm.slope_ratio(name, BARE)),
            ],
        );
    }
}

fn end_to_end(text: &mut String, findings: &Findings) {
    let loud = &findings.end_to_end;
    head(
        text,
        &format!(
            "End to end: 1 KB over loopback HTTP, {CONNECTIONS} connections, server on one core"
        ),
        &[
            "",
            "signature",
            "requests/s",
            "CPU µs a request",
            "to floor",
            "to this crate",
            "p99, ms",
            "core used",
        ],
    );
    for name in &loud.names {
        let scheme = ALL.iter().find(|contender| contender.name == *name);
        let figures = (|| {
            Some([
                scheme.map_or("HMAC-SHA1", |contender| contender.scheme.name()).to_owned(),
                number(loud.median(name, |outcome| outcome.calls)?, 0),
                format!("{:.2}", loud.median(name, |outcome| outcome.cpu)?),
                format!("{:.2}", loud.cpu_ratio(name, FLOOR)?),
                format!("{:.2}", loud.cpu_ratio(name, LAYER)?),
                format!("{:.2}", loud.median(name, |outcome| outcome.p99)?),
                format!("{:.0} %", loud.median(name, |outcome| outcome.busy)? * 100.0),
            ])
        })();
        row(text, name, figures.into_iter().flatten());
    }
    for name in &loud.missing {
        let _ = writeln!(text, "\nNot run, because it could not be installed or started: {name}.");
    }
}

fn connections(text: &mut String, findings: &Findings) {
    let connections = &findings.connections;
    head(
        text,
        "Connections: 1 KB over loopback HTTP, server on one core",
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
            let figure =
                |figure: fn(&crate::load::Outcome) -> f64| connections.median(at, name, figure);
            // Of a few connections it is lost among pages.
            let memory = figure(|outcome| outcome.memory) / 1024.0;
            row(
                text,
                shown,
                [
                    number(*count as f64, 0),
                    number(figure(|outcome| outcome.calls), 0),
                    format!("{:.2}", figure(|outcome| outcome.cpu)),
                    format!("{:.2}", figure(|outcome| outcome.p99)),
                    if *count < 64 { "–".to_owned() } else { format!("{memory:.1}") },
                ],
            );
        }
    }
}

fn others(text: &mut String, findings: &Findings) {
    let Findings { workers, flood, stalled, .. } = findings;
    head(
        text,
        "Worker threads: 1 KB calls a second in process, making the requests included",
        &["", "1", "2", "gain"],
    );
    for (at, name) in workers::NAMES.iter().enumerate() {
        let throughput = |count| number(workers.throughput(at, count), 0);
        row(text, name, [throughput(1), throughput(2), format!("{:.2}", workers.gain(at))]);
    }
    head(
        text,
        &format!(
            "Forged flood: 1 KB over loopback HTTP, {CONNECTIONS} connections, server on one core"
        ),
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
    head(
        text,
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
                |figure: fn(&stalled::Held) -> f64| stalled.median(at, name, figure) / 1024.0;
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
}

fn method(text: &mut String, findings: &Findings) {
    let effort = findings.effort;
    let _ = write!(
        text,
        "\n## How it was measured\n\n\
         - **Who.** All in Rust read the same `PaymentRequest`; those in other languages read into untyped values, \
         which is less work. Each answer was checked: 200 to a good call, 4xx to a forged one.\n"
    );
    for contender in &ALL {
        let _ = writeln!(text, "  - {}: {}.", contender.name, contender.how);
    }
    for foreign in &foreign::ALL {
        let _ = writeln!(text, "  - {}: {}.", foreign.name, foreign.how);
    }
    let _ = write!(
        text,
        "- **In process.** The routers are called without a socket, 4 calls at a time, all contenders and sizes in turn \
         in each of {} rounds, without the time of making the requests. HMAC + parse is a prepared HMAC-SHA1 and \
         `serde_json::from_str` alone. Lines are fitted by least squares of the relative errors.\n\
         - **End to end.** Own load generator (`load.rs`) over connections that are kept, each with one call in flight: \
         it checks each answer, mixes good and forged calls, and costs less than any server here. The server has one core, \
         the client the other. {} rounds of {} s each after {} s of warming up, contenders in turn. CPU time is what \
         the scheduler counted for all threads of the server, in the kernel too; a server whose core is not all used is \
         faster than its caller. One thread serves, as in Node and uvicorn.\n\
         - **Memory.** `RssAnon` of the server: what it has allocated and touched, that of hyper and the allocator included; \
         not the kernel's socket buffers. Of stalled senders it is what is held only: glibc is told to give back \
         at once what is freed.\n\n\
         To reproduce, on Linux with two idle cores: `cargo run --release --manifest-path benches/rivals/Cargo.toml -- report`.\n\n\
         Versions: {}.\n",
        effort.calm_rounds,
        effort.rounds,
        effort.window.as_secs_f64(),
        effort.warm_up.as_secs_f64(),
        machine::versions().join(", ")
    );
}

// ---------------------------------------------------------------- Markdown

fn head(text: &mut String, title: &str, columns: &[&str]) {
    let aligned = ["---"].into_iter().chain(columns.iter().skip(1).map(|_| "---:"));
    let _ = write!(
        text,
        "\n## {title}\n\n| {} |\n| {} |\n",
        columns.join(" | "),
        aligned.collect::<Vec<_>>().join(" | ")
    );
}

fn row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let name = if name == LAYER { format!("**{name}**") } else { name.to_owned() };
    let cells: Vec<String> = [name].into_iter().chain(cells).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|contender| contender.name)
}

fn size_name(size: usize) -> String {
    if size < 1024 { format!("{size} B") } else { format!("{} KB", size / 1024) }
}

fn usual() -> usize {
    SIZES.iter().position(|size| *size == USUAL).expect("one of the sizes")
}

fn position(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).expect("a known name")
}
