//! One picture of the room, as large as the terminal is.
//!
//! ```text
//!  narrow                     wide (from 120 columns)
//!  room and track             room and track
//!  devices                    devices      │ votes
//!  queue │ votes              queue        │ chat
//!        │ chat
//!  keys                       keys
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::Top;
use crate::cli::chat::spoken;
use crate::cli::live::{coordinator, coordinator_name, starred, state};
use crate::cli::queue::repeat_line;
use crate::cli::screen::Colour;
use crate::cli::status::volume;
use crate::cli::table::Tone;
use crate::cli::text::{clock, lasting, plain, short_time, with_error};
use crate::cli::vote::standing;
use crate::engine::status::{MemberStatus, PlaybackState, QueueStatus, VoteStatus};

/// From here on there are two columns of everything.
const WIDE: u16 = 120;

/// Rows of an answer at most.
const MAX_TOLD: u16 = 3;

/// Columns of a device's line before its plot.
const BEFORE_PLOT: usize = 44;

/// A plot's full height at least, µs: half of what the ear begins to notice between two
/// loudspeakers of a room. Smaller errors are not drawn as if they were large.
const PLOT_US: f64 = 1_000.0;

const KEYS: &str = "space pause/resume · n next · + - volume · v yes · x no · q quit";

/// The eighths of a cell.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is drawn with, colours or not.
#[derive(Clone, Copy)]
struct Brush(Colour);

impl Brush {
    fn tone(self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Plain => return Style::default(),
            Tone::Good => Color::Green,
            Tone::Weak => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        match self.0 {
            Colour::Ansi => Style::default().fg(colour),
            Colour::Never => Style::default(),
        }
    }
}

fn bold() -> Style {
    Style::default().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::default().add_modifier(Modifier::DIM)
}

pub(super) fn draw(frame: &mut Frame<'_>, top: &Top, colour: Colour) {
    let brush = Brush(colour);
    let told = plain(&top.told);
    // Broken between words a text may take a row more than its length says.
    let rows = told.chars().count().div_ceil(usize::from(frame.area().width).max(1));
    let talk = as_rows(if rows > 1 { rows + 1 } else { 1 }).min(MAX_TOLD);
    let told = Paragraph::new(told).style(brush.tone(Tone::Weak)).wrap(Wrap { trim: true });
    let rows = [
        Constraint::Length(3),
        Constraint::Min(0),
        Constraint::Length(talk),
        Constraint::Length(1),
    ];
    let [head, body, above, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(header(top, head.width)), head);
    let members = as_height(top.status.members.len());
    let votes = as_height(vote_lines(&top.status.votes).len());
    let Places { devices, queue, votes, chat } = places(body, members, votes);
    boxed(frame, devices, &devices_title(top, devices), device_lines(top, devices, brush));
    boxed(frame, queue, &queue_title(top), queue_lines(&top.status.queue, queue));
    let lines = vote_lines(&top.status.votes).into_iter().map(Line::from).collect();
    boxed(frame, votes, " votes ", lines);
    boxed(frame, chat, " chat ", chat_lines(top, chat));
    frame.render_widget(told, above);
    frame.render_widget(Line::styled(KEYS, dim()), foot);
}

fn as_rows(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// With the box around them.
fn as_height(lines: usize) -> u16 {
    as_rows(lines).saturating_add(2)
}

struct Places {
    devices: Rect,
    queue: Rect,
    votes: Rect,
    chat: Rect,
}

/// Devices and votes get what they need, as long as half is left for the rest.
fn places(body: Rect, members: u16, votes: u16) -> Places {
    let half = |area: Rect, wanted: u16| -> [Rect; 2] {
        let rows = [Constraint::Length(wanted.min(area.height / 2)), Constraint::Min(0)];
        Layout::vertical(rows).areas(area)
    };
    let columns = [Constraint::Percentage(55), Constraint::Percentage(45)];
    if body.width >= WIDE {
        let [left, right] = Layout::horizontal(columns).areas(body);
        let ([devices, queue], [votes, chat]) = (half(left, members), half(right, votes));
        return Places { devices, queue, votes, chat };
    }
    let [devices, lower] = half(body, members);
    let [queue, right] = Layout::horizontal(columns).areas(lower);
    let [votes, chat] = half(right, votes);
    Places { devices, queue, votes, chat }
}

fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    let block = Block::default().borders(Borders::ALL).title(title.to_owned());
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// Lines within a box.
fn inside(area: Rect) -> (usize, usize) {
    (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)))
}

