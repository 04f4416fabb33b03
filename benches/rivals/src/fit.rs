//! A line through points, by least squares of the relative errors: so that small bodies count as much
//! as large ones.

#[derive(Clone, Copy)]
pub struct Line {
    pub constant: f64,
    pub slope: f64,
}

impl Line {
    pub fn through(points: impl Iterator<Item = (f64, f64)>) -> Self {
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (x, y) in points {
            let weight = 1.0 / (y * y);
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
        }
        let slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
        Self { constant: (wy - slope * wx) / w, slope }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn points_on_a_line_give_that_line() {
        let line = Line::through([1.0, 2.0, 70.0].map(|x| (x, 5.0 + 3.0 * x)).into_iter());
        assert!((line.constant - 5.0).abs() < 1e-9 && (line.slope - 3.0).abs() < 1e-9);
    }
}
