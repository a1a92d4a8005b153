//! The time-outs of one attempt on one timer.
//!
//! A deadline that moves with every piece of a body would re-arm a timer each time. Here moving it is a store: the timer
//! stays where it was armed, and only when it fires is it compared with the deadline and armed again.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{AttemptError, FailureKind};

/// The deadline of the current phase of an attempt, never later than that of the whole record.
pub(crate) struct Deadline {
    total_at: Instant,
    total: Duration,
    phase_at: Instant,
    phase: Duration,
    kind: FailureKind,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// `left` is what the record still has of its `total` network time.
    pub(crate) fn new(now: Instant, left: Duration, total: Duration) -> Self {
        let total_at = now + left;
        Deadline {
            total_at,
            total,
            phase_at: total_at,
            phase: total,
            kind: FailureKind::TimeoutTotal,
            timer: Box::pin(sleep_until(total_at)),
        }
    }

    /// Starts a phase that fails as `kind` after `limit`.
    pub(crate) fn enter(&mut self, kind: FailureKind, limit: Duration) {
        self.kind = kind;
        self.phase = limit;
        self.progress();
    }

    /// The phase has its full time again.
    pub(crate) fn progress(&mut self) {
        self.phase_at = Instant::now() + self.phase;
    }

    /// Time left until the next deadline.
    pub(crate) fn left(&self) -> Duration {
        self.phase_at.min(self.total_at).saturating_duration_since(Instant::now())
    }

    /// Ready when a deadline has passed. To be polled after the input, which may have come in time though it is
    /// looked at late.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<AttemptError> {
        let at = self.phase_at.min(self.total_at);
        if self.timer.deadline() > at {
            self.timer.as_mut().reset(at);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= at {
                return Poll::Ready(self.error());
            }
            self.timer.as_mut().reset(at);
        }
    }

    /// Runs `work` until it is done or a deadline passes.
    pub(crate) async fn bound<T>(
        &mut self,
        work: impl Future<Output = Result<T, AttemptError>>,
    ) -> Result<T, AttemptError> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            self.poll_passed(cx).map(Err)
        })
        .await
    }

    fn error(&self) -> AttemptError {
        if self.total_at <= self.phase_at {
            let message = format!("no complete answer within {:?} on the network", self.total);
            return AttemptError::new(FailureKind::TimeoutTotal, message);
        }
        let what = match self.kind {
            FailureKind::TimeoutConnect => "no connection",
            FailureKind::TimeoutFirstByte => "no answer",
            _ => "no further piece of the body",
        };
        AttemptError::new(self.kind, format!("{what} within {:?}", self.phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    const SECOND: Duration = Duration::from_secs(1);

    fn fake_clock() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    }

    #[test]
    fn progress_moves_the_phase_but_not_the_total() {
        fake_clock().block_on(async {
            let start = Instant::now();
            let mut deadline = Deadline::new(start, 10 * SECOND, 60 * SECOND);
            deadline.enter(FailureKind::TimeoutStall, 2 * SECOND);
            for _ in 0..3 {
                tokio::time::sleep(SECOND).await;
                deadline.progress();
            }
            let error = poll_fn(|cx| deadline.poll_passed(cx)).await;
            assert_eq!((error.kind, start.elapsed().as_secs()), (FailureKind::TimeoutStall, 5));

            deadline.enter(FailureKind::TimeoutFirstByte, 30 * SECOND);
            let error = deadline.bound(pending::<Result<(), _>>()).await.expect_err("nothing is ever ready");
            assert_eq!((error.kind, start.elapsed().as_secs()), (FailureKind::TimeoutTotal, 10));
        });
    }

    #[test]
    fn an_earlier_phase_re_arms_the_timer() {
        fake_clock().block_on(async {
            let start = Instant::now();
            let mut deadline = Deadline::new(start, 60 * SECOND, 60 * SECOND);
            deadline.enter(FailureKind::TimeoutFirstByte, 30 * SECOND);
            assert!(poll_fn(|cx| Poll::Ready(deadline.poll_passed(cx))).await.is_pending());
            deadline.enter(FailureKind::TimeoutStall, SECOND);
            let error = poll_fn(|cx| deadline.poll_passed(cx)).await;
            assert_eq!((error.kind, start.elapsed().as_secs()), (FailureKind::TimeoutStall, 1));
        });
    }

    #[test]
    fn what_is_ready_wins_over_a_passed_deadline() {
        fake_clock().block_on(async {
            let mut deadline = Deadline::new(Instant::now(), SECOND, SECOND);
            tokio::time::sleep(5 * SECOND).await;
            assert_eq!(deadline.bound(async { Ok(7) }).await.expect("it was ready"), 7);
        });
    }
}