fn header(top: &Top, width: u16) -> Vec<Line<'static>> {
    let status = &top.status;
    let mut parts = Vec::new();
    match &status.room {
        Some(room) => {
            parts.extend([room.name.clone(), room.code.clone()]);
            let here = status.people.iter().filter(|person| person.here).count();
            match here {
                0 => {}
                1 => parts.push("1 person".to_owned()),
                n => parts.push(format!("{n} people")),
            }
            parts.push(room.dj.as_ref().map_or("no DJ".to_owned(), |dj| format!("DJ {dj}")));
            let coordinator = coordinator_name(status);
            parts.push(
                coordinator.map_or_else(
                    || "no coordinator".to_owned(),
                    |name| format!("coordinator {name}"),
                ),
            );
        }
        None => parts.push(format!("{} is in no room", status.node.name)),
    }
    let playback = &status.playback;
    let word = match playback.state {
        PlaybackState::Stopped => "stopped",
        PlaybackState::Buffering => "buffering",
        PlaybackState::Playing => "playing",
        PlaybackState::Paused => "paused",
    };
    let track = playback.track.as_ref().map_or_else(String::new, |track| {
        let artists = track.artists.join(", ");
        let by = if artists.is_empty() { String::new() } else { format!(" · {artists}") };
        format!("{}{by}", track.title)
    });
    let times = format!("{} / {}", clock(playback.position_ms), clock(playback.duration_ms));
    let room = usize::from(width).saturating_sub(times.chars().count() + 2);
    let bar = crate::cli::status::bar(playback.position_ms, playback.duration_ms, room);
    vec![
        Line::styled(plain(&parts.join(" · ")), bold()),
        Line::from(plain(&format!("{word}  {track}"))),
        Line::from(format!("{bar}  {times}")),
    ]
}

/// What the plot of the widest error reaches, µs.
fn reach(top: &Top) -> f64 {
    let points = top.offsets.values().flatten().flatten();
    points.map(|us| us.abs()).filter(|us| us.is_finite()).fold(PLOT_US, f64::max)
}

fn devices_title(top: &Top, area: Rect) -> String {
    let seconds = inside(area).0.saturating_sub(BEFORE_PLOT);
    let (span, reach) = (lasting(i64::try_from(seconds).unwrap_or(0) * 1000), reach(top));
    format!(" devices · playout error of the last {span}, full height {} ", short_time(reach))
}

fn device_lines(top: &Top, area: Rect, brush: Brush) -> Vec<Line<'static>> {
    let (width, _) = inside(area);
    let (coordinator, reach) = (coordinator(&top.status), reach(top));
    let plot_width = width.saturating_sub(BEFORE_PLOT);
    let line = |member: &MemberStatus| {
        let (word, tone) = state(member);
        let points = top.offsets.get(&member.id);
        let plot = points.map_or_else(String::new, |points| spark(points, plot_width, reach));
        Line::from(vec![
            Span::raw(fitted(&starred(member, coordinator), 17)),
            Span::styled(fitted(word, 8), brush.tone(tone)),
            Span::raw(format!("{:>12} ", offset(member))),
            Span::raw(format!("{:>5} ", volume(member))),
            Span::styled(plot, brush.tone(tone)),
        ])
    };
    top.status.members.iter().map(line).collect()
}

fn offset(member: &MemberStatus) -> String {
    let known = member.sync.as_ref().filter(|_| member.online);
    known.map_or_else(|| "–".to_owned(), |sync| with_error(sync.offset_us, sync.error_us))
}

/// The latest points as bars of blocks, as high as an error is large in either direction.
fn spark<'a>(
    points: impl IntoIterator<Item = &'a Option<f64>, IntoIter: ExactSizeIterator>,
    width: usize,
    reach: f64,
) -> String {
    let points = points.into_iter();
    let skipped = points.len().saturating_sub(width);
    let step = |point: &Option<f64>| match point {
        Some(us) if us.is_finite() => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
            let step = (us.abs() / reach.max(1.0) * 7.0).round().clamp(0.0, 7.0) as usize;
            STEPS[step]
        }
        _ => ' ',
    };
    points.skip(skipped).map(step).collect()
}

fn queue_title(top: &Top) -> String {
    let repeat = repeat_line(top.status.playback.repeat);
    let repeat = repeat.map_or_else(String::new, |line| format!("· {line} "));
    format!(" queue: {} {repeat}", top.status.queue.len())
}

fn queue_lines(queue: &[QueueStatus], area: Rect) -> Vec<Line<'static>> {
    if queue.is_empty() {
        return vec![Line::styled("`groovebox queue add FILE` fills it", dim())];
    }
    let (width, height) = inside(area);
    let line = |entry: &QueueStatus| {
        let votes = match entry.up_votes {
            0 => String::new(),
            n => format!(" +{n}"),
        };
        let length = if entry.unavailable { "gone".to_owned() } else { clock(entry.duration_ms) };
        let behind = format!("{votes} {} {length:>5}", fitted(&entry.track.added_by, 8));
        let room = width.saturating_sub(behind.chars().count() + 4);
        Line::from(format!("{:>3} {}{behind}", entry.id, fitted(&entry.track.title, room)))
    };
    queue.iter().take(height).map(line).collect()
}

