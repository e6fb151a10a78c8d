//! How long calls wait for a daemon that is away. Pure decisions.

use std::time::{Duration, Instant};

/// The first pause between two attempts; each is twice the one before.
const SHORTEST: Duration = Duration::from_millis(20);
/// No pause is longer than this.
const LONGEST: Duration = Duration::from_millis(100);

/// A time without a daemon: all calls wait for the end of the same one.
#[derive(Debug, Default)]
pub struct Outage {
    /// When it began, and when an attempt failed last.
    times: Option<(Instant, Instant)>,
}

impl Outage {
    /// An attempt has failed. Returns when it began. Calls that come back after a long time begin another one.
    fn failed(&mut self, now: Instant, patience: Duration) -> Instant {
        let began = self
            .times
            .filter(|(_, last)| now.saturating_duration_since(*last) <= patience)
            .map_or(now, |(began, _)| began);
        self.times = Some((began, now));
        began
    }

    /// A daemon is there. Returns whether somebody may be waiting for it.
    pub fn over(&mut self) -> bool {
        self.times.take().is_some()
    }
}

/// The waiting of one call.
#[derive(Debug)]
pub struct Waiting {
    patience: Duration,
    deadline: Option<Instant>,
    pause: Duration,
}

impl Waiting {
    /// Of a call that waits for so long at most, and not at all for an outage that has lasted longer.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            deadline: None,
            pause: SHORTEST,
        }
    }

    /// How long to pause before another attempt, after one has failed; None to give up. There is one pause in any case: a call
    /// that is made again and again at once must not keep the processor busy.
    pub fn pause(&mut self, outage: &mut Outage, now: Instant) -> Option<Duration> {
        let began = outage.failed(now, self.patience);
        let Some(deadline) = self.deadline else {
            let deadline = began + self.patience;
            self.deadline = Some(deadline);
            return Some(if now < deadline {
                self.next(deadline - now)
            } else {
                LONGEST
            });
        };
        (now < deadline).then(|| self.next(deadline - now))
    }

    fn next(&mut self, left: Duration) -> Duration {
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// The pauses of a call whose every attempt fails, and when it gives up.
    fn wait(outage: &mut Outage, mut now: Instant) -> (Vec<u128>, Instant) {
        let mut waiting = Waiting::new(PATIENCE);
        let mut pauses = Vec::new();
        while let Some(pause) = waiting.pause(outage, now) {
            pauses.push(pause.as_millis());
            now += pause;
        }
        (pauses, now)
    }

    #[test]
    fn pauses_grow_and_end_with_the_patience() {
        let start = Instant::now();
        let (pauses, end) = wait(&mut Outage::default(), start);
        assert_eq!(pauses[..4], [20, 40, 80, 100]);
        assert!(pauses.iter().all(|pause| *pause <= 100));
        assert_eq!(end, start + PATIENCE);
    }

    #[test]
    fn an_outage_is_waited_for_once() {
        let start = Instant::now();
        let mut outage = Outage::default();
        // A call that comes later waits for the same end.
        let (_, end) = wait(&mut outage, start);
        assert_eq!(wait(&mut Outage::default(), start + PATIENCE / 2).1, end + PATIENCE / 2);
        let mut other = Outage::default();
        other.failed(start, PATIENCE);
        assert_eq!(wait(&mut other, start + PATIENCE / 2).1, end);
        // The next ones ask twice and do not wait, however long it goes on.
        let mut now = end;
        for _ in 0..10 {
            now += PATIENCE / 2;
            assert_eq!(wait(&mut outage, now).0, [100]);
        }
        // Who has not asked for long waits again, as does everybody when it was over.
        let later = now + PATIENCE * 2;
        assert_eq!(wait(&mut outage, later).1, later + PATIENCE);
        assert!(outage.over() && !outage.over());
        assert_eq!(wait(&mut outage, later + PATIENCE).1, later + PATIENCE * 2);
    }

    #[test]
    fn attempts_that_take_long_do_not_make_a_call_wait_for_longer() {
        let start = Instant::now();
        let (mut outage, mut waiting) = (Outage::default(), Waiting::new(PATIENCE));
        assert!(waiting.pause(&mut outage, start).is_some());
        assert!(waiting.pause(&mut outage, start + PATIENCE * 3).is_none());
    }
}
