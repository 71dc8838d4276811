//! Sessions between nodes: who dials whom, and what they say on its way. TLS over TCP as two life
//! cycles see it: in order, whole, and late or never where the wires are broken.

use std::collections::{BTreeMap, VecDeque};

use rustls_pki_types::UnixTime;
use sluice_crypto::lifecycle::{Message, TimeMs};
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;
use sluice_svid::{Chain, Role, SvidError};

use super::super::certificates::Shown;
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
    /// To who dials: here it is, with the certificate of who answers, or not.
    Taken(Option<Shown>),
    /// To who answers: the other has it too, and this is its certificate.
    Up(Shown),
    Said(Message),
    Down,
}

/// What an end was shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) chain: Chain,
    /// Since when it is no longer good, by the node's monotonic clock.
    pub(super) doubted_since: Option<TimeMs>,
}

/// Which end of which session, of a node with a peer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) node: NodeName,
    pub(super) peer: NodeName,
    pub(super) session: u64,
}

#[derive(Debug)]
struct Session {
    dials: NodeName,
    answers: NodeName,
    /// Until when who dials waits for an answer.
    dialling: Option<Tick>,
    /// Which ends have it.
    open: [bool; 2],
    /// What the other end has shown each that has it.
    shown: [Option<Seen>; 2],
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

