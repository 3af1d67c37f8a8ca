//! `groovebox seek`: to a place in the track, or by so much.

use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::session::Session;
use crate::base::limits::MAX_SEEK;

#[derive(Args, Debug)]
pub(super) struct SeekArgs {
    /// 90, 1:30 or 1:02:03 from the beginning; +10 or -10 from here
    #[arg(allow_hyphen_values = true, value_name = "TIME|+TIME|-TIME")]
    pub(super) to: Where,
}

/// A place in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    /// From the beginning.
    At(i64),
    /// From here.
    By(i64),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Where, String> {
        let wrong = || "write 90, 1:30 or 1:02:03, or +10 and -10 to go from here".to_owned();
        let place = if let Some(later) = text.strip_prefix('+') {
            milliseconds(later).map(Where::By)
        } else if let Some(earlier) = text.strip_prefix('-') {
            milliseconds(earlier).map(|ms| Where::By(-ms))
        } else {
            milliseconds(text).map(Where::At)
        };
        place.ok_or_else(wrong)
    }
}

/// `[[hours:]minutes:]seconds[.fraction]`; minutes and seconds after a colon stay below 60.
fn milliseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let mut seconds: i64 = 0;
    for (place, part) in whole.split(':').enumerate() {
        let value: i64 = Some(part).filter(|part| digits(part))?.parse().ok()?;
        if place > 2 || (place > 0 && value >= 60) {
            return None;
        }
        seconds = seconds * 60 + value;
    }
    let fraction = Some(fraction).filter(|fraction| digits(fraction))?;
    let thousandths: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(seconds * 1000 + thousandths).filter(|ms| *ms <= MAX_SEEK.as_millis())
}

pub(super) async fn run(args: &SeekArgs, session: &mut Session) -> Result<(), Failure> {
    let body = match args.to {
        Where::At(position) => json!({ "position_ms": position }),
        Where::By(offset) => json!({ "offset_ms": offset }),
    };
    session.post("/seek", body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_people_write_them() {
        let cases = [
            ("0", Where::At(0)),
            ("90", Where::At(90_000)),
            ("1:30", Where::At(90_000)),
            ("1:02:03.5", Where::At(3_723_500)),
            ("+10", Where::By(10_000)),
            ("-1:30", Where::By(-90_000)),
            ("-0.25", Where::By(-250)),
        ];
        for (text, place) in cases {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        let cases = [
            "", "-", "+", "1:", ":1", "1:60", "1:2:3:4", "--1", "1e3", "٣", "25:00:00", "1.",
            "9999999",
        ];
        for text in cases {
            assert!(text.parse::<Where>().is_err(), "{text}");
        }
    }
}
