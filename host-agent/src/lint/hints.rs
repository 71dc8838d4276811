//! What a misspelt word may have been.

/// The word that is nearest to `word`, if one is near enough to be a slip: a third of its
/// characters, at least one, put in, left out, changed, or two of them turned round.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    let known = known.into_iter().filter(|it| *it != word);
    let near = known
        .map(|it| (distance(word, it), it))
        .filter(|it| it.0 <= most);
    near.min().map(|it| it.1)
}

/// Edits between two words: optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(from != to);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|it| it.last()).copied().unwrap_or(0)
}

/// `; is it ... that is meant?`, if there is a word to offer.
pub(super) fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |it| format!("; did you mean `{it}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let known = ["app", "tier", "kubernetes.io/name", "frontend"];
        for (word, expected) in [
            ("ap", Some("app")),
            ("apq", Some("app")),
            ("teir", Some("tier")),
            ("front-end", Some("frontend")),
            ("backend", None),
            ("kubernets.io/nmae", Some("kubernetes.io/name")),
            ("x", None),
            // The word itself is no slip.
            ("app", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn two_letters_turned_round_are_one_slip() {
        assert_eq!(distance("web", "wbe"), 1);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