    /// An end has it, by what it was shown.
    fn opens(&mut self, end: End, chain: Chain) {
        self.open[end as usize] = true;
        self.shown[end as usize] = Some(Seen {
            chain,
            doubted_since: None,
        });
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
    /// The certificate that a node shows, if it has one that is good.
    fn shows(&self, node: &NodeName) -> Option<Shown>;
    /// Whether a node accepts what its peer, in that role, has shown it.
    fn accepts(
        &self,
        node: &NodeName,
        peer: &NodeName,
        shown: &Shown,
        role: Role,
    ) -> Result<Chain, SvidError>;
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Channel {
    dice: Dice,
    last: u64,
    sessions: BTreeMap<u64, Session>,
    /// How often a peer's certificate was refused,
    pub(super) refused: u64,
    /// and how often a node had none to show.
    pub(super) without: u64,
}

impl Channel {
    pub(super) const fn new(dice: Dice) -> Self {
        Self {
            dice,
            last: 0,
            sessions: BTreeMap::new(),
            refused: 0,
            without: 0,
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
            shown: [None, None],
            to: [VecDeque::new(), VecDeque::new()],
        };
        self.sessions.insert(self.last, session);
        if ground.shows(from).is_some() {
            self.post(self.last, End::Answers, Parcel::Dial, now, ground);
        } else {
            // Nobody is asked: it hears of itself that there is no session.
            self.without += 1;
            self.post(self.last, End::Dials, Parcel::Taken(None), now, ground);
        }
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
                    Some(_) => Parcel::Taken(None),
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
                    let takes = standing == Standing::Works(true);
                    let shown = takes.then(|| ground.shows(&node));
                    self.without += u64::from(shown == Some(None));
                    let taken = Parcel::Taken(shown.flatten());
                    self.post(number, End::Dials, taken, now, ground);
                }
                None
            }
            Parcel::Taken(Some(shown)) if it.dialling.is_some() => {
                it.dialling = None;
                let accepted = ground.accepts(&node, &peer, &shown, Role::Server);
                self.refused += u64::from(accepted.is_err());
                match accepted.ok().zip(ground.shows(&node)) {
                    Some((chain, own)) => {
                        it.opens(end, chain);
                        self.post(number, End::Answers, Parcel::Up(own), now, ground);
                        Some(News::Up)
                    }
                    None => Some(News::Failed),
                }
            }
            Parcel::Taken(_) => it.dialling.take().map(|_| News::Failed),
            Parcel::Up(shown) => {
                let works = standing == Standing::Works(true);
                let accepted = works.then(|| ground.accepts(&node, &peer, &shown, Role::Client));
                self.refused += u64::from(matches!(accepted, Some(Err(_))));
                if let Some(Ok(chain)) = accepted {
                    it.opens(end, chain);
                    Some(News::Up)
                } else {
                    // Who dialled has it by then, and learns late that it is refused.
                    self.deny(number, end, now, ground);
                    None
                }
            }
            Parcel::Said(message) if is_open => Some(News::Said(message)),
            Parcel::Said(_) => {
                self.deny(number, end, now, ground);
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

    /// There is no such session at an end: who speaks is told so.
    fn deny(&mut self, number: u64, end: End, now: Tick, ground: &impl Ground) {
        let it = self.sessions.get(&number);
        if it.is_some_and(|it| it.open[end.other() as usize]) {
            self.post(number, end.other(), Parcel::Down, now, ground);
        }
    }

    /// What ends of sessions were shown, and is in doubt or may be by the latest of the nodes' clocks.
    pub(super) fn doubtful(&mut self, latest: UnixTime) -> Vec<(Place, &mut Seen)> {
        let mut doubtful = Vec::new();
        for (number, it) in &mut self.sessions {
            let ends = [(&it.dials, &it.answers), (&it.answers, &it.dials)];
            for (((node, peer), seen), open) in ends.into_iter().zip(&mut it.shown).zip(it.open) {
                let may_be = |seen: &&mut Seen| {
                    open && (seen.doubted_since.is_some() || seen.chain.is_expired(latest))
                };
                if let Some(seen) = seen.as_mut().filter(may_be) {
                    let (node, peer) = (node.clone(), peer.clone());
                    let session = *number;
                    let place = Place {
                        node,
                        peer,
                        session,
                    };
                    doubtful.push((place, seen));
                }
            }
        }
        doubtful
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
    use core::time::Duration;

    use rustls_pki_types::CertificateDer;

    use super::*;

    struct Field {
        passing: Passing,
        answers: Standing,
        /// Who has no certificate.
        without: Option<&'static str>,
        /// Whose is refused.
        refused: Option<&'static str>,
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

        fn shows(&self, node: &NodeName) -> Option<Shown> {
            let has = self.without != Some(node.0.as_str());
            has.then(|| Shown::from([CertificateDer::from(node.0.clone().into_bytes())]))
        }

        fn accepts(
            &self,
            _: &NodeName,
            peer: &NodeName,
            shown: &Shown,
            role: Role,
        ) -> Result<Chain, SvidError> {
            assert_eq!(shown[0].as_ref(), peer.0.as_bytes(), "another's");
            assert_eq!(role == Role::Client, peer.0 == "a");
            if self.refused == Some(peer.0.as_str()) {
                return Err(SvidError::UriNames { got: 0 });
            }
            let at = UnixTime::since_unix_epoch(Duration::ZERO);
            Ok(Chain::new(shown.to_vec(), role, at))
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
            without: None,
            refused: None,
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
            let mut field = Field { answers, ..field() };
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
    fn without_a_certificate_that_is_good_there_is_no_session() {
        let (a, b) = names();
        // Who dials sees at once that who answers is another; the other way round it learns late.
        for (without, refused, says) in [
            (Some("a"), None, &["a Failed"][..]),
            (Some("b"), None, &["a Failed"]),
            (None, Some("b"), &["a Failed"]),
            (None, Some("a"), &["a Up", "a Down"]),
        ] {
            let mut channel = Channel::new(Dice::new(1, "test"));
            let field = Field {
                without,
                refused,
                ..field()
            };
            channel.dial(&a, &b, Tick(0), &field);
            let said = until(&mut channel, &field, Tick(2 * DIAL_NS_MAX));
            assert_eq!(said, says, "{without:?} {refused:?}");
            let counted = (channel.without, channel.refused);
            let expected = (without.iter().count(), refused.iter().count());
            assert_eq!(counted, (expected.0 as u64, expected.1 as u64));
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
