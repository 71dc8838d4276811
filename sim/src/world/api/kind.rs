//! One kind of objects at the server.

use std::collections::VecDeque;
use std::sync::Arc;

use sluice_host_agent::watch::{Event, Page, Token, Version};
use sluice_offload_api::SharedMap;

/// A list comes in so many pages at least, if it has so many objects: a server may give less than it is
/// asked for.
const PAGES_MIN: usize = 3;
/// What clients ask for at most, as Kubernetes' own do.
const PAGE_MAX: usize = 500;
/// Events that are kept; etcd has those of five minutes.
const EVENTS_MAX: usize = 1024;

/// 410: no more to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gone;

/// An object as it is since a version; `None` once it is deleted.
type Logged<K, V> = (u64, K, Option<Arc<V>>);

/// The objects as they are, and how they came to be so.
#[derive(Clone, Debug)]
pub(super) struct Kind<K, V> {
    now: SharedMap<K, V>,
    /// Of which version they are.
    at: u64,
    log: VecDeque<Logged<K, V>>,
    /// All that happened after this version is in the log.
    whole_after: u64,
}

impl<K, V> Default for Kind<K, V> {
    fn default() -> Self {
        Self {
            now: SharedMap::default(),
            at: 0,
            log: VecDeque::new(),
            whole_after: 0,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Kind<K, V> {
    /// The objects are these from now on; each that is another counts the version up.
    pub(super) fn set(&mut self, objects: &SharedMap<K, V>, version: &mut u64) {
        if self.now.is_same(objects) {
            return;
        }
        let changes = self.now.changes(objects);
        for change in changes {
            *version += 1;
            let object = objects.shared(change.key).cloned();
            self.log.push_back((*version, change.key.clone(), object));
        }
        while self.log.len() > EVENTS_MAX {
            if let Some((version, ..)) = self.log.pop_front() {
                self.whole_after = version;
            }
        }
        self.now = objects.clone();
    }

    /// Nothing else has happened up to a version.
    pub(super) const fn reach(&mut self, version: u64) {
        self.at = version;
    }

    /// What happened so far is no more to be had.
    pub(super) fn forget_events(&mut self) {
        self.log.clear();
        self.whole_after = self.at;
    }

    /// A page of the list: the first, or the one that a token says.
    pub(super) fn list(&self, token: Option<&Token>) -> Result<Page<K, V>, Gone> {
        let version = self.at;
        let first = match token {
            None => 0,
            Some(Token(token)) => {
                let (of, first) = token.split_once('/').ok_or(Gone)?;
                if of.parse() != Ok(version) {
                    return Err(Gone);
                }
                first.parse().map_err(|_| Gone)?
            }
        };
        let size = self.now.len().div_ceil(PAGES_MIN).clamp(1, PAGE_MAX);
        let items = self.now.iter_shared().skip(first).take(size);
        let items: Vec<_> = items
            .map(|(key, value)| (key.clone(), Arc::clone(value)))
            .collect();
        let end = first + items.len();
        Ok(Page {
            items,
            version: Version(version.to_string()),
            more: (end < self.now.len()).then(|| Token(format!("{version}/{end}"))),
        })
    }

    /// What happened after a version.
    pub(super) fn watch(&self, from: &Version) -> Result<Vec<Event<K, V>>, Gone> {
        let from: u64 = from.0.parse().map_err(|_| Gone)?;
        if from < self.whole_after {
            return Err(Gone);
        }
        let begin = self.log.partition_point(|it| it.0 <= from);
        let events = self.log.range(begin..).map(|(version, key, object)| {
            let version = Version(version.to_string());
            match object {
                Some(object) => Event::Put(version, key.clone(), Arc::clone(object)),
                None => Event::Deleted(version, key.clone()),
            }
        });
        let mut events: Vec<_> = events.collect();
        if from < self.at {
            events.push(Event::Bookmark(Version(self.at.to_string())));
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(all: &[(u32, &str)]) -> SharedMap<u32, String> {
        let all = all.iter();
        all.map(|it| (it.0, it.1.to_owned())).collect()
    }

    fn told(events: Vec<Event<u32, String>>) -> Vec<String> {
        let events = events.into_iter();
        let tell = |it| match it {
            Event::Put(at, key, value) => format!("{} {key} {value}", at.0),
            Event::Deleted(at, key) => format!("{} {key} gone", at.0),
            Event::Bookmark(at) => format!("{} mark", at.0),
        };
        events.map(tell).collect()
    }

    #[test]
    fn a_watch_tells_what_happened_after_its_version_and_a_list_what_is() {
        let (mut kind, mut version) = (Kind::default(), 6);
        kind.set(&objects(&[(1, "a"), (2, "b")]), &mut version);
        kind.set(&objects(&[(1, "c"), (3, "d")]), &mut version);
        assert_eq!(version, 11);
        kind.reach(12);
        let after = |from: u64| kind.watch(&Version(from.to_string())).map(told);
        assert_eq!(after(10).unwrap(), ["11 3 d", "12 mark"]);
        assert_eq!(
            after(8).unwrap(),
            ["9 1 c", "10 2 gone", "11 3 d", "12 mark"]
        );
        assert_eq!(after(12).unwrap(), [""; 0]);
        let page = kind.list(None).unwrap();
        assert_eq!((page.items.len(), page.version.0), (1, "12".to_owned()));
        let rest = kind.list(page.more.as_ref()).unwrap();
        assert_eq!(rest.items[0].0, 3);
        assert_eq!(rest.more, None);
        kind.reach(13);
        assert_eq!(kind.list(page.more.as_ref()).unwrap_err(), Gone);
    }

    #[test]
    fn events_that_are_no_more_kept_are_gone() {
        let (mut kind, mut version) = (Kind::default(), 0);
        for at in 0..EVENTS_MAX + 2 {
            kind.set(&objects(&[(1, &at.to_string())]), &mut version);
        }
        kind.reach(version);
        let after = |from: u64| kind.watch(&Version(from.to_string()));
        assert_eq!(after(1).unwrap_err(), Gone);
        // And the bookmark.
        assert_eq!(after(2).unwrap().len(), EVENTS_MAX + 1);
        assert_eq!(after(version).unwrap().len(), 0);
        kind.forget_events();
        let after = |from: u64| kind.watch(&Version(from.to_string()));
        assert_eq!(after(version - 1).unwrap_err(), Gone);
        assert_eq!(after(version).unwrap().len(), 0);
    }
}