fn vote_lines(votes: &[VoteStatus]) -> Vec<String> {
    if votes.is_empty() {
        return vec!["none is open".to_owned()];
    }
    let lines = |vote: &VoteStatus| {
        let mine = match (&vote.my_vote, vote.may_vote) {
            (Some(choice), _) => format!(" · {choice}"),
            (None, true) if vote.kind == "election" => " · NAME?".to_owned(),
            (None, true) => " · v/x?".to_owned(),
            (None, false) => String::new(),
        };
        // A bar and its figures on a line of their own: both fit half of 80 columns.
        let standing = standing(vote);
        let (title, figures) = standing.split_once("  ").unwrap_or((&standing, ""));
        let left = lasting(vote.closes_in_ms);
        [plain(&format!("{title} · {left}")), plain(&format!("  {figures}{mine}"))]
    };
    votes.iter().flat_map(lines).collect()
}

/// The last lines, wrapped.
fn chat_lines(top: &Top, area: Rect) -> Vec<Line<'static>> {
    let (width, height) = inside(area);
    let mut lines: Vec<String> =
        top.chat.iter().flat_map(spoken).flat_map(|line| wrapped(&line, width)).collect();
    let skipped = lines.len().saturating_sub(height);
    lines.drain(..skipped);
    lines.into_iter().map(Line::from).collect()
}

/// A line cut into such as fit, between words where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let columns = |text: &str| Line::from(text.to_owned()).width();
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for c in text.chars() {
        line.push(c);
        if columns(&line) <= width.max(2) {
            continue;
        }
        let split = line.rfind(' ').filter(|at| *at > 0 && !line[..*at].trim().is_empty());
        let rest = match split {
            Some(at) => line.split_off(at).trim_start().to_owned(),
            None => line.pop().map(String::from).unwrap_or_default(),
        };
        lines.push(std::mem::replace(&mut line, rest));
    }
    lines.push(line);
    lines
}

/// In exactly so many columns.
fn fitted(text: &str, width: usize) -> String {
    let text = plain(text);
    let columns = |text: &str| Line::from(text.to_owned()).width();
    let mut cut = text.clone();
    if columns(&text) > width {
        while columns(&cut) >= width.max(1) && cut.pop().is_some() {}
        cut.push('…');
    }
    let missing = width.saturating_sub(columns(&cut));
    cut + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::api::sample;

    fn top() -> Top {
        let mut top = Top { status: sample::status(), ..Top::default() };
        top.status.people = sample::people();
        top.status.votes = sample::votes();
        top.status.room.as_mut().expect("one").dj = Some("anna".to_owned());
        top.status.queue[0].up_votes = 2;
        for line in sample::chat().lines {
            top.hear(line);
        }
        for n in 0..40_i32 {
            let sync = top.status.members[1].sync.as_mut().expect("known");
            sync.offset_us = f64::from(n - 20) * 40.0;
            top.sample();
        }
        top
    }

    fn drawn(top: &Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        terminal.draw(|frame| draw(frame, top, Colour::Ansi)).expect("in memory");
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect()
    }

    #[test]
    fn everything_has_its_place_in_a_small_and_in_a_large_terminal() {
        for (width, height) in [(80, 24), (160, 50)] {
            let lines = drawn(&top(), width, height);
            let text = lines.join("\n");
            for part in [
                "Kitchen party · GROOVE-7KQ4 · 2 people · DJ anna · coordinator kitchen",
                "playing  So What · Miles Davis",
                "1:23 / 9:22",
                "*kitchen",
                "full height 1.0ms",
                "Freddie Fredd",
                "+2",
                "mutiny against anna",
                "███░░ 3 of 5, 1 against",
                "anna: who wants jazz?",
                KEYS,
            ] {
                let part = part.replace("Freddie Fredd", "Freddie Fre");
                assert!(text.contains(&part), "{part} is missing at {width}:\n{text}");
            }
        }
    }

    #[test]
    fn no_terminal_is_too_small_to_be_drawn_on() {
        for (width, height) in [(1, 1), (2, 40), (20, 5), (200, 3)] {
            assert_eq!(drawn(&top(), width, height).len(), usize::from(height));
        }
        drawn(&Top::default(), 80, 24);
    }

    #[test]
    fn a_plot_is_as_high_as_the_error_and_as_wide_as_there_is_room() {
        let points = [Some(0.0), Some(-500.0), None, Some(1000.0), Some(f64::NAN)];
        assert_eq!(spark(&points, 9, 1000.0), "▁▅ █ ");
        assert_eq!(spark(&points, 2, 1000.0), "█ ");
    }

    #[test]
    fn texts_are_cut_and_wrapped_by_columns() {
        assert_eq!(fitted("kitchen", 9), "kitchen  ");
        assert_eq!(fitted("kitchen", 4), "kit…");
        assert_eq!(fitted("日本語", 5), "日本…");
        assert_eq!(fitted("a\x1bb", 3), "a\u{fffd}b");
        assert_eq!(wrapped("anna: who wants jazz?", 12), ["anna: who", "wants jazz?"]);
        assert_eq!(wrapped("aaaaaa", 4), ["aaaa", "aa"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
