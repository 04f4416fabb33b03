//! Paired rounds: in each, all programs run once, one after the other.
//!
//! What disturbs a shared machine disturbs neighbours alike. So each round gives its own ratio, and the
//! median of the ratios counts; the median times are only shown.

use std::io;

pub struct Rounds<T> {
    rows: Vec<Vec<T>>,
}

impl<T> Rounds<T> {
    /// Runs programs `0..programs`, in another order in each round: what ran before leaves its traces
    /// in the caches and the allocator.
    pub fn run(
        rounds: usize,
        programs: usize,
        mut program: impl FnMut(usize) -> io::Result<T>,
    ) -> io::Result<Self> {
        let mut rows = Vec::with_capacity(rounds);
        let mut order: Vec<usize> = (0..programs).collect();
        let mut dice = Dice(1);
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

    /// The median of what each round gives.
    pub fn median(&self, figure: impl Fn(&[T]) -> f64) -> f64 {
        median(self.rows.iter().map(|row| figure(row)).collect())
    }
}

/// The same throws in each run.
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

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::Rounds;

    #[test]
    fn each_program_has_its_own_column() {
        let rounds = Rounds::run(7, 3, Ok).unwrap();
        for at in 0..3 {
            assert!(rounds.rows.iter().all(|row| row[at] == at));
        }
    }
}
