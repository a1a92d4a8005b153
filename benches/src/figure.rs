//! Figures: what a benchmark hands over, as `cargo xtask bench` reads it.

use serde_json::json;

/// The values of one contender, one for each round.
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) const fn new() -> Self {
        Rounds(Vec::new())
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle value, or the mean of the two in the middle; `None` without rounds.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }
}

/// Prints the median of the rounds of a contender; nothing if it did not take part. `floor` is the bound that the value is read against.
pub(crate) fn print(bench: &str, implementation: &str, rounds: &Rounds, unit: &str, floor: Option<f64>) {
    let Some(value) = rounds.median() else { return };
    // Six digits are more than any of this is good for.
    let value = (value * 1e6).round() / 1e6;
    println!(
        "{}",
        json!({
            "bench": bench, "impl": implementation, "value": value, "unit": unit,
            "rounds": rounds.0.len(), "floor": floor
        })
    );
    eprintln!("{bench} {implementation}: {:.4?} {unit}", rounds.0);
}

/// Prints a value that was had once.
pub(crate) fn print_once(bench: &str, implementation: &str, value: f64, unit: &str, floor: Option<f64>) {
    print(bench, implementation, &Rounds(vec![value]), unit, floor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(Rounds::new().median(), None);
        assert_eq!(Rounds(vec![3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(Rounds(vec![4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
    }
}
