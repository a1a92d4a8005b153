//! One HTTP client: pools, limits, time-outs, retries
