//! Rates as people write them.

use std::time::Duration;

use tricorne_exec::limit::Rate;

/// The times of rates, in seconds.
const UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3_600)];

/// The highest number in a rate; more in a second is no limit at all, and was meant otherwise.
const MAX_AMOUNT: u64 = 1_000_000;

/// A rate like `"10/s"`, `"90/min"` or `"500 / h"`, evenly spread; `None` if it is none.
pub(super) fn parse_rate(text: &str) -> Option<Rate> {
    let (amount, unit) = text.split_once('/')?;
    let (amount, unit) = (amount.trim(), unit.trim());
    // `parse` would take a sign.
    let digits = amount.bytes().all(|byte| byte.is_ascii_digit());
    let amount = amount.parse().ok().filter(|amount| digits && (1..=MAX_AMOUNT).contains(amount))?;
    let (_, secs) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Rate::new(amount, Duration::from_secs(*secs)))
}

/// The rate as [`parse_rate`] reads it.
pub(super) fn format_rate(rate: Rate) -> String {
    let secs = rate.period().as_secs();
    let unit = UNITS.iter().find(|(_, unit_secs)| *unit_secs == secs).map_or("s", |(name, _)| name);
    format!("{}/{unit}", rate.amount())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, secs, written) in
            [("10/s", 1, "10/s"), (" 90 / min ", 60, "90/min"), ("1000000/h", 3_600, "1000000/h")]
        {
            let rate = parse_rate(text).unwrap();
            assert_eq!((rate.period().as_secs(), format_rate(rate).as_str()), (secs, written));
        }
        for text in
            ["", "10", "10/", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "10/sec", "10/S", "1000001/s", "1/s/s"]
        {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }
}
