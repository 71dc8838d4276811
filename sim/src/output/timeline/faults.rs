//! From when to when something was broken, read off the steps as they were told.

use super::model::{FaultSpan, StepSpan};

/// Faults that are over when they have happened: nothing heals them.
const MOMENTARY: [&str; 2] = ["clock-jump", "corrupted-checkpoint"];
/// Words that tell what of a node is broken.
const PROGRAMS: [&str; 2] = ["agent", "dataplane"];

/// The faults of a run's steps.
///
/// What breaks and what is whole again is the same thing if it has the same first word and
/// names the same nodes and programs: `loss 30 %` and `loss`, `partition a b` and
/// `partition b a`.
pub(super) fn spans(steps: &[StepSpan], nodes: &[String]) -> Vec<FaultSpan> {
    let mut spans: Vec<(Key, FaultSpan)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let key = Key::of(&step.about, nodes);
        let ends = |of: &Key| match step.verb {
            "heal" if step.about == "all" => !of.program,
            "heal" | "fault" => !of.program && of.same(&key),
            "restart" | "kill" => of.program && of.same(&key),
            _ => false,
        };
        let open = spans.iter_mut().filter(|(_, it)| it.to_ns.is_none());
        for (_, span) in open.filter(|(of, _)| ends(of)) {
            span.to_ns = Some(step.from_ns);
            span.healed = Some(index);
        }
        let program = step.verb == "kill";
        if program || step.verb == "fault" {
            let about = if program {
                format!("{} is dead", step.about)
            } else {
                step.about.clone()
            };
            let is_node = |it: &&String| nodes.contains(it);
            let span = FaultSpan {
                about,
                nodes: key.named.iter().filter(is_node).cloned().collect(),
                from_ns: step.from_ns,
                to_ns: MOMENTARY.contains(&key.word.as_str()).then_some(step.to_ns),
                step: index,
                healed: None,
            };
            spans.push((Key { program, ..key }, span));
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

/// What tells one fault from another.
struct Key {
    word: String,
    /// Nodes and programs.
    named: Vec<String>,
    /// A dead program, which no `heal` brings back.
    program: bool,
}

impl Key {
    fn of(about: &str, nodes: &[String]) -> Self {
        let mut words = about.split_whitespace();
        let word = words.next().unwrap_or_default().to_owned();
        let mut named: Vec<_> = words
            .filter(|it| PROGRAMS.contains(it) || nodes.iter().any(|node| node == it))
            .map(ToOwned::to_owned)
            .collect();
        named.sort_unstable();
        Self {
            word,
            named,
            program: false,
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.word == other.word && self.named == other.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(of: &[(&'static str, &str)]) -> Vec<StepSpan> {
        let step = |(at, (verb, about)): (u64, &(&'static str, &str))| StepSpan {
            verb,
            about: (*about).to_owned(),
            line: 1,
            ok: true,
            probes: 0,
            work: Vec::new(),
            from_ns: at,
            to_ns: at,
        };
        (0..).zip(of).map(step).collect()
    }

    fn told(of: &[(&'static str, &str)]) -> Vec<(String, Option<u64>)> {
        let nodes = ["node-a".to_owned(), "node-b".to_owned()];
        let spans = spans(&steps(of), &nodes);
        spans.into_iter().map(|it| (it.about, it.to_ns)).collect()
    }

    #[test]
    fn a_fault_lasts_until_what_heals_it() {
        let spans = told(&[
            ("fault", "loss 30 %"),
            ("fault", "partition node-a node-b"),
            ("fault", "stale-watch node-a"),
            ("heal", "partition node-b node-a"),
            ("heal", "stale-watch node-b"),
            ("heal", "loss"),
        ]);
        let ends: Vec<_> = spans.iter().map(|it| it.1).collect();
        assert_eq!(ends, [Some(5), Some(3), None]);
    }

    #[test]
    fn programs_are_told_apart_and_a_moment_is_no_span() {
        let spans = told(&[
            ("fault", "stalled agent node-a"),
            ("fault", "stalled dataplane node-a"),
            ("fault", "clock-jump node-a 1s back"),
            ("heal", "stalled agent node-a"),
        ]);
        let ends: Vec<_> = spans.iter().map(|it| it.1).collect();
        assert_eq!(ends, [Some(3), None, Some(2)]);
    }

    #[test]
    fn a_second_fault_of_a_kind_takes_the_place_of_the_first() {
        let spans = told(&[
            ("fault", "loss 30 %"),
            ("fault", "loss 5 %"),
            ("heal", "all"),
        ]);
        let expected = [("loss 30 %", Some(1)), ("loss 5 %", Some(2))];
        let expected = expected.map(|(about, end)| (about.to_owned(), end));
        assert_eq!(spans, expected);
    }

    #[test]
    fn only_a_restart_brings_the_dead_back() {
        let spans = told(&[
            ("kill", "dataplane node-b"),
            ("fault", "delay 5ms"),
            ("heal", "all"),
            ("restart", "dataplane node-b"),
        ]);
        let ends: Vec<_> = spans.iter().map(|it| it.1).collect();
        assert_eq!(ends, [Some(3), Some(2)]);
    }
}
