//! One line of charon's log: `08[CHD] <conn|1> adding inbound ESP SA`.

/// Who of charon's parts says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Child SAs and their keys.
    Chd,
    /// Messages, taken apart and put together.
    Enc,
    /// Proposals.
    Cfg,
    /// Another one.
    Other,
}

/// A line, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which of charon's threads. What one says is in order; lines of others come between.
    pub thread: u16,
    /// The part.
    pub group: Group,
    /// What it says. May be a key.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// `None` for what isn't a line of charon's.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = core::str::from_utf8(line).ok()?;
        let (thread, rest) = line.split_once('[')?;
        let (group, text) = rest.split_once("] ")?;
        if thread.is_empty() || !thread.bytes().all(|it| it.is_ascii_digit()) {
            return None;
        }
        let group = match group {
            "CHD" => Group::Chd,
            "ENC" => Group::Enc,
            "CFG" => Group::Cfg,
            it if it.len() == 3 && it.bytes().all(|it| it.is_ascii_uppercase()) => Group::Other,
            _ => return None,
        };
        // With `ike_name` the IKE SA's name comes first.
        let named = text
            .strip_prefix('<')
            .and_then(|it| it.split_once("> "))
            .filter(|(name, _)| !name.contains(' '));
        Some(Self {
            thread: thread.parse().ok()?,
            group,
            text: named.map_or(text, |(_, text)| text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(u16, Group, &str)> {
        Line::parse(line.as_bytes()).map(|it| (it.thread, it.group, it.text))
    }

    #[test]
    fn a_line_has_a_thread_a_group_and_text_with_and_without_a_name() {
        let text = "adding inbound ESP SA";
        assert_eq!(
            parse("08[CHD] adding inbound ESP SA"),
            Some((8, Group::Chd, text))
        );
        assert_eq!(
            parse("08[CHD] <c|1> adding inbound ESP SA"),
            Some((8, Group::Chd, text))
        );
        assert_eq!(parse("112[KNL]   lo"), Some((112, Group::Other, "  lo")));
    }

    #[test]
    fn what_is_no_line_of_charons_is_none() {
        for text in [
            "",
            "08",
            "08[",
            "08[CHD]",
            "x8[CHD] a",
            "[CHD] a",
            "08[chd] a",
            "08[LONG] a",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999[CHD] a"), None);
        assert!(Line::parse(b"08[CHD] \xff").is_none());
    }
}
