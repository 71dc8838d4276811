//! Tables: columns by their widest cell, the last one wrapped to what is left.

use super::WIDTH;
use super::paint::{Ink, Paint};

/// Between columns.
const GAP: usize = 2;
/// Before each line.
const INDENT: usize = 2;
/// Of the last column, however wide the others are.
const LAST_WIDTH_MIN: usize = 20;

/// A cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    ink: Ink,
}

impl Cell {
    pub(super) fn new(ink: Ink, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ink,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Ink::Plain, text)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table's lines.
    pub(super) fn render(&self, paint: Paint) -> String {
        let widths = self.widths();
        let head = self
            .head
            .iter()
            .map(|text| Cell::new(Ink::Faint, *text))
            .collect();
        let mut out = String::new();
        for cells in core::iter::once(&head).chain(&self.rows) {
            line(&mut out, paint, &widths, cells);
        }
        out
    }

    /// The columns' widths; the last gets what is left.
    fn widths(&self) -> Vec<usize> {
        let column = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let head = self.head.get(at).map_or(0, |text| text.chars().count());
            cells
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0)
                .max(head)
        };
        let mut widths: Vec<_> = (0..self.head.len()).map(column).collect();
        if let Some((last, others)) = widths.split_last_mut() {
            let taken = INDENT + others.iter().map(|width| width + GAP).sum::<usize>();
            *last = (*last).min(WIDTH.saturating_sub(taken).max(LAST_WIDTH_MIN));
        }
        widths
    }
}

fn line(out: &mut String, paint: Paint, widths: &[usize], cells: &[Cell]) {
    let Some((last_width, widths)) = widths.split_last() else {
        return;
    };
    let Some((last, others)) = cells.split_last() else {
        return;
    };
    let mut text = " ".repeat(INDENT);
    for (cell, width) in others.iter().zip(widths) {
        let pad = (width + GAP).saturating_sub(cell.text.chars().count());
        text.push_str(&paint.ink(cell.ink, &cell.text));
        text.push_str(&" ".repeat(pad));
    }
    let indent = INDENT + widths.iter().map(|width| width + GAP).sum::<usize>();
    for (number, part) in wrap(&last.text, *last_width).iter().enumerate() {
        let start = if number == 0 {
            core::mem::take(&mut text)
        } else {
            " ".repeat(indent)
        };
        let line = format!("{start}{}", paint.ink(last.ink, part));
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Breaks a text at spaces, or where it must, into parts of at most `width` characters.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while let Some(part) = parts.last_mut() {
            let used = part.chars().count();
            let space = usize::from(used > 0);
            if used + space + word.len() <= width {
                if space == 1 {
                    part.push(' ');
                }
                part.extend(word);
                break;
            }
            if used == 0 {
                part.extend(word.drain(..width.max(1).min(word.len())));
            }
            parts.push(String::new());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "bb"]);
        table.row(vec!["xxx".into(), Cell::new(Ink::Good, "y")]);
        assert_eq!(table.render(Paint::set(false)), "  a    bb\n  xxx  y\n");
    }

    #[test]
    fn the_last_column_wraps_and_no_line_is_wider_than_the_screen() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec!["x".repeat(40).into(), "word ".repeat(40).into()]);
        table.row(vec!["y".into(), "z".repeat(300).into()]);
        let text = table.render(Paint::set(false));
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert_eq!(text.matches("word").count(), 40);
        assert_eq!(text.matches('z').count(), 300);
    }

    #[test]
    fn wrapping_keeps_every_word() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("ü é", 1), ["ü", "é"]);
    }
}
