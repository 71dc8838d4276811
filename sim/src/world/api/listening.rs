//! An agent's watches hear what a server says, as far as they reach it.

use sluice_host_agent::watch::{Ask, Reflector, Watches};

use super::kind::{Gone, Kind};
use super::server::Server;
use crate::world::marks::Marks;

/// Questions about a kind that are asked at a time, at most: more than a million objects have pages.
const QUESTIONS_MAX: usize = 4096;

/// What an agent can get from the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reach {
    /// Nothing at all.
    pub(crate) is_away: bool,
    /// The events after whatever version it has are no more to be had.
    pub(crate) has_no_events: bool,
    /// Lists are refused (429): all agents want one.
    pub(crate) refuses_lists: bool,
    /// A list stops in its middle.
    pub(crate) cuts_lists: bool,
}

impl Server {
    /// All kinds are asked, until there is nothing new or no answer.
    pub(crate) fn tell(&self, watches: &mut Watches, reach: Reach, marks: &mut Marks) {
        if reach.is_away {
            return;
        }
        hear(&mut watches.namespaces, &self.namespaces, reach, marks);
        hear(&mut watches.nodes, &self.nodes, reach, marks);
        hear(&mut watches.pods, &self.pods, reach, marks);
        hear(&mut watches.policies, &self.policies, reach, marks);
        let kind = &self.cluster_policies;
        hear(&mut watches.cluster_policies, kind, reach, marks);
        let kind = &self.multi_policies;
        hear(&mut watches.multi_policies, kind, reach, marks);
        hear(&mut watches.services, &self.services, reach, marks);
    }
}

fn hear<K: Ord + Clone, V: PartialEq>(
    watch: &mut Reflector<K, V>,
    kind: &Kind<K, V>,
    reach: Reach,
    marks: &mut Marks,
) {
    for _ in 0..QUESTIONS_MAX {
        let token = match watch.ask() {
            Ask::Watch(from) => {
                let events = if reach.has_no_events {
                    Err(Gone)
                } else {
                    kind.watch(&from)
                };
                let Ok(events) = events else {
                    marks.add("events-gone");
                    watch.on_gone();
                    continue;
                };
                for event in events {
                    watch.on_event(event);
                }
                return;
            }
            Ask::List => None,
            Ask::More(token) => Some(token),
        };
        if reach.refuses_lists {
            return watch.on_broken();
        }
        match kind.list(token.as_ref()) {
            Ok(page) if reach.cuts_lists && (token.is_some() || page.more.is_none()) => {
                marks.add("list-cut");
                return watch.on_broken();
            }
            Ok(page) => watch.on_page(page),
            Err(Gone) => watch.on_gone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_host_agent::cluster::{Cluster, Namespace};

    use super::*;
    use crate::fault::ObjectKind;

    const ALL: Reach = Reach {
        is_away: false,
        has_no_events: false,
        refuses_lists: false,
        cuts_lists: false,
    };

    fn cluster(namespaces: &[&str]) -> Cluster {
        let mut cluster = Cluster::default();
        for name in namespaces {
            let it = Namespace::default();
            cluster.namespaces.insert((*name).to_owned(), it);
        }
        cluster
    }

    fn seen(watches: &Watches) -> Option<Vec<String>> {
        let cluster = watches.cluster()?;
        Some(cluster.namespaces.keys().cloned().collect())
    }

    #[test]
    fn an_agent_sees_what_it_can_reach_and_keeps_what_it_knew() {
        let (mut server, mut marks) = (Server::default(), Marks::default());
        let mut watches = Watches::default();
        server.set(&cluster(&["a", "b", "c", "d"]));
        let cut = Reach {
            cuts_lists: true,
            has_no_events: true,
            ..ALL
        };
        server.tell(&mut watches, cut, &mut marks);
        assert_eq!(seen(&watches), None);
        server.tell(&mut watches, ALL, &mut marks);
        assert_eq!(seen(&watches).unwrap(), ["a", "b", "c", "d"]);
        server.set(&cluster(&["b", "e"]));
        let away = Reach {
            is_away: true,
            ..ALL
        };
        let refused = Reach {
            has_no_events: true,
            refuses_lists: true,
            ..ALL
        };
        for reach in [away, cut, refused] {
            server.tell(&mut watches, reach, &mut marks);
            assert_eq!(seen(&watches).unwrap(), ["a", "b", "c", "d"], "{reach:?}");
        }
        server.tell(&mut watches, ALL, &mut marks);
        assert_eq!(seen(&watches).unwrap(), ["b", "e"]);
    }

    #[test]
    fn of_a_kind_that_was_behind_no_event_is_missed() {
        let (mut server, mut marks) = (Server::default(), Marks::default());
        let mut watches = Watches::default();
        server.set(&cluster(&["a"]));
        let behind = server.clone();
        server.tell(&mut watches, ALL, &mut marks);
        server.set(&cluster(&["a", "b"]));
        let mut late = server.clone();
        late.take_over(ObjectKind::Namespaces, &behind);
        late.tell(&mut watches, ALL, &mut marks);
        assert_eq!(seen(&watches).unwrap(), ["a"]);
        server.tell(&mut watches, ALL, &mut marks);
        assert_eq!(seen(&watches).unwrap(), ["a", "b"]);
    }
}
