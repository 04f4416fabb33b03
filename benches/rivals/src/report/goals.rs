//! The goals, and whether both runs met them.

use std::fmt::Write;

use super::markdown::{head, row};
use crate::agreement::Runs;
use crate::contender::{ALL, FLOOR, HAND, LAYER};
use crate::findings::Findings;
use crate::foreign;
use crate::in_process::BARE;
use crate::ratios::Unit;
use crate::rounds::Spread;
use crate::sample::{SIZES, USUAL};
use crate::stalled::{self, Held};

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

struct Goal {
    what: &'static str,
    bound: Bound,
    /// None if a rival is not run here.
    figure: fn(&Findings) -> Option<Spread>,
}

const GOALS: [Goal; 9] = [
    Goal {
        what: "in process, 1 KB: throughput over the hand-written version's",
        bound: Bound::AtLeast(1.25),
        figure: |findings| Some(findings.in_process.ratio(HAND, LAYER, usual())),
    },
    Goal {
        what: "in process, 1 KB: throughput over that of the fastest rival in Rust",
        bound: Bound::Above(1.0),
        figure: |findings| {
            let rivals = ALL.iter().map(|contender| contender.name);
            let rivals = rivals.filter(|name| ![FLOOR, LAYER].contains(name));
            least(rivals.map(|name| findings.in_process.ratio(name, LAYER, usual())))
        },
    },
    Goal {
        what: "end to end: CPU time over the floor's",
        bound: Bound::AtMost(1.2),
        figure: |findings| findings.end_to_end.cpu_ratio(LAYER, FLOOR),
    },
    Goal {
        what: "end to end: CPU time over the hand-written version's",
        bound: Bound::Below(1.0),
        figure: |findings| findings.end_to_end.cpu_ratio(LAYER, HAND),
    },
    Goal {
        what: "end to end: CPU time of Node (the better of two) over this crate's",
        bound: Bound::AtLeast(5.0),
        figure: |findings| {
            let loud = &findings.end_to_end;
            least(foreign::NODE.iter().filter_map(|name| loud.cpu_ratio(name, LAYER)))
        },
    },
    Goal {
        what: "end to end: CPU time of Python over this crate's",
        bound: Bound::AtLeast(10.0),
        figure: |findings| findings.end_to_end.cpu_ratio(foreign::PYTHON, LAYER),
    },
    Goal {
        what: "cost of a byte over that of HMAC + parse",
        bound: Bound::AtMost(1.1),
        figure: |findings| Some(findings.in_process.slope_ratio(LAYER, BARE)),
    },
    Goal {
        what: "stalled body of 256 KiB, sent in pieces: KiB held beyond the limit",
        bound: Bound::AtMost(4.0),
        figure: |findings| beyond(findings, |held| held.in_pieces),
    },
    Goal {
        what: "stalled body of 256 KiB, sent at once: KiB held beyond the limit",
        bound: Bound::AtMost(4.0),
        figure: |findings| beyond(findings, |held| held.at_once),
    },
];

pub fn section(text: &mut String, runs: &Runs) {
    let shown = |findings: Option<&Findings>, goal: &Goal| match findings.map(goal.figure) {
        None => "–".to_owned(),
        Some(None) => "not run here".to_owned(),
        Some(Some(spread)) => Unit::Times(2).text(spread),
    };
    head(text, 2, "Goals", &["goal", "bound", "measured", "in the other run", "met"]);
    for goal in &GOALS {
        let both = [Some(&runs.last), runs.before.as_ref()];
        let figures: Vec<Spread> = both.into_iter().flatten().filter_map(goal.figure).collect();
        let met = match figures[..] {
            [] => "",
            _ if figures.iter().all(|figure| goal.bound.is_met(figure.median)) => "yes",
            _ => "**no**",
        };
        let [last, before] = both.map(|findings| shown(findings, goal));
        row(text, goal.what, [goal.bound.text(), last, before, met.to_owned()]);
    }
    text.push_str("\nA goal is met if the medians of both runs meet it.\n");
    let (calm, loud) = (&runs.last.in_process, &runs.last.end_to_end);
    let bare = calm.time(BARE, usual()) / 1e3;
    if let Some(floor) = loud.median(FLOOR, |outcome| outcome.cpu) {
        let _ = writeln!(
            text,
            "\nHMAC + parse alone take about {bare:.1} µs, a call of the floor about {floor:.1} µs. So \
             {:.2} times the floor is about the least that is possible for a server that checks and parses.",
            (floor + bare) / floor
        );
    }
    text.push_str(
        "\nThe memory of a stalled body excludes what every connection takes, and includes hyper's read \
         buffer. `tests/memory.rs` counts what the layer alone holds. A body sent at once makes hyper's \
         buffer grow up to its `max_buf_size` of about 400 KiB, and hyper keeps it beside the layer's \
         copy. A handler that keeps the frames instead of a copy, as axum's `Bytes` does, avoids that. It \
         pays twice the body if the body is sent in pieces, because each piece keeps a buffer alive.\n",
    );
}

fn least(spreads: impl Iterator<Item = Spread>) -> Option<Spread> {
    spreads.min_by(|one, other| one.median.total_cmp(&other.median))
}

fn beyond(findings: &Findings, figure: fn(&Held) -> f64) -> Option<Spread> {
    let layer = stalled::NAMES.iter().position(|name| *name == LAYER)?;
    let (at, limit) = stalled::LIMITS.iter().enumerate().next_back()?;
    let held = findings.stalled.spread(at, layer, |held| figure(held) - held.begun);
    Some(held.map(|held| (held - *limit as f64) / 1024.0))
}

fn usual() -> usize {
    SIZES.iter().position(|size| *size == USUAL).expect("one of the sizes")
}

#[cfg(test)]
mod tests {
    use super::{Bound, least};
    use crate::rounds::Spread;

    #[test]
    fn bounds_include_their_end_or_not() {
        assert!(Bound::AtMost(1.2).is_met(1.2) && !Bound::AtMost(1.2).is_met(1.21));
        assert!(Bound::AtLeast(5.0).is_met(5.0) && !Bound::AtLeast(5.0).is_met(4.99));
        assert!(Bound::Below(1.0).is_met(0.99) && !Bound::Below(1.0).is_met(1.0));
        assert!(Bound::Above(1.0).is_met(1.01) && !Bound::Above(1.0).is_met(1.0));
    }

    #[test]
    fn best_rival_is_chosen_by_its_median() {
        let spread = |low, median| Spread { low, median, high: 9.0 };
        let rivals = [spread(0.5, 1.5), spread(0.9, 1.1), spread(0.1, 2.0)];
        assert_eq!(least(rivals.into_iter()), Some(rivals[1]));
        assert_eq!(least([].into_iter()), None);
    }
}
