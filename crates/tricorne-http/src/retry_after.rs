//! The `Retry-After` header: a number of seconds or an HTTP date.

use std::time::{Duration, SystemTime};

/// How long to wait from `now` on, at most `max`; `None` for a value that is neither form.
/// A date in the past is no wait.
pub(crate) fn parse(value: &str, now: SystemTime, max: Duration) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a time beyond any `max`.
        return Some(value.parse().map_or(max, Duration::from_secs).min(max));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let max = Duration::from_secs(100);
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let parse = |value| parse(value, now, max);
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse("101"), Some(max));
        assert_eq!(parse("99999999999999999999999"), Some(max));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:42 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:42 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("Mon, 06 Nov 2034 08:49:00 GMT"), Some(max));
        for wrong in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
