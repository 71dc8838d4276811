//! One file's documents.

/// A document and where its text starts in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// How many lines of the file are above its first.
    pub(super) lines_above: u32,
    /// How many columns of the file are before its first: a marker may have text after it.
    pub(super) columns_before: u32,
}

/// Splits a YAML file at its markers. A line that starts with `---` is one wherever it
/// stands, in a quoted or block scalar too (YAML 1.2.2, c-forbidden), and no JSON has one.
///
/// Documents with nothing but comments and directives are left out.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut at, mut line) = (0, 0, 0);
    let (mut lines_above, mut columns_before) = (0, 0);
    for whole in text.split_inclusive('\n') {
        let next = at + whole.len();
        let content = whole.trim_end();
        let marker = |mark: &str| {
            content
                .strip_prefix(mark)
                .is_some_and(|it| it.is_empty() || it.starts_with([' ', '\t']))
        };
        if marker("---") {
            documents.push((start..at, lines_above, columns_before));
            (start, lines_above, columns_before) = (at + 3, line, 3);
        } else if marker("...") {
            documents.push((start..at, lines_above, columns_before));
            (start, lines_above, columns_before) = (next, line + 1, 0);
        }
        (at, line) = (next, line + 1);
    }
    documents.push((start..text.len(), lines_above, columns_before));
    let document = |(range, lines_above, columns_before)| Document {
        text: text
            .get::<core::ops::Range<usize>>(range)
            .unwrap_or_default(),
        lines_above,
        columns_before,
    };
    documents
        .into_iter()
        .map(document)
        .filter(|it| !is_empty(it.text))
        .collect()
}

fn is_empty(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().all(|line| {
        let content = line.trim();
        content.is_empty() || content.starts_with('#') || line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<(&str, u32)> {
        documents(text)
            .into_iter()
            .map(|it| (it.text, it.lines_above))
            .collect()
    }

    #[test]
    fn a_file_without_markers_is_one_document() {
        assert_eq!(list("a: 1\nb: 2\n"), [("a: 1\nb: 2\n", 0)]);
    }

    #[test]
    fn documents_know_how_many_lines_are_above_them() {
        let text = "# top\n---\na: 1\n--- # next\n\nb: 2\n...\n---\n# none\n---\nc: 3";
        let expected = [("\na: 1\n", 1), (" # next\n\nb: 2\n", 3), ("\nc: 3", 9)];
        assert_eq!(list(text), expected);
    }

    #[test]
    fn what_only_starts_like_a_marker_is_none() {
        let text = "a: |\n  ---\nb: x---\n----: y\n";
        assert_eq!(list(text), [(text, 0)]);
    }

    #[test]
    fn empty_files_have_no_documents() {
        for text in [
            "",
            "\n\n",
            "---\n---\n",
            "# a\n---\n# b\n",
            "%YAML 1.2\n---\n...\n",
        ] {
            assert_eq!(list(text), [], "{text:?}");
        }
    }

    #[test]
    fn markers_may_end_in_carriage_returns() {
        let expected = [("a: 1\r\n", 0), ("\r\nb: 2\r\n", 1)];
        assert_eq!(list("a: 1\r\n---\r\nb: 2\r\n"), expected);
    }
}
