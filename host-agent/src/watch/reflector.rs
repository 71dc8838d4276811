//! One kind of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_mutants::{Mutant, is};
use sluice_offload_api::SharedMap;

/// Objects of a kind, at most. Kubernetes itself is made for 150,000 pods.
pub const OBJECTS_MAX: usize = 1 << 20;

/// A `resourceVersion`: opaque, and only ever given back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version(pub String);

/// A `continue` of a list: opaque as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token(pub String);

/// What to ask the API next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// The first page of a list, of the newest.
    List,
    /// The next one.
    More(Token),
    /// All that happens after a version.
    Watch(Version),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<K, V> {
    /// Some of the objects.
    pub items: Vec<(K, Arc<V>)>,
    /// The version of the whole list.
    pub version: Version,
    /// Where it goes on; `None` at its end.
    pub more: Option<Token>,
}

/// One line of a watch.
#[derive(Clone, Debug)]
pub enum Event<K, V> {
    /// `ADDED` and `MODIFIED`: an object is this one.
    Put(Version, K, Arc<V>),
    /// `DELETED`.
    Deleted(Version, K),
    /// `BOOKMARK`: nothing, up to this version.
    Bookmark(Version),
}

#[derive(Clone, Debug)]
enum State<K, V> {
    /// A list is on its way: what came of it, of which version, and where it goes on.
    Listing {
        items: BTreeMap<K, Arc<V>>,
        next: Option<(Version, Token)>,
    },
    Watching {
        from: Version,
    },
}

/// What is known of one kind of objects.
#[derive(Clone, Debug)]
pub struct Reflector<K, V> {
    known: Option<SharedMap<K, V>>,
    state: State<K, V>,
}

impl<K, V> Default for Reflector<K, V> {
    fn default() -> Self {
        Self {
            known: None,
            state: State::anew(),
        }
    }
}

