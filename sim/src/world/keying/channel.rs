//! Sessions between nodes: who dials whom, and what they say on its way. TLS over TCP as two life
//! cycles see it: in order, whole, and late or never where the wires are broken.

use std::collections::{BTreeMap, VecDeque};

use sluice_crypto::lifecycle::Message;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use crate::dice::Dice;

/// How long what is said is under way: so many of these, across a data centre. Whole ones, so
/// that hundreds of sessions have few moments at which something arrives.
const STEP_NS: u64 = 10_000;
const STEPS: (usize, usize) = (1, 6);
/// After how long TCP says again what was not acknowledged (RFC 6298 section 2.4 has a second;
/// Linux takes 200 ms).
const AGAIN_NS: u64 = 200 * Tick::MS;
/// The same after the first few times that nothing came back.
const PARTED_NS: u64 = Tick::SECOND;
/// How long a dial may take, as in the node channel.
const DIAL_NS_MAX: u64 = 5 * Tick::SECOND;

/// One of a session's two ends: the one that dials, or the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    Dials,
    Answers,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Dials => Self::Answers,
            Self::Answers => Self::Dials,
        }
    }
}

/// What is under way to an end.
#[derive(Debug)]
enum Parcel {
    /// To who answers: it is asked for a session.
    Dial,
    /// To who dials: here it is, or not.
    Taken(bool),
    /// To who answers: the other has it too.
    Up,
    Said(Message),
    Down,
}

#[derive(Debug)]
struct Session {
    dials: NodeName,
    answers: NodeName,
    /// Until when who dials waits for an answer.
    dialling: Option<Tick>,
    /// Which ends have it.
    open: [bool; 2],
    /// What is under way to each end, with when it arrives.
    to: [VecDeque<(Tick, Parcel)>; 2],
}

impl Session {
    const fn node(&self, end: End) -> &NodeName {
        match end {
            End::Dials => &self.dials,
            End::Answers => &self.answers,
        }
    }

    fn end_of(&self, node: &NodeName) -> End {
        if self.dials == *node {
            End::Dials
        } else {
            End::Answers
        }
    }

    /// Whether nobody has or awaits it any more.
    fn is_over(&self) -> bool {
        let [to_dials, to_answers] = &self.to;
        let nobody = self.dialling.is_none() && self.open == [false; 2];
        nobody && to_dials.is_empty() && to_answers.is_empty()
    }
}

/// What a node's life cycles are to be told.
#[derive(Debug)]
pub(super) enum News {
    Up,
    Down,
    Failed,
    Said(Message),
}

/// Something for a node about a session with a peer.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) node: NodeName,
    pub(super) peer: NodeName,
    pub(super) session: u64,
    pub(super) news: News,
}

/// How a node stands that something arrives at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It works, and whether it would have a session with the other.
    Works(bool),
    /// It does nothing: what comes waits.
    Stalls,
    /// Nobody is there: who speaks to it is told so.
    Dead,
}

/// How the way between two nodes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Passing {
    /// Nothing passes.
    pub(crate) parted: bool,
    /// Packets that are lost, of a hundred: what they carry comes when TCP says it again.
    pub(crate) loss: u8,
    /// How much longer everything takes.
    pub(crate) delay_ns: u64,
}

