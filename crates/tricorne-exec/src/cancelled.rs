//! Waiting for a cancel token in a runtime, its deadline included.
//!
//! `tricorne_sync` has no clock that could wake a task, so [`CancelToken::cancelled_async`] alone does not end at a
//! deadline. Use this where there is a tokio runtime with time.

use tricorne_sync::CancelToken;

/// Ready when `token` is cancelled, by request or because its deadline, or that of a token above it, has passed.
///
/// # Cancel safety
///
/// Dropped, it leaves the token as it was.
///
/// # Panics
///
/// Outside of a tokio runtime whose timers are enabled, as those of an [`AsyncExecutor`](crate::AsyncExecutor) are.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use tricorne_exec::{AsyncExecutor, cancelled};
/// use tricorne_sync::CancelToken;
///
/// let event_loop = AsyncExecutor::builder().build()?;
/// let token = CancelToken::with_deadline(Instant::now() + Duration::from_millis(5));
/// let watched = token.clone();
/// let work = event_loop.spawn(async move {
///     tokio::select! {
///         () = cancelled(&watched) => "out of time",
///         () = std::future::pending() => unreachable!("it never ends"),
///     }
/// });
/// assert_eq!(work.result(), Ok("out of time"));
/// assert!(token.is_cancelled());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn cancelled(token: &CancelToken) {
    let Some(deadline) = token.deadline() else { return token.cancelled_async().await };
    tokio::select! {
        () = token.cancelled_async() => {}
        // Looking at it makes it, and those below it, cancelled.
        () = tokio::time::sleep_until(deadline.into()) => {
            token.is_cancelled();
        }
    }
}
