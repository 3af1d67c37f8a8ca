//! Columns that fit the terminal: what is too long is cut with an ellipsis, never wrapped, so
//! that a line is one thing. Widths are those of the characters on a terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};

use super::screen::{Colour, Look};
use super::text::plain;

/// How a column stands.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// What a cell means, shown by colour where there is any.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// Not yet, or not quite.
    Weak,
    /// Something is wrong.
    Bad,
}

impl Tone {
    /// The text in this tone's colour, for lines that are no table (ECMA-48, SGR).
    pub(super) fn paint(self, text: &str) -> String {
        let code = match self {
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Weak => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A cell with a tone.
pub(super) fn cell(text: impl AsRef<str>, tone: Tone) -> Cell {
    let cell = Cell::new(plain(text.as_ref()));
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Weak => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
    }
}

/// A cell without one.
pub(super) fn word(text: impl AsRef<str>) -> Cell {
    cell(text, Tone::Plain)
}

/// Lines of a table: a header and rows.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<Cell>>, look: Look) -> Vec<String> {
    let mut table = empty(look);
    table.set_header(columns.iter().map(|column| {
        let (Column::Left(name) | Column::Right(name)) = column;
        Cell::new(name).add_attribute(Attribute::Bold)
    }));
    for row in rows {
        let mut row = Row::from(row);
        row.max_height(1);
        table.add_row(row);
    }
    for (column, kind) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 1));
        if let Column::Right(_) = kind {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// One line that fits.
pub(super) fn clip(text: &str, look: Look) -> String {
    let mut table = empty(Look { colour: Colour::Never, ..look });
    let mut row = Row::from(vec![Cell::new(plain(text))]);
    row.max_height(1);
    table.add_row(row);
    for column in table.column_iter_mut() {
        column.set_padding((0, 0));
    }
    table.lines().next().map(|line| line.trim_end().to_owned()).unwrap_or_default()
}

fn empty(look: Look) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_truncation_indicator("…")
        .set_width(look.width)
        .force_no_tty();
    if look.colour == Colour::Ansi {
        table.enforce_styling();
    }
    table
}