impl<K, V> State<K, V> {
    const fn anew() -> Self {
        Self::Listing {
            items: BTreeMap::new(),
            next: None,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Reflector<K, V> {
    /// What is known; `None` before the first list has come to its end.
    #[must_use]
    pub const fn known(&self) -> Option<&SharedMap<K, V>> {
        self.known.as_ref()
    }

    /// What to ask next.
    #[must_use]
    pub fn ask(&self) -> Ask {
        match &self.state {
            State::Listing { next: None, .. } => Ask::List,
            State::Listing {
                next: Some((_, token)),
                ..
            } => Ask::More(token.clone()),
            State::Watching { from } => Ask::Watch(from.clone()),
        }
    }

    /// A page has come of the list that was asked for. A list is of one moment and has each object
    /// once; another one is begun anew, as is one of more than [`OBJECTS_MAX`].
    pub fn on_page(&mut self, page: Page<K, V>) {
        let State::Listing { items, next } = &mut self.state else {
            return;
        };
        let is_another = next.take().is_some_and(|it| it.0 != page.version);
        let count = page.items.len();
        let before = items.len();
        if is_another || count > OBJECTS_MAX - before.min(OBJECTS_MAX) {
            self.state = State::anew();
            return;
        }
        items.extend(page.items);
        if items.len() != before + count {
            self.state = State::anew();
            return;
        }
        match page.more {
            Some(token) => *next = Some((page.version, token)),
            None => {
                let listed = core::mem::take(items);
                self.state = State::Watching { from: page.version };
                self.renew(listed);
            }
        }
    }

    /// Something has happened after the version that was watched from.
    pub fn on_event(&mut self, event: Event<K, V>) {
        let (State::Watching { from }, Some(known)) = (&mut self.state, &mut self.known) else {
            return;
        };
        match event {
            Event::Put(version, key, value) => {
                // The same again, as after a watch that was begun anew, is nothing new.
                put(known, key, value);
                *from = version;
            }
            Event::Deleted(version, key) => {
                if !is(Mutant::DeletionUnheard) {
                    known.remove(&key);
                }
                *from = version;
            }
            Event::Bookmark(version) => *from = version,
        }
    }

    /// 410: the events after the version, or the rest of the list, are no more to be had. What is
    /// there now a new list says.
    pub fn on_gone(&mut self) {
        if !is(Mutant::GoneUnheard) {
            self.state = State::anew();
        }
    }

    /// The connection is gone. A watch goes on from where it was; a list begins anew, as nobody
    /// knows how old it would be by then.
    pub fn on_broken(&mut self) {
        let State::Listing { items, next } = &mut self.state else {
            return;
        };
        let came = core::mem::take(items);
        match next.take().filter(|_| is(Mutant::HalfListTaken)) {
            Some((version, _)) => {
                self.state = State::Watching { from: version };
                self.renew(came);
            }
            None => self.state = State::anew(),
        }
    }

    /// A list says all that is there. What it says as before is kept as it was, so that a copy from
    /// before is quickly compared.
    fn renew(&mut self, listed: BTreeMap<K, Arc<V>>) {
        let known = self.known.get_or_insert_default();
        let gone: Vec<K> = known
            .keys()
            .filter(|it| !listed.contains_key(*it))
            .cloned()
            .collect();
        for key in gone {
            known.remove(&key);
        }
        for (key, value) in listed {
            put(known, key, value);
        }
    }
}

/// Has no effect on what is the same.
fn put<K: Ord + Clone, V: PartialEq>(known: &mut SharedMap<K, V>, key: K, value: Arc<V>) {
    let is_same = |it: &Arc<V>| Arc::ptr_eq(it, &value) || **it == *value;
    if !known.shared(&key).is_some_and(is_same) {
        known.insert_shared(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Kind = Reflector<&'static str, u32>;

    fn version(number: u32) -> Version {
        Version(number.to_string())
    }

    fn page(of: u32, items: &[(&'static str, u32)], more: Option<&str>) -> Page<&'static str, u32> {
        Page {
            items: items.iter().map(|it| (it.0, Arc::new(it.1))).collect(),
            version: version(of),
            more: more.map(|it| Token(it.to_owned())),
        }
    }

    fn told(at: u32, key: &'static str, value: u32) -> Event<&'static str, u32> {
        Event::Put(version(at), key, Arc::new(value))
    }

    fn known(it: &Kind) -> Vec<(&'static str, u32)> {
        let known = it.known().into_iter().flat_map(|it| it.iter());
        known.map(|(key, value)| (*key, *value)).collect()
    }

    /// One that has listed `a` and `b` at version 10.
    fn listed() -> Kind {
        let mut it = Kind::default();
        it.on_page(page(10, &[("a", 1)], Some("t")));
        it.on_page(page(10, &[("b", 2)], None));
        assert_eq!(known(&it), [("a", 1), ("b", 2)]);
        it
    }

    #[test]
    fn nothing_is_known_before_a_list_has_come_to_its_end() {
        let mut it = Kind::default();
        assert_eq!(it.ask(), Ask::List);
        it.on_page(page(10, &[("a", 1)], Some("t")));
        assert_eq!(it.ask(), Ask::More(Token("t".to_owned())));
        assert!(it.known().is_none());
        it.on_page(page(10, &[("b", 2)], None));
        assert_eq!(it.ask(), Ask::Watch(version(10)));
        assert_eq!(known(&it), [("a", 1), ("b", 2)]);
        let mut empty = Kind::default();
        empty.on_page(page(3, &[], None));
        assert!(empty.known().is_some_and(SharedMap::is_empty));
    }

    #[test]
    fn events_change_what_is_known_and_where_a_watch_goes_on() {
        let mut it = listed();
        it.on_event(told(11, "c", 3));
        it.on_event(told(12, "a", 9));
        it.on_event(Event::Deleted(version(13), "b"));
        assert_eq!(known(&it), [("a", 9), ("c", 3)]);
        it.on_event(Event::Bookmark(version(40)));
        it.on_broken();
        assert_eq!(it.ask(), Ask::Watch(version(40)));
        // Told twice, and of one that was never there.
        it.on_event(told(12, "a", 9));
        it.on_event(Event::Deleted(version(41), "x"));
        assert_eq!(known(&it), [("a", 9), ("c", 3)]);
    }

    #[test]
    fn what_was_known_stays_until_a_new_list_is_whole() {
        for broken in [false, true] {
            let mut it = listed();
            it.on_gone();
            assert_eq!(it.ask(), Ask::List);
            assert_eq!(known(&it), [("a", 1), ("b", 2)]);
            it.on_page(page(20, &[("c", 3)], Some("t")));
            assert_eq!(known(&it), [("a", 1), ("b", 2)]);
            // An event of a watch that was before.
            it.on_event(told(11, "a", 7));
            if broken {
                it.on_broken();
            } else {
                it.on_gone();
            }
            assert_eq!(it.ask(), Ask::List, "half a list is none");
            assert_eq!(known(&it), [("a", 1), ("b", 2)]);
            it.on_page(page(21, &[("b", 2), ("d", 4)], None));
            assert_eq!(known(&it), [("b", 2), ("d", 4)], "all of it at once");
            assert_eq!(it.ask(), Ask::Watch(version(21)));
        }
    }

    #[test]
    fn a_list_of_two_moments_or_with_an_object_twice_is_none() {
        for second in [
            page(11, &[("b", 2)], None),
            page(10, &[("a", 2)], None),
            page(10, &[("b", 2), ("b", 3)], None),
        ] {
            let mut it = Kind::default();
            it.on_page(page(10, &[("a", 1)], Some("t")));
            it.on_page(second);
            assert!(it.known().is_none());
            assert_eq!(it.ask(), Ask::List);
        }
    }

    #[test]
    fn a_page_that_nobody_waits_for_changes_nothing() {
        let mut it = listed();
        it.on_page(page(9, &[("x", 0)], None));
        assert_eq!(known(&it), [("a", 1), ("b", 2)]);
        assert_eq!(it.ask(), Ask::Watch(version(10)));
    }

    #[test]
    fn what_a_list_says_as_before_is_shared_with_what_was_known() {
        let mut it = listed();
        let before = it.known().unwrap().clone();
        it.on_gone();
        it.on_page(page(20, &[("a", 1), ("b", 2)], None));
        assert!(it.known().unwrap().is_same(&before));
    }
}
