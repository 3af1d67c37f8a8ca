//! How often something may happen: a bucket that fills at a steady rate (GCRA, ITU-T I.371), with
//! time passed in.

use crate::base::{LocalTime, Span};

/// One bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gcra {
    every: Span,
    burst: u32,
    /// When the bucket would be full again; none before the first.
    full_at: Option<LocalTime>,
}

impl Gcra {
    /// One each `every`, and `burst` at once.
    #[must_use]
    pub fn new(every: Span, burst: u32) -> Gcra {
        Gcra { every, burst: burst.max(1), full_at: None }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// How long to wait until there is one again.
    pub fn take(&mut self, now: LocalTime) -> Result<(), Span> {
        let full_at = self.full_at.map_or(now, |at| at.later(now));
        let depth = Span(self.every.0.saturating_mul(i64::from(self.burst)));
        let wait = (full_at + self.every) - (now + depth);
        if wait > Span::ZERO {
            return Err(wait);
        }
        self.full_at = Some(full_at + self.every);
        Ok(())
    }

    /// Puts the one taken last back.
    pub fn give_back(&mut self) {
        self.full_at = self.full_at.map(|at| at - self.every);
    }

    /// Whether it is as if nothing had been taken.
    #[must_use]
    pub fn is_full(&self, now: LocalTime) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let mut bucket = Gcra::new(Span::from_secs(3), 10);
        let mut now = LocalTime(0);
        for _ in 0..10 {
            assert_eq!(bucket.take(now), Ok(()));
        }
        assert_eq!(bucket.take(now), Err(Span::from_secs(3)));
        now += Span::from_secs(3);
        assert_eq!(bucket.take(now), Ok(()));
        assert!(bucket.take(now).is_err());
        now += Span::from_secs(30);
        assert!(bucket.is_full(now));
        assert_eq!((0..20).filter(|_| bucket.take(now).is_ok()).count(), 10, "in 30 s");
    }
}
