//! All ratios that are published, as tables. Whether two runs agree is decided on these, and no others
//! get into the report or the plots.

use crate::contender::{ALL, FLOOR, LAYER};
use crate::end_to_end::CONNECTIONS;
use crate::findings::Findings;
use crate::in_process::{BARE, InProcess};
use crate::load::Outcome;
use crate::plot::number;
use crate::rounds::Spread;
use crate::sample::SIZES;
use crate::{connections, flood};

pub struct Table {
    pub title: String,
    /// A sentence below the title; may be empty.
    pub note: String,
    pub unit: Unit,
    pub columns: Vec<String>,
    pub rows: Vec<(&'static str, Vec<Option<Spread>>)>,
}

#[derive(Clone, Copy)]
pub enum Unit {
    /// With so many digits after the point.
    Times(usize),
    Percent,
}

impl Unit {
    pub fn text(self, spread: Spread) -> String {
        let Spread { low, median, high } = spread;
        match self {
            Self::Times(digits) => {
                format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
            }
            Self::Percent => {
                let [low, median, high] = [low, median, high].map(|share| share * 100.0);
                // Of a small share a whole percent would be a large step.
                let digits = usize::from(median < 20.0);
                format!("{median:.digits$} % ({low:.digits$}–{high:.digits$})")
            }
        }
    }
}

pub fn tables(findings: &Findings) -> Vec<Table> {
    let mut tables = Vec::from(in_process(&findings.in_process));
    tables.extend(end_to_end(findings));
    tables.extend(connections(findings));
    tables.push(flood(findings));
    tables
}

fn in_process(calm: &InProcess) -> [Table; 3] {
    let columns = SIZES.map(size_name).to_vec();
    let each =
        |ratio: &dyn Fn(usize) -> Spread| (0..SIZES.len()).map(|size| Some(ratio(size))).collect();
    let names = || ALL.iter().map(|contender| contender.name).filter(|name| *name != FLOOR);
    let rivals = || names().filter(|name| *name != LAYER);
    [
        Table {
            title: "In process: time over the least possible".to_owned(),
            note: "By size of the body. The least possible is the floor's time plus that of HMAC + parse.".to_owned(),
            unit: Unit::Times(2),
            columns: columns.clone(),
            rows: names()
                .map(|name| (name, each(&|size| calm.ratio_to_least(name, size))))
                .collect(),
        },
        Table {
            title: "In process: throughput of this crate over the other's".to_owned(),
            note: "By size of the body.".to_owned(),
            unit: Unit::Times(2),
            columns,
            rows: rivals()
                .map(|name| (name, each(&|size| calm.ratio(name, LAYER, size))))
                .collect(),
        },
        Table {
            title: "In process: cost of a byte over that of HMAC + parse".to_owned(),
            note: String::new(),
            unit: Unit::Times(2),
            columns: vec!["cost of a byte".to_owned()],
            rows: names().map(|name| (name, vec![Some(calm.slope_ratio(name, BARE))])).collect(),
        },
    ]
}

fn end_to_end(findings: &Findings) -> [Table; 2] {
    let loud = &findings.end_to_end;
    let note =
        || format!("1 KB over loopback HTTP, {CONNECTIONS} connections, server on one core.");
    // A ratio to oneself says nothing.
    let cpu = |name: &'static str, to| loud.cpu_ratio(name, to).filter(|_| name != to);
    let rivals = || loud.names.iter().copied().filter(|name| *name != FLOOR);
    [
        Table {
            title: "End to end: throughput as a share of the floor's".to_owned(),
            note: note(),
            unit: Unit::Percent,
            columns: vec!["throughput".to_owned()],
            rows: rivals().map(|name| (name, vec![loud.share(name)])).collect(),
        },
        Table {
            title: "End to end: CPU time of a request".to_owned(),
            note: note(),
            unit: Unit::Times(2),
            columns: ["over the floor's", "over this crate's"].map(str::to_owned).to_vec(),
            rows: rivals().map(|name| (name, vec![cpu(name, FLOOR), cpu(name, LAYER)])).collect(),
        },
    ]
}

fn connections(findings: &Findings) -> [Table; 2] {
    let connections = &findings.connections;
    let note = "By number of connections. 1 KB over loopback HTTP, server on one core.";
    let columns = || connections.counts.iter().map(|count| number(*count as f64, 0)).collect();
    let rows = |figure: fn(&Outcome) -> f64| {
        let counts = 0..connections.counts.len();
        let row =
            |name| counts.clone().map(|at| Some(connections.ratio(at, name, figure))).collect();
        (connections::NAMES.iter().enumerate().skip(1)).map(|(at, name)| (*name, row(at))).collect()
    };
    [
        Table {
            title: "Connections: throughput as a share of the floor's".to_owned(),
            note: note.to_owned(),
            unit: Unit::Percent,
            columns: columns(),
            rows: rows(|outcome| outcome.calls),
        },
        Table {
            title: "Connections: CPU time of a request over the floor's".to_owned(),
            note: note.to_owned(),
            unit: Unit::Times(2),
            columns: columns(),
            rows: rows(|outcome| outcome.cpu),
        },
    ]
}

fn flood(findings: &Findings) -> Table {
    let flood = &findings.flood;
    let columns = [
        "all calls/s over those without",
        "CPU time of a call over that without",
        "good calls/s over the hand-written version's",
    ];
    Table {
        title: "Forged flood: 90 % of the calls are forged".to_owned(),
        note: format!("1 KB over loopback HTTP, {CONNECTIONS} connections, server on one core."),
        unit: Unit::Times(2),
        columns: columns.map(str::to_owned).to_vec(),
        rows: (flood::NAMES.iter().enumerate())
            .map(|(at, name)| {
                let calls = flood.ratio(at, |outcome| outcome.calls);
                let cpu = flood.ratio(at, |outcome| outcome.cpu);
                let good = (at > 0).then(|| flood.good_to_hand(at));
                (*name, vec![Some(calls), Some(cpu), good])
            })
            .collect(),
    }
}

pub fn size_name(size: usize) -> String {
    if size < 1024 { format!("{size} B") } else { format!("{} KB", size / 1024) }
}

#[cfg(test)]
mod tests {
    use super::Unit;
    use crate::rounds::Spread;

    #[test]
    fn ratio_is_shown_with_its_quartiles() {
        let spread = Spread { low: 0.104, median: 0.125, high: 0.15 };
        assert_eq!(Unit::Times(2).text(spread), "0.12 (0.10–0.15)");
        assert_eq!(Unit::Percent.text(spread), "12.5 % (10.4–15.0)");
        assert_eq!(Unit::Percent.text(spread.map(|share| share * 4.0)), "50 % (42–60)");
    }
}
