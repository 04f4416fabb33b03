//! The findings as Markdown and as plots.

mod absolute;
mod goals;
mod markdown;
mod method;

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::agreement::{Runs, TOLERANCE};
use crate::contender::{ALL, FLOOR, LAYER};
use crate::findings::Findings;
use crate::machine;
use crate::plot::{self, Theme};
use crate::ratios::{self, size_name};
use crate::sample::{SIZES, Scheme};

/// `RESULTS.md` and `plots/` into this folder.
pub fn write(runs: &Runs, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("plots"))?;
    for (name, svg) in plots(&runs.last) {
        fs::write(folder.join("plots").join(name), svg)?;
    }
    fs::write(folder.join("RESULTS.md"), text(runs))
}

/// Each plot in a light and a dark variant, with the name of its file.
pub fn plots(findings: &Findings) -> Vec<(String, String)> {
    let (calm, loud) = (&findings.in_process, &findings.end_to_end);
    // Only contenders that do the same job. The tables have the others.
    let ratios: Vec<_> = (ALL.iter().filter(|contender| contender.scheme == Scheme::Inqud))
        .map(|contender| {
            let ratio = |size| calm.ratio_to_least(contender.name, size);
            (contender.name, (0..SIZES.len()).map(ratio).collect())
        })
        .collect();
    let names = || loud.names.iter().copied().filter(|name| *name != FLOOR);
    let percent = |share: f64| share * 100.0;
    let shares: Vec<_> =
        names().filter_map(|name| Some((name, loud.share(name)?.map(percent)))).collect();
    let slopes: Vec<_> = (ALL.iter().filter(|contender| contender.name != FLOOR))
        .map(|contender| {
            (contender.name, calm.slope_ratio(contender.name, crate::in_process::BARE))
        })
        .collect();
    let mut plots = Vec::new();
    for theme in [&Theme::LIGHT, &Theme::DARK] {
        let lines = plot::lines(
            theme,
            &plot::Caption {
                title: "Time of a call over the least possible",
                subtitle: "least: axum route that reads the body + HMAC-SHA1 + parse; in process; lower is better",
                axis: "size of the body",
            },
            &SIZES.map(size_name),
            &ratios,
            LAYER,
        );
        plots.push((format!("ratio-{}.svg", theme.name), lines));
        let bars = plot::bars(
            theme,
            &plot::Caption {
                title: "Throughput, share of the floor's",
                subtitle: "floor: axum route that reads the body and checks nothing; loopback HTTP, 1 KB, one core; higher is better",
                axis: "% of the floor's requests per second in the same round",
            },
            &shares,
            LAYER,
            &plot::Scale { tick: 20.0, digits: 0, unit: " %" },
        );
        plots.push((format!("requests-{}.svg", theme.name), bars));
        let bars = plot::bars(
            theme,
            &plot::Caption {
                title: "Cost of a byte over that of HMAC + parse alone",
                subtitle: "in process; lower is better",
                axis: "times the cost of HMAC + parse in the same round",
            },
            &slopes,
            LAYER,
            &plot::Scale { tick: 0.5, digits: 2, unit: "" },
        );
        plots.push((format!("bytes-{}.svg", theme.name), bars));
    }
    plots
}

pub fn text(runs: &Runs) -> String {
    let mut text = format!(
        "# Results\n\nMeasured on {} by `benches/rivals`{}: {}.\n\n\
         Every ratio is the median of the ratios of paired rounds. The quartiles follow in parentheses: \
         half of the rounds lie between them. {}\n",
        machine::date(),
        machine::commit().map_or(String::new(), |commit| format!(" at commit {commit}")),
        machine::machine(),
        agreement(runs)
    );
    goals::section(&mut text, runs);
    let differences = runs.differences();
    for (at, table) in ratios::tables(&runs.last).iter().enumerate() {
        markdown::table(&mut text, table);
        if let Some(difference) = differences.get(at) {
            let _ = writeln!(
                text,
                "\nThe two runs differ by at most {:.1} %.",
                difference.relative * 100.0
            );
        }
    }
    for name in &runs.last.end_to_end.missing {
        let _ = writeln!(text, "\n{name} was not run: it could not be installed or started.");
    }
    absolute::sections(&mut text, &runs.last);
    method::section(&mut text, &runs.last);
    text
}

fn agreement(runs: &Runs) -> String {
    let tolerance = TOLERANCE * 100.0;
    let (Some(before), Some(largest)) = (&runs.before, runs.largest_difference()) else {
        return "There was only one run, so nothing shows how well it can be repeated.".to_owned();
    };
    let verdict = if largest.is_agreement() {
        format!("The last two of {} runs agree within {tolerance:.0} %", runs.count)
    } else {
        format!(
            "**The last two of {} runs do not agree within {tolerance:.0} %**, and no further runs were made",
            runs.count
        )
    };
    format!(
        "{verdict}; the largest difference is {:.1} %, at \"{}\". The figures are those of the last run. \
         The load average was {} before it and {} before the other.",
        largest.relative * 100.0,
        largest.place,
        runs.last.load,
        before.load
    )
}
