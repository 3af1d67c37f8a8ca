//! The terminal: how wide it is, whether colours are wanted, and drawing again in place.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// Columns when standard output is no terminal, and the least that is laid out for.
const USUAL_WIDTH: u16 = 80;

/// How lines should look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Columns; no line is longer.
    pub width: u16,
    /// Whether colours may be used.
    pub colour: Colour,
}

/// Whether colours may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI colours.
    Ansi,
}

impl Look {
    /// Plain text of 80 columns.
    pub const PLAIN: Look = Look { width: USUAL_WIDTH, colour: Colour::Never };

    /// What fits standard output. Colours only on a terminal, and not with `NO_COLOR` set
    /// (<https://no-color.org>).
    #[must_use]
    pub fn of_stdout() -> Look {
        if !is_terminal() {
            return Look::PLAIN;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = if set("NO_COLOR") || dumb { Colour::Never } else { Colour::Ansi };
        Look { width: size().0, colour }
    }
}

/// Whether standard output is a terminal.
#[must_use]
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn size() -> (u16, u16) {
    match terminal_size::terminal_size() {
        Some((terminal_size::Width(width), terminal_size::Height(height))) if width > 0 => {
            (width, height)
        }
        _ => (USUAL_WIDTH, 24),
    }
}

/// Lines that replace those drawn before.
#[derive(Debug, Default)]
pub struct Screen {
    drawn: usize,
}

impl Screen {
    /// Draws on standard output over what was drawn last; what does not fit is left out.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let text = self.frame(lines, usize::from(size().1));
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Up to the first line drawn, each line anew with its rest erased, then everything below
    /// erased. One write, so that nothing flickers.
    fn frame(&mut self, lines: &[String], height: usize) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            write!(text, "\x1b[{}A", self.drawn).expect("a string takes everything");
        }
        // The cursor rests below the last line, which therefore must not be the terminal's.
        let shown = &lines[..lines.len().min(height.saturating_sub(1))];
        for line in shown {
            writeln!(text, "\r{line}\x1b[K").expect("a string takes everything");
        }
        text.push_str("\x1b[J");
        self.drawn = shown.len();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_frame_replaces_the_first() {
        let mut screen = Screen::default();
        let lines = |n: usize| vec!["x".to_owned(); n];
        assert_eq!(screen.frame(&lines(2), 24), "\rx\x1b[K\n\rx\x1b[K\n\x1b[J");
        assert_eq!(screen.frame(&lines(1), 24), "\x1b[2A\rx\x1b[K\n\x1b[J");
    }

    #[test]
    fn more_lines_than_the_terminal_has_never_scroll_it() {
        let mut screen = Screen::default();
        let frame = screen.frame(&vec![String::new(); 100], 10);
        assert_eq!(frame.matches('\n').count(), 9);
        assert!(screen.frame(&[], 10).starts_with("\x1b[9A"));
    }
}
