//! A replay, for people.

use super::paint::{Ink, Paint};
use super::table::{Cell, Table};
use crate::replaying::{ReplayRecord, Replayed};

/// What differs and what can't be judged, and how many don't and can.
#[must_use]
pub fn show_replay(record: &ReplayRecord, paint: Paint) -> String {
    let generation = record
        .generation
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    let policies = if record.other_policies {
        ", under other policies"
    } else {
        ""
    };
    let title = format!("node {}, generation {generation}{policies}", record.node);
    let mut out = format!("{}\n", paint.ink(Ink::Strong, &title));
    let mut table = Table::new(&["", "from", "to", "what", "recorded, and now"]);
    for it in record.results.iter().filter(|it| it.same != Some(true)) {
        let (word, ink) = match it.same {
            Some(_) => ("differs", Ink::Bad),
            None => ("not judged", Ink::Faint),
        };
        let mut told = format!("{}; now {}", it.recorded, it.now);
        if let Some(note) = &it.note {
            told = format!("{told}: {note}");
        }
        table.row(vec![
            Cell::new(ink, word),
            it.from.as_str().into(),
            it.to.as_str().into(),
            asked(it).into(),
            told.into(),
        ]);
    }
    if record.differences + record.unjudged > 0 {
        out.push_str(&table.render(paint));
    }
    let same = record.results.len() - record.differences - record.unjudged;
    let (differ, unjudged) = (record.differences, record.unjudged);
    let ink = if differ == 0 { Ink::Good } else { Ink::Bad };
    let tally = format!("{same} as recorded, {differ} differ, {unjudged} not judged");
    out.push_str(&format!("{}\n", paint.ink(ink, &tally)));
    for (why, count) in &record.left_out {
        let text = format!("left out: {count} {why}");
        out.push_str(&format!("{}\n", paint.ink(Ink::Faint, &text)));
    }
    out
}

fn asked(it: &Replayed) -> String {
    let protocol = format!("{:?}", it.protocol).to_uppercase();
    let port = it.port.map_or_else(String::new, |port| format!(" {port}"));
    format!("{protocol}{port}")
}
