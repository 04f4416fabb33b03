//! Paired rounds: in each, all programs run once, one right after the other.
//!
//! A disturbance of a shared machine hits neighbours alike. So each round gives its own ratio, and the
//! median of these ratios is what is published. Medians of absolute values are shown for information.

use std::fmt::Write;
use std::io;

pub struct Rounds<T> {
    rows: Vec<Vec<T>>,
}

impl<T> Rounds<T> {
    /// Runs programs `0..programs`, in another order in each round: what ran before leaves its traces
    /// in the caches and the allocator, and no program always meets the same swing of the machine.
    pub fn run(
        seed: usize,
        rounds: usize,
        programs: usize,
        mut program: impl FnMut(usize) -> io::Result<T>,
    ) -> io::Result<Self> {
        let mut rows = Vec::with_capacity(rounds);
        let mut order: Vec<usize> = (0..programs).collect();
        let mut dice = Dice(seed as u64);
        for _ in 0..rounds {
            dice.shuffle(&mut order);
            let mut row: Vec<Option<T>> = (0..programs).map(|_| None).collect();
            for &at in &order {
                row[at] = Some(program(at)?);
            }
            rows.push(row.into_iter().flatten().collect());
        }
        Ok(Self { rows })
    }

    /// The rounds of several starts of the programs. `start` is given the number of the start: a
    /// process keeps the memory layout it got by chance, and several of them average it out.
    pub fn of_starts(
        starts: usize,
        mut start: impl FnMut(usize) -> io::Result<Self>,
    ) -> io::Result<Self> {
        let mut rows = Vec::new();
        for at in 0..starts {
            rows.extend(start(at)?.rows);
        }
        Ok(Self { rows })
    }

    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The median and the quartiles of what each round gives.
    pub fn spread(&self, figure: impl Fn(&[T]) -> f64) -> Spread {
        Spread::of(self.rows.iter().map(|row| figure(row)).collect())
    }

    pub fn median(&self, figure: impl Fn(&[T]) -> f64) -> f64 {
        self.spread(figure).median
    }
}

/// For another process.
impl Rounds<f64> {
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for value in row {
                let _ = write!(text, "{value} ");
            }
            text.push('\n');
        }
        text
    }

    pub fn from_text(text: &str) -> io::Result<Self> {
        let row = |line: &str| line.split_whitespace().map(str::parse).collect();
        let rows = text.lines().map(row).collect::<Result<_, _>>().map_err(io::Error::other)?;
        Ok(Self { rows })
    }
}

/// The middle of many values, and where the middle half of them lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share| quantile(&values, share);
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }

    /// Lower and upper ends change places where `convert` falls.
    pub fn map(self, convert: impl Fn(f64) -> f64) -> Self {
        let (low, high) = (convert(self.low), convert(self.high));
        Self { low: low.min(high), median: convert(self.median), high: low.max(high) }
    }
}

/// Of sorted values; between two of them in proportion.
fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The same throws for the same seed.
struct Dice(u64);

impl Dice {
    fn shuffle(&mut self, order: &mut [usize]) {
        for at in (1..order.len()).rev() {
            // Knuth's MMIX generator, of which the upper half is good.
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            order.swap(at, (self.0 >> 33) as usize % (at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rounds, Spread};

    #[test]
    fn each_program_has_its_own_column() {
        let rounds = Rounds::run(1, 7, 3, Ok).unwrap();
        for at in 0..3 {
            assert!(rounds.rows.iter().all(|row| row[at] == at));
        }
    }

    #[test]
    fn order_differs_between_rounds_and_between_seeds() {
        let orders = |seed| {
            let mut order = Vec::new();
            let note = |at| {
                order.push(at);
                Ok(())
            };
            Rounds::run(seed, 2, 8, note).unwrap();
            order
        };
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
        assert_ne!(orders(1)[..8], orders(1)[8..]);
    }

    /// Twice as slow in each round, on a machine that gets slower: medians of the absolute values,
    /// taken from different rounds, would say something else.
    #[test]
    fn ratio_is_taken_within_a_round() {
        let rows = [[1.0, 2.0], [10.0, 20.0], [100.0, 210.0], [7.0, 13.0]].map(Vec::from).to_vec();
        let spread = Rounds { rows }.spread(|row| row[1] / row[0]);
        assert_eq!(spread.median, 2.0);
        assert!((spread.low - (1.0 * 13.0 / 7.0 + 3.0 * 2.0) / 4.0).abs() < 1e-12);
        assert!((spread.high - 2.025).abs() < 1e-12);
    }

    #[test]
    fn quartiles_lie_between_values() {
        let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { low: 2.0, median: 3.0, high: 4.0 });
        let spread = Spread::of(vec![4.0, 2.0, 1.0, 3.0]);
        assert_eq!(spread, Spread { low: 1.75, median: 2.5, high: 3.25 });
        assert_eq!(Spread::of(vec![9.0]), Spread { low: 9.0, median: 9.0, high: 9.0 });
    }

    #[test]
    fn inverse_swaps_the_ends() {
        let spread = Spread { low: 1.0, median: 2.0, high: 4.0 };
        assert_eq!(spread.map(f64::recip), Spread { low: 0.25, median: 0.5, high: 1.0 });
    }

    #[test]
    fn starts_are_joined_and_survive_text() {
        let rounds = Rounds::of_starts(3, |start| {
            Rounds::run(start, 2, 2, |at| Ok(start as f64 + at as f64 / 3.0))
        });
        let rounds = rounds.unwrap();
        assert_eq!(rounds.count(), 6);
        assert_eq!(rounds.rows[5], [2.0, 2.0 + 1.0 / 3.0]);
        assert_eq!(Rounds::from_text(&rounds.to_text()).unwrap().rows, rounds.rows);
        assert!(Rounds::from_text("1.0 two").is_err());
    }
}
