//! Units as people say them.

/// Text from other devices without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most so many characters, the last an ellipsis where something was cut off.
pub(super) fn clip_to(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect()
}

/// A position or a length: `1:23`, `1:02:03`.
pub(super) fn clock(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// How long ago that was: `12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`.
pub(super) fn ago(ms: i64) -> String {
    format!("{} ago", lasting(ms))
}

/// How long that is: `12 s`, `5 min`, `3 h`, `2 d`.
pub(super) fn lasting(ms: i64) -> String {
    match ms.max(0) / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A short time given in microseconds: `18µs`, `1.2ms`, `340ms`, `1.5s`.
pub(super) fn short_time(us: f64) -> String {
    if !us.is_finite() {
        return "–".to_owned();
    }
    let (unit, scale, digits) = unit_of(us.abs());
    format!("{:.*}{unit}", digits, us / scale)
}

/// A signed time and its error in one unit: `+12±18µs`.
pub(super) fn with_error(us: f64, error_us: f64) -> String {
    if !us.is_finite() || !error_us.is_finite() {
        return "–".to_owned();
    }
    let (unit, scale, digits) = unit_of(us.abs().max(error_us.abs()));
    format!("{:+.*}±{:.*}{unit}", digits, us / scale, digits, error_us / scale)
}

fn unit_of(us: f64) -> (&'static str, f64, usize) {
    match us {
        us if us < 999.5 => ("µs", 1.0, 0),
        us if us < 9_950.0 => ("ms", 1e3, 1),
        us if us < 999_500.0 => ("ms", 1e3, 0),
        _ => ("s", 1e6, 1),
    }
}

/// A frequency in ppm, without its unit: `-12.3`.
pub(super) fn ppm(ppm: f64) -> String {
    match ppm {
        ppm if !ppm.is_finite() => "–".to_owned(),
        ppm if ppm.abs() < 99.95 => format!("{ppm:+.1}"),
        ppm => format!("{ppm:+.0}"),
    }
}

/// Bytes in decimal units: `61.2 MB`.
pub(super) fn bytes(count: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", count / unit, count % unit * 10 / unit);
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_is_told_in_one_unit() {
        let cases = [(-5, "0 s ago"), (59_999, "59 s ago"), (60_000, "1 min ago")];
        for (ms, text) in cases {
            assert_eq!(ago(ms), text);
        }
        assert_eq!(ago(7_200_000), "2 h ago");
        assert_eq!(ago(200_000_000), "2 d ago");
    }

    #[test]
    fn times_take_the_unit_that_fits() {
        let cases = [
            (0.0, "0µs"),
            (999.4, "999µs"),
            (999.6, "1.0ms"),
            (-340.0, "-340µs"),
            (9_960.0, "10ms"),
            (999_600.0, "1.0s"),
            (f64::NAN, "–"),
        ];
        for (us, text) in cases {
            assert_eq!(short_time(us), text);
        }
        assert_eq!(with_error(12.4, 18.0), "+12±18µs");
        assert_eq!(with_error(-1_240.0, 96.0), "-1.2±0.1ms");
    }

    #[test]
    fn positions_bytes_and_frequencies() {
        assert_eq!([clock(-5), clock(83_400), clock(3_723_000)], ["0:00", "1:23", "1:02:03"]);
        let counts = [0, 999, 1_000, 61_234_567, 2_500_000_000];
        assert_eq!(counts.map(bytes), ["0 B", "999 B", "1.0 kB", "61.2 MB", "2.5 GB"]);
        assert_eq!([ppm(-12.34), ppm(0.0), ppm(104.2)], ["-12.3", "+0.0", "+104"]);
    }

    #[test]
    fn what_is_cut_off_is_marked() {
        let cases = [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöü", 2, "ä…"), ("ab", 0, "")];
        for (text, width, clipped) in cases {
            assert_eq!(clip_to(text, width), clipped);
        }
    }

    #[test]
    fn a_title_cannot_command_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
