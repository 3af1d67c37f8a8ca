//! The estimator against recorded exchanges and what an independent implementation of the
//! same method makes of them (see the head of each file in `tests/vectors`).

use groovebox::base::{LocalTime, Span};
use groovebox::engine::clock::envelope::FrequencyPrior;
use groovebox::engine::clock::{Estimator, Exchange};

/// Two implementations sum in different orders; they may differ by less than this.
const OFFSET_TOLERANCE: Span = Span::from_nanos(100);

fn numbers<T: std::str::FromStr>(words: &[&str]) -> Vec<T> {
    words
        .iter()
        .map(|word| word.parse().unwrap_or_else(|_| panic!("not a number: {word}")))
        .collect()
}

fn exchange(words: &[&str]) -> Exchange {
    let [t1, reached, held, returned] = numbers::<i64>(words)[..] else { panic!("four stamps") };
    Exchange {
        t1: LocalTime(t1),
        t2: LocalTime(t1 + reached),
        t3: LocalTime(t1 + reached + held),
        t4: LocalTime(t1 + returned),
    }
}

fn near(name: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{name}: {ours} instead of {theirs}");
}

/// The error without the part for lasting noise, which the reference does not know.
fn reference_sigma(estimator: &Estimator, local: LocalTime) -> f64 {
    let age = (local - estimator.solved_at().expect("there is a fit")).as_secs_f64().max(0.0);
    let statistics = estimator.sigma_statistics().unwrap_or(0.0);
    let growth = estimator.holdover().growth(age);
    (statistics.powi(2) + estimator.sigma_skew().powi(2) + growth).sqrt()
}

fn check(estimator: &Estimator, words: &[&str], place: &str) {
    let [local, offset] = numbers::<i64>(&words[..2])[..] else { panic!("two whole numbers") };
    let [frequency, coasting] = numbers::<f64>(&[words[2], words[5]])[..] else { panic!("two") };
    let local = LocalTime(local);
    let ours = estimator.offset(local).expect("there is an estimate");
    assert!((ours - Span(offset)).abs() < OFFSET_TOLERANCE, "{place}: {ours:?}, not {offset}");
    near(place, estimator.frequency() * 1e6, frequency, 1e-3);
    let rtt = estimator.rtt_of_floors().expect("as above");
    for (ours, theirs) in [(rtt, words[3]), (reference_sigma(estimator, local), words[4])] {
        if theirs != "-" {
            near(place, ours * 1e6, numbers(&[theirs])[0], 0.1);
        }
    }
    assert_eq!(estimator.holdover().is_primed(), words[6] == "kf", "{place}");
    near(place, estimator.holdover().frequency() * 1e6, coasting, 1e-3);
}

fn replay(name: &str, text: &str) {
    let mut estimator = Estimator::new(FrequencyPrior::UNKNOWN);
    let mut checked = 0;
    for (line, content) in text.lines().enumerate() {
        let words: Vec<&str> = content.split_whitespace().collect();
        match words[..] {
            ["prior", centre, spread] => {
                let [centre, spread] = numbers::<f64>(&[centre, spread])[..] else { panic!("two") };
                let prior = FrequencyPrior { centre: centre * 1e-6, spread: spread * 1e-6 };
                estimator.reset(prior);
            }
            ["probe", ..] => {
                let _ = estimator.add(exchange(&words[1..]));
            }
            ["check", ..] => {
                check(&estimator, &words[1..], &format!("{name}:{}", line + 1));
                checked += 1;
            }
            _ => assert!(content.starts_with('#'), "{name}:{}", line + 1),
        }
    }
    assert!(checked >= 8, "{name}: only {checked} checks");
}

macro_rules! vectors {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let file = concat!("../vectors/clock_", stringify!($name), ".txt");
            replay(file, include_str!(concat!("../vectors/clock_", stringify!($name), ".txt")));
        }
    )*};
}

vectors!(wired, lognormal, bursty, skewed_queue, exponential_remembered, frequency_step);
