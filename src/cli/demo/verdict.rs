//! What the recordings of the outputs say: how far apart the same music sounded.

use serde_json::{Value, json};

use crate::audio::record::{Comparison, Finding, Plan, Recording, compare};
use crate::base::Span;

/// 95 of 100 differences must stay below this: no ear tells two speakers apart that are.
const LIMIT: Span = Span::from_millis(1);

/// Left out at the beginning: the first seconds in which everybody finds its place.
const SETTLE: Span = Span::from_secs(4);

/// Fewer comparisons than this prove nothing.
const MIN_WINDOWS: usize = 3;

/// The differences between every two recordings.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Verdict {
    outputs: usize,
    /// Of windows with the same music on both sides, without their signs, ascending.
    skews: Vec<Span>,
    /// Windows in which two outputs did not play the same.
    different: usize,
}

impl Verdict {
    pub fn of(recordings: &[Recording]) -> Verdict {
        let plan = Plan { settle: SETTLE, ..Plan::default() };
        let pairs = recordings
            .iter()
            .enumerate()
            .flat_map(|(i, a)| recordings[i + 1..].iter().map(move |b| compare(a, b, &plan)));
        Verdict::from_comparisons(recordings.len(), &pairs.collect::<Vec<_>>())
    }

    fn from_comparisons(outputs: usize, pairs: &[Comparison]) -> Verdict {
        let findings = || pairs.iter().flat_map(|pair| pair.windows.iter().map(|w| w.1));
        let mut skews = findings()
            .filter_map(|finding| match finding {
                Finding::Same { skew, .. } => Some(skew.abs()),
                Finding::Silent | Finding::Different => None,
            })
            .collect::<Vec<_>>();
        skews.sort_unstable();
        let different = findings().filter(|f| *f == Finding::Different).count();
        Verdict { outputs, skews, different }
    }

    /// The difference that `percent` of 100 comparisons do not exceed; comparisons of different
    /// music exceed everything.
    fn percentile(&self, percent: usize) -> Option<Span> {
        let n = self.skews.len() + self.different;
        let rank = (n * percent).div_ceil(100).max(1);
        self.skews.get(rank - 1).copied()
    }

    pub fn is_good(&self) -> bool {
        let close = self.percentile(95).is_some_and(|p95| p95 <= LIMIT);
        self.skews.len() >= MIN_WINDOWS && close
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let micros = |span: Option<Span>| {
            span.map_or("more than 50 ms".to_owned(), |s| format!("{:.0} µs", s.as_micros_f64()))
        };
        if self.skews.len() + self.different < MIN_WINDOWS {
            return vec![
                String::new(),
                "Too little music was recorded to compare the outputs.".to_owned(),
                "Let it play longer: --seconds 15, or Ctrl-C later.".to_owned(),
            ];
        }
        let mut lines = vec![
            String::new(),
            format!(
                "What {} outputs recorded, compared at {} places: p50 {}, p95 {}, max {} apart.",
                self.outputs,
                self.skews.len() + self.different,
                micros(self.percentile(50)),
                micros(self.percentile(95)),
                micros(self.percentile(100)),
            ),
        ];
        lines.push(if self.is_good() {
            "That is one loudspeaker: differences below 1 ms cannot be heard.".to_owned()
        } else {
            "That is too much: 95 of 100 differences should be below 1 ms. A machine that was \
             very busy is the usual cause; try again."
                .to_owned()
        });
        lines
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let micros = |percent| self.percentile(percent).map(Span::as_micros_f64);
        json!({ "summary": {
            "outputs": self.outputs,
            "compared": self.skews.len() + self.different,
            "different": self.different,
            "p50_us": micros(50),
            "p95_us": micros(95),
            "max_us": micros(100),
            "in_sync": self.is_good(),
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(micros: &[i64], different: usize) -> Verdict {
        let mut skews = micros.iter().map(|us| Span::from_micros(*us)).collect::<Vec<_>>();
        skews.sort_unstable();
        Verdict { outputs: 3, skews, different }
    }

    #[test]
    fn close_outputs_are_one_loudspeaker() {
        let verdict = verdict(&[20, 10, 40, 30], 0);
        assert!(verdict.is_good());
        let text = verdict.lines().join("\n");
        assert!(text.contains("p50 20 µs, p95 40 µs, max 40 µs"), "{text}");
    }

    #[test]
    fn one_distant_output_is_said_and_fails() {
        let verdict = verdict(&[20, 1_500, 1_600, 10], 0);
        assert!(!verdict.is_good());
        assert!(verdict.lines().join("\n").contains("too much"));
    }

    #[test]
    fn different_music_is_further_apart_than_everything() {
        assert!(!verdict(&[10; 10], 2).is_good());
        assert!(verdict(&[10; 99], 1).is_good());
    }

    #[test]
    fn silence_proves_nothing() {
        assert!(!verdict(&[], 0).is_good());
        assert!(verdict(&[], 0).lines().join("\n").contains("Too little"));
    }
}