/// What a world knows of its nodes and wires.
pub(super) trait Ground {
    fn standing(&self, node: &NodeName, peer: &NodeName) -> Standing;
    fn passing(&self, a: &NodeName, b: &NodeName) -> Passing;
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Channel {
    dice: Dice,
    last: u64,
    sessions: BTreeMap<u64, Session>,
}

impl Channel {
    pub(super) const fn new(dice: Dice) -> Self {
        Self {
            dice,
            last: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// A node asks another for a session.
    pub(super) fn dial(&mut self, from: &NodeName, to: &NodeName, now: Tick, ground: &impl Ground) {
        self.last += 1;
        let session = Session {
            dials: from.clone(),
            answers: to.clone(),
            dialling: Some(now + DIAL_NS_MAX),
            open: [false; 2],
            to: [VecDeque::new(), VecDeque::new()],
        };
        self.sessions.insert(self.last, session);
        self.post(self.last, End::Answers, Parcel::Dial, now, ground);
    }

    /// A node says something on a session, if it has it.
    pub(super) fn say(
        &mut self,
        session: u64,
        from: &NodeName,
        message: Message,
        now: Tick,
        ground: &impl Ground,
    ) {
        let Some(it) = self.sessions.get(&session) else {
            return;
        };
        let end = it.end_of(from);
        if it.open[end as usize] {
            self.post(session, end.other(), Parcel::Said(message), now, ground);
        }
    }

    /// A node ends a session.
    pub(super) fn close(&mut self, session: u64, from: &NodeName, now: Tick, ground: &impl Ground) {
        let Some(it) = self.sessions.get_mut(&session) else {
            return;
        };
        let end = it.end_of(from);
        it.open[end as usize] = false;
        if it.open[end.other() as usize] || !it.to[end.other() as usize].is_empty() {
            self.post(session, end.other(), Parcel::Down, now, ground);
        }
        self.sweep(session);
    }

    /// All that two nodes have with each other ends at one of them.
    pub(super) fn part(
        &mut self,
        from: &NodeName,
        with: &NodeName,
        now: Tick,
        ground: &impl Ground,
    ) {
        for session in self.between(from, Some(with)) {
            if let Some(it) = self.sessions.get_mut(&session)
                && it.dials == *from
            {
                it.dialling = None;
            }
            self.close(session, from, now, ground);
        }
    }

    /// A node's dataplane dies. Its kernel tells the others, where that can arrive.
    pub(super) fn kill(&mut self, node: &NodeName, now: Tick, ground: &impl Ground) {
        for session in self.between(node, None) {
            let Some(it) = self.sessions.get_mut(&session) else {
                continue;
            };
            let end = it.end_of(node);
            it.to[end as usize].clear();
            it.open[end as usize] = false;
            if end == End::Dials {
                it.dialling = None;
            }
            if !ground.passing(&it.dials, &it.answers).parted {
                let told = match it.dialling {
                    Some(_) => Parcel::Taken(false),
                    None => Parcel::Down,
                };
                self.post(session, end.other(), told, now, ground);
            }
            self.sweep(session);
        }
    }

    /// What has arrived by now, the first of each session and end, and whose time is over; to be
    /// asked for until there is nothing.
    pub(super) fn arrivals(&mut self, now: Tick, ground: &impl Ground) -> Vec<Delivery> {
        loop {
            let arrived = self.arrived(now, ground);
            let nothing = arrived.is_empty();
            let arrived = arrived.into_iter();
            let news = arrived.filter_map(|it| self.arrive(it.1, it.2, now, ground));
            let news: Vec<_> = news.collect();
            if nothing || !news.is_empty() {
                return news;
            }
        }
    }

    /// When something arrives next, after now.
    pub(super) fn due(&self, now: Tick) -> Option<Tick> {
        let heads = self.sessions.values().flat_map(|it| {
            let heads = it.to.iter().filter_map(|to| to.front()).map(|it| it.0);
            heads.chain(it.dialling)
        });
        heads.filter(|it| *it > now).min()
    }

    /// Whether anything is under way between two nodes.
    pub(super) fn is_quiet(&self, a: &NodeName, b: &NodeName) -> bool {
        self.between(a, Some(b)).into_iter().all(|it| {
            let it = self.sessions.get(&it);
            it.is_none_or(|it| it.dialling.is_none() && it.to.iter().all(VecDeque::is_empty))
        })
    }

    fn between(&self, node: &NodeName, with: Option<&NodeName>) -> Vec<u64> {
        let is_one = |it: &Session| {
            let other = |one: &NodeName| with.is_none_or(|with| with == one);
            it.dials == *node && other(&it.answers) || it.answers == *node && other(&it.dials)
        };
        let those = self.sessions.iter().filter(|it| is_one(it.1));
        those.map(|it| *it.0).collect()
    }

    /// Where something has arrived, by time; `None` for an end: who dials has waited long enough.
    fn arrived(&self, now: Tick, ground: &impl Ground) -> Vec<(Tick, u64, Option<End>)> {
        let mut arrived = Vec::new();
        for (number, it) in &self.sessions {
            let head = |end: End| Some((it.to[end as usize].front()?.0, *number, Some(end)));
            let late = it.dialling.map(|at| (at, *number, None));
            let heads = [head(End::Dials), head(End::Answers), late];
            arrived.extend(heads.into_iter().flatten().filter(|(at, _, end)| {
                let end = end.unwrap_or(End::Dials);
                let (node, peer) = (it.node(end), it.node(end.other()));
                *at <= now && ground.standing(node, peer) != Standing::Stalls
            }));
        }
        arrived.sort_unstable();
        arrived
    }

    fn arrive(
        &mut self,
        number: u64,
        end: Option<End>,
        now: Tick,
        ground: &impl Ground,
    ) -> Option<Delivery> {
        let it = self.sessions.get_mut(&number)?;
        let Some(end) = end else {
            // Its answer may have come at the same moment.
            it.dialling.take()?;
            let (node, peer) = (it.dials.clone(), it.answers.clone());
            self.sweep(number);
            return Some(Delivery {
                node,
                peer,
                session: number,
                news: News::Failed,
            });
        };
        let (node, peer) = (it.node(end).clone(), it.node(end.other()).clone());
        let way = ground.passing(&node, &peer);
        let (_, parcel) = it.to[end as usize].pop_front()?;
        if way.parted {
            it.to[end as usize].push_front((now + PARTED_NS, parcel));
            return None;
        }
        let standing = ground.standing(&node, &peer);
        let is_open = it.open[end as usize];
        let news = match parcel {
            Parcel::Dial => {
                // Who has given up hears nothing more of it.
                if it.dialling.is_some() {
                    let taken = Parcel::Taken(standing == Standing::Works(true));
                    self.post(number, End::Dials, taken, now, ground);
                }
                None
            }
            Parcel::Taken(taken) if it.dialling.is_some() => {
                it.dialling = None;
                if taken {
                    it.open[end as usize] = true;
                    self.post(number, End::Answers, Parcel::Up, now, ground);
                    Some(News::Up)
                } else {
                    Some(News::Failed)
                }
            }
            Parcel::Taken(_) => None,
            Parcel::Up if standing == Standing::Works(true) => {
                it.open[end as usize] = true;
                Some(News::Up)
            }
            Parcel::Said(message) if is_open => Some(News::Said(message)),
            // There is no such session here: who speaks is told so.
            Parcel::Up | Parcel::Said(_) => {
                if it.open[end.other() as usize] {
                    self.post(number, end.other(), Parcel::Down, now, ground);
                }
                None
            }
            Parcel::Down if is_open => {
                it.open[end as usize] = false;
                Some(News::Down)
            }
            Parcel::Down => None,
        };
        self.sweep(number);
        news.map(|news| Delivery {
            node,
            peer,
            session: number,
            news,
        })
    }

    /// Puts something on its way, behind what is.
    fn post(&mut self, number: u64, to: End, parcel: Parcel, now: Tick, ground: &impl Ground) {
        let Some(it) = self.sessions.get_mut(&number) else {
            return;
        };
        let way = ground.passing(&it.dials, &it.answers);
        let (least, most) = STEPS;
        let steps = u64::try_from(self.dice.within(least, most)).unwrap_or(1);
        let mut takes = steps * STEP_NS + way.delay_ns;
        // Each time it is lost again it is said again after twice as long.
        let mut again = AGAIN_NS;
        while way.loss > 0 && self.dice.chance(way.loss.min(90)) {
            takes += again;
            again = (2 * again).min(Tick::SECOND);
        }
        let queue = &mut it.to[to as usize];
        let behind = queue.back().map_or(Tick(0), |it| it.0);
        queue.push_back(((now + takes).max(behind), parcel));
    }

    /// Forgets a session that is over.
    fn sweep(&mut self, number: u64) {
        if self.sessions.get(&number).is_some_and(Session::is_over) {
            self.sessions.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Field {
        passing: Passing,
        answers: Standing,
    }

    impl Ground for Field {
        fn standing(&self, node: &NodeName, _: &NodeName) -> Standing {
            if node.0 == "b" {
                self.answers
            } else {
                Standing::Works(true)
            }
        }

        fn passing(&self, _: &NodeName, _: &NodeName) -> Passing {
            self.passing
        }
    }

    const WHOLE: Passing = Passing {
        parted: false,
        loss: 0,
        delay_ns: 0,
    };

    fn field() -> Field {
        Field {
            passing: WHOLE,
            answers: Standing::Works(true),
        }
    }

    fn names() -> (NodeName, NodeName) {
        (NodeName::from("a"), NodeName::from("b"))
    }

    /// What arrives until then, in words.
    fn until(channel: &mut Channel, field: &Field, now: Tick) -> Vec<String> {
        let mut told = Vec::new();
        let mut at = Tick(0);
        loop {
            loop {
                let arrivals = channel.arrivals(at, field);
                if arrivals.is_empty() {
                    break;
                }
                told.extend(
                    arrivals
                        .iter()
                        .map(|it| format!("{} {:?}", it.node.0, it.news)),
                );
            }
            match channel.due(at) {
                Some(next) if next <= now => at = next,
                _ => return told,
            }
        }
    }

    const PING: Message = Message::Ping {
        sending: 7,
        rekey_wanted: false,
    };

    #[test]
    fn both_ends_have_a_session_before_anything_is_said_on_it() {
        let (a, b) = names();
        let mut channel = Channel::new(Dice::new(1, "test"));
        let field = field();
        channel.dial(&a, &b, Tick(0), &field);
        let first = until(&mut channel, &field, Tick(Tick::SECOND));
        assert_eq!(first, ["a Up", "b Up"]);
        for _ in 0..20 {
            channel.say(1, &a, Message::Ready { epoch: 1 }, Tick(0), &field);
            channel.say(1, &a, PING, Tick(0), &field);
        }
        channel.close(1, &a, Tick(0), &field);
        let said = until(&mut channel, &field, Tick(Tick::SECOND));
        let (last, said) = said.split_last().unwrap();
        assert_eq!((last.as_str(), said.len()), ("b Down", 40));
        assert!(
            said.chunks(2)
                .all(|it| it[0].contains("Ready") && it[1].contains("Ping"))
        );
        assert!(channel.sessions.is_empty());
    }

    #[test]
    fn who_is_dead_or_has_no_such_peer_refuses_and_who_stalls_lets_wait() {
        let (a, b) = names();
        for (answers, at) in [
            (Standing::Dead, Tick::MS),
            (Standing::Works(false), Tick::MS),
            (Standing::Stalls, DIAL_NS_MAX),
        ] {
            let mut channel = Channel::new(Dice::new(1, "test"));
            let mut field = Field {
                passing: WHOLE,
                answers,
            };
            channel.dial(&a, &b, Tick(0), &field);
            assert_eq!(
                until(&mut channel, &field, Tick(at)),
                ["a Failed"],
                "{answers:?}"
            );
            // When it goes on it finds that nobody waits any more.
            field.answers = Standing::Works(true);
            assert_eq!(until(&mut channel, &field, Tick(2 * DIAL_NS_MAX)), [""; 0]);
            assert!(channel.sessions.is_empty());
        }
    }

    #[test]
    fn over_a_cut_wire_nothing_comes_and_after_it_all_in_order() {
        let (a, b) = names();
        let mut channel = Channel::new(Dice::new(1, "test"));
        let mut field = field();
        channel.dial(&a, &b, Tick(0), &field);
        until(&mut channel, &field, Tick(Tick::SECOND));
        field.passing.parted = true;
        channel.say(1, &b, Message::Ready { epoch: 1 }, Tick(0), &field);
        channel.say(1, &b, Message::Delete { below: 1 }, Tick(0), &field);
        assert_eq!(until(&mut channel, &field, Tick(Tick::SECOND)), [""; 0]);
        field.passing.parted = false;
        let said = until(&mut channel, &field, Tick(3 * Tick::SECOND));
        assert_eq!(
            said,
            ["a Said(Ready { epoch: 1 })", "a Said(Delete { below: 1 })"]
        );
        // Who died meanwhile is told of by who is there in its place.
        field.passing.parted = true;
        channel.kill(&b, Tick(0), &field);
        assert_eq!(until(&mut channel, &field, Tick(Tick::SECOND)), [""; 0]);
        field.passing.parted = false;
        channel.say(1, &a, PING, Tick(0), &field);
        assert_eq!(
            until(&mut channel, &field, Tick(3 * Tick::SECOND)),
            ["a Down"]
        );
        assert!(channel.sessions.is_empty());
    }

    #[test]
    fn what_is_lost_comes_later_and_the_seed_says_when() {
        let (a, b) = names();
        let times = |seed| {
            let mut channel = Channel::new(Dice::new(seed, "test"));
            let mut field = field();
            channel.dial(&a, &b, Tick(0), &field);
            until(&mut channel, &field, Tick(Tick::SECOND));
            field.passing.loss = 50;
            let mut times = Vec::new();
            for _ in 0..10 {
                channel.say(1, &a, PING, Tick(0), &field);
                times.extend(channel.sessions[&1].to[1].back().map(|it| it.0));
            }
            assert_eq!(until(&mut channel, &field, Tick(u64::MAX)).len(), 10);
            times
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert!(times(1).last() > Some(&Tick(AGAIN_NS)));
    }
}
