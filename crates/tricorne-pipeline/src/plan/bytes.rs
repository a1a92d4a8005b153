//! Sizes as people write them.

/// The units of sizes: decimal and binary, by lower-case name.
const UNITS: [(&str, u64); 8] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("bytes", 1),
];

/// A size like `"10 MiB"`, `"1.5 GB"`, `"512KiB"` or `"4096"`, in bytes; `None` if it is none.
///
/// kB, MB and GB are powers of 1,000, KiB, MiB and GiB of 1,024, in any case. A fraction of a byte is cut off.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start().to_ascii_lowercase());
    let factor = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    // Above 2^53 a float no longer holds every byte; sizes with fractions do not get there.
    (value < 9_007_199_254_740_992.0).then_some(value as u64)
}

/// The size in the largest binary unit that gives a whole number, as [`parse_bytes`] reads it.
pub(super) fn format_bytes(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10 MiB", 10 << 20),
            ("10mib", 10 << 20),
            (" 1.5 GB ", 1_500_000_000),
            ("512KiB", 512 << 10),
            ("7 bytes", 7),
            ("0.5 kB", 500),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "1.",
            ".5 MB",
            "1.2.3",
            "10 M",
            "10 MiB x",
            "1e3",
            "99999999999999999999",
            "18446744073709551615 kB",
            "1e",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_sizes_read_back(bytes in any::<u64>(), shift in 0_u32..40) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
    }
}
