//! Runs, until two in a row agree.

use std::io;

use crate::effort::Effort;
use crate::findings::Findings;
use crate::foreign;
use crate::ratios::{self, Table};

/// Two runs agree if no ratio of one differs from that of the other by more than this.
pub const TOLERANCE: f64 = 0.05;

pub struct Runs {
    pub count: usize,
    /// The run before the last; none if only one was asked for.
    pub before: Option<Findings>,
    /// This one is published.
    pub last: Findings,
}

impl Runs {
    pub fn gather(effort: &'static Effort) -> io::Result<Self> {
        eprintln!("packages for Python and Node");
        foreign::install()?;
        let mut runs = Self { count: 1, before: None, last: Findings::gather(effort)? };
        while runs.count < effort.most_runs {
            runs.count += 1;
            runs.before = Some(std::mem::replace(&mut runs.last, Findings::gather(effort)?));
            if let Some(difference) = runs.largest_difference() {
                eprintln!("run {}: {difference}", runs.count);
                if difference.is_agreement() {
                    break;
                }
            }
        }
        Ok(runs)
    }

    /// Of all ratios that are published.
    pub fn largest_difference(&self) -> Option<Difference> {
        self.differences().into_iter().reduce(Difference::larger)
    }

    /// The largest of each table.
    pub fn differences(&self) -> Vec<Difference> {
        let Some(before) = &self.before else { return Vec::new() };
        let (last, before) = (ratios::tables(&self.last), ratios::tables(before));
        last.iter().zip(&before).filter_map(|(last, before)| largest(last, before)).collect()
    }
}

/// How far a ratio is from that of another run.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub place: String,
    /// 0.05 if the larger one is 5 % above the smaller one.
    pub relative: f64,
}

impl Difference {
    pub fn is_agreement(&self) -> bool {
        self.relative <= TOLERANCE
    }

    fn larger(self, other: Self) -> Self {
        // Whatever is not a number is no agreement.
        if other.relative > self.relative || other.relative.is_nan() { other } else { self }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} % ({})", self.relative * 100.0, self.place)
    }
}

/// A ratio that only one run has is an infinite difference.
fn largest(one: &Table, other: &Table) -> Option<Difference> {
    let mut differences = Vec::new();
    for ((name, cells), (_, others)) in one.rows.iter().zip(&other.rows) {
        for (column, (cell, other)) in one.columns.iter().zip(cells.iter().zip(others)) {
            let relative = match (cell, other) {
                (None, None) => continue,
                (Some(cell), Some(other)) => relative(cell.median, other.median),
                _ => f64::INFINITY,
            };
            differences
                .push(Difference { place: format!("{}: {name}, {column}", one.title), relative });
        }
    }
    differences.into_iter().reduce(Difference::larger)
}

fn relative(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.min(other)
}

#[cfg(test)]
mod tests {
    use super::{Difference, largest, relative};
    use crate::ratios::{Table, Unit};
    use crate::rounds::Spread;

    fn table(cells: [Option<f64>; 4]) -> Table {
        let cell = |at: usize| {
            let median = cells[at]?;
            Some(Spread { low: 0.1, median, high: 9.0 })
        };
        Table {
            title: "End to end".to_owned(),
            note: String::new(),
            unit: Unit::Times(2),
            columns: ["share", "CPU"].map(str::to_owned).to_vec(),
            rows: vec![("one", vec![cell(0), cell(1)]), ("two", vec![cell(2), cell(3)])],
        }
    }

    #[test]
    fn largest_difference_is_found_in_both_directions() {
        let one = table([Some(1.0), Some(2.0), Some(3.0), Some(4.0)]);
        let other = table([Some(1.02), Some(2.0), Some(2.7), Some(4.1)]);
        for difference in [largest(&one, &other), largest(&other, &one)] {
            let difference = difference.unwrap();
            assert_eq!(difference.place, "End to end: two, share");
            assert!((difference.relative - 1.0 / 9.0).abs() < 1e-12);
        }
    }

    #[test]
    fn agreement_ends_at_5_percent() {
        let is_agreement = |relative| Difference { place: String::new(), relative }.is_agreement();
        assert!(is_agreement(relative(1.0, 1.049)) && is_agreement(relative(1.049, 1.0)));
        assert!(!is_agreement(relative(1.0, 1.051)) && !is_agreement(relative(1.051, 1.0)));
        assert!(!is_agreement(f64::NAN));
    }

    #[test]
    fn ratio_of_one_run_only_is_no_agreement() {
        let one = table([None, Some(2.0), None, Some(4.0)]);
        assert_eq!(largest(&one, &one).unwrap().relative, 0.0);
        let other = table([None, Some(2.0), Some(3.0), Some(4.0)]);
        assert_eq!(largest(&one, &other).unwrap().relative, f64::INFINITY);
        let other = table([None, Some(2.0), None, Some(f64::NAN)]);
        assert!(!largest(&one, &other).unwrap().is_agreement());
    }
}
