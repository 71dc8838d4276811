//! Tables for people: columns by their widest cell.

/// Between columns.
const GAP: usize = 2;

/// Rows under a head, each line with its newline; nothing more if there are no rows.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<_> = head.iter().map(|it| (*it).to_owned()).collect();
    let lines = || core::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = lines().filter_map(|it| it.get(column));
        cells.map(|it| it.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for cells in lines() {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let pad = width + GAP - cell.chars().count().min(*width);
            line.push_str(cell);
            line.push_str(&" ".repeat(pad));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["long".to_owned(), "ü".to_owned(), "x".to_owned()]];
        let text = table(&["a", "bb", "c"], &rows);
        assert_eq!(text, "a     bb  c\nlong  ü   x\n");
        assert_eq!(table(&["a"], &[]), "a\n");
    }
}
