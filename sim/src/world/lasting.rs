//! TCP connections that go on: what a job of a workload leaves open stands until the next job
//! of its name, whatever happens between the two.

use std::net::IpAddr;

use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::tick::Tick;
use sluice_host_agent::evaluate::Query;
use sluice_offload_api::model::{PodUid, Verdict};

use super::World;
use super::excuses::Excuses;
use super::net::At;
use super::probing::query_of;
use super::sockets::{Ends, Socket};
use super::working::Running;
use crate::dice::Dice;
use crate::probe::{Probe, ProbeError};
use crate::tcp::{Receiver, Sender};
use crate::workload::{Job, JobRecord};

/// Connections' source ports go round in this range, below those of all else.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 10_000;
/// In so much time what policy allows is under way again, if nothing is broken: a first segment
/// that came too early is sent once more after a second, the next two seconds later.
const LIVE_NS: u64 = 4 * Tick::SECOND;

/// A connection.
#[derive(Debug)]
pub(super) struct Lasting {
    at: At,
    far: Option<At>,
    ends: Ends,
    /// What asks what policy says of it.
    query: Query,
    /// The pods at its ends.
    uids: [Option<PodUid>; 2],
    /// All that was to be moved was, and nothing has happened since that may end it.
    stands: bool,
    /// The dataplane that its pod is behind was dead when it began.
    began_in_vain: bool,
}

/// What a job does of a connection.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// When it is over, whatever came of it.
    pub(super) until: Tick,
    /// Nothing was broken when it began.
    was_whole: bool,
    /// The connection is the job's own.
    is_new: bool,
    /// It had to go on when the job began.
    stood: bool,
    /// What had come before: acknowledged, and received.
    acknowledged: u64,
    received: u64,
    /// Segments that were sent again before.
    sent_again: u64,
    /// Frames of its ends that had found no room in a flow table.
    crowded_out: u64,
}

impl World {
    /// Something has happened that may end any connection.
    pub(super) fn cut_lasting(&mut self) {
        for it in self.lasting.values_mut() {
            it.stands = false;
        }
    }

    /// The same of those with an end at an address.
    pub(super) fn cut_lasting_at(&mut self, ip: IpAddr) {
        let of = |it: &&mut Lasting| it.ends.local.0 == ip || it.ends.remote.0 == ip;
        for it in self.lasting.values_mut().filter(of) {
            it.stands = false;
        }
    }

    /// Those that policy denies now needn't go on, also if it allows them later.
    pub(super) fn note_revoked(&mut self) {
        for it in self.lasting.values_mut().filter(|it| it.stands) {
            let judged = self.stale.judge(&self.cluster, &it.query);
            it.stands = judged.verdict == Verdict::Allow;
        }
    }

    /// Of those that began while a node's dataplane was dead, whose pods nobody has answered: they are
    /// given up where the pod that was asked is gone. A dataplane that starts then never knew that its
    /// address was a pod's, and what is said to whoever has it outside of the cluster is another
    /// thing than what pods say.
    pub(super) fn give_up_unanswered(&mut self, node: usize) {
        let is_gone = |it: &Lasting| {
            let [_, asked] = &it.uids;
            let [_, there] = self.uids_at(it.ends);
            let is_here = matches!(it.at, At::Behind(at, _) if at == node);
            it.began_in_vain && is_here && asked.is_some() && there.is_none()
        };
        let gone = self.lasting.iter().filter(|(_, it)| is_gone(it));
        let gone: Vec<_> = gone
            .map(|(name, it)| (name.clone(), it.at, it.ends))
            .collect();
        for (name, at, ends) in gone {
            if self.sender(at, ends).is_some_and(Sender::is_opening) {
                self.close_lasting(&name);
            }
        }
    }

    fn is_behind_dead(&self, at: At) -> bool {
        let At::Behind(number, _) = at else {
            return false;
        };
        self.nodes.get(number).is_some_and(|it| it.dead)
    }

    fn uids_at(&self, ends: Ends) -> [Option<PodUid>; 2] {
        [ends.local.0, ends.remote.0].map(|ip| self.api().pod_uid(ip).cloned())
    }

    /// Has a connection move more, or opens it.
    pub(super) fn begin_lasting(
        &mut self,
        name: &str,
        probe: &Probe,
        bytes: u64,
        for_ns: u64,
    ) -> Result<Option<Running>, ProbeError> {
        let question = self.question(probe)?;
        let place = |world: &Self, party, ip| world.place_of(party, ip);
        let (at, far) = (
            place(self, &probe.from, question.src),
            place(self, &probe.to, question.dst),
        );
        let Some(at) = at.filter(|_| !question.is_loopback()) else {
            self.close_lasting(name);
            return Ok(None);
        };
        let port = question.port.unwrap_or(0);
        let hop = self.next_hop(at, &question);
        let is_same = |it: &Lasting| {
            let ends = (it.ends.local.0, it.ends.remote);
            (it.at, it.far) == (at, far)
                && ends == (question.src, (question.dst, port))
                && it.uids == self.uids_at(it.ends)
        };
        let known = self.lasting.get(name).filter(|it| is_same(it));
        let known = known.map(|it| (it.ends, it.stands));
        let known = known.filter(|it| self.is_open(at, far, it.0));
        let mut part = Part {
            until: self.net.now + for_ns,
            was_whole: self.is_whole(),
            is_new: known.is_none(),
            stood: known.is_some_and(|it| it.1),
            acknowledged: 0,
            received: 0,
            sent_again: 0,
            crowded_out: self.crowded_out(&question),
        };
        let now = self.net.now;
        let ends = match known {
            Some((ends, _)) => {
                if let Some(sender) = self.sender(at, ends) {
                    part.acknowledged = sender.acknowledged();
                    part.sent_again = sender.sent_again();
                }
                part.received = self.receiver(far, ends).map_or(0, Receiver::received);
                let frames = self.station_at(at).map(|station| {
                    station.sockets.now = now;
                    station.go_on(ends, bytes, hop)
                });
                self.send_from(at, frames.unwrap_or_default());
                ends
            }
            None => {
                self.close_lasting(name);
                let number = self.connections;
                self.connections = number.wrapping_add(1);
                let ends = Ends {
                    protocol: proto::TCP,
                    local: (question.src, FIRST_PORT + number % PORTS),
                    remote: (question.dst, port),
                };
                let lasting = Lasting {
                    at,
                    far,
                    ends,
                    query: query_of(probe, &question),
                    uids: self.uids_at(ends),
                    stands: false,
                    began_in_vain: self.is_behind_dead(at),
                };
                self.open_lasting(&lasting, probe, bytes, hop);
                self.lasting.insert(name.to_owned(), lasting);
                ends
            }
        };
        let mut running = Running::of(at, hop, (ends, far));
        running.part = Some(part);
        Ok(Some(running))
    }

    fn open_lasting(&mut self, lasting: &Lasting, probe: &Probe, bytes: u64, hop: IpAddr) {
        let Lasting { at, far, ends, .. } = *lasting;
        let text = self.payload(probe, ends.local.0, ends.remote.0);
        let mut dice = Dice::new(self.config.seed, &format!("connection {}", ends.local.1));
        let mut isn = || u32::try_from(dice.draw() >> 32).unwrap_or(0);
        let (ours, theirs) = (isn(), isn());
        if let Some(station) = far.and_then(|far| self.station_at(far)) {
            let receiver = Socket::Receives(Box::new(Receiver::new(theirs, text)));
            station.open(ends.turned(), receiver, ends.local.0, text);
        }
        let now = self.net.now;
        let frames = self.station_at(at).map(|station| {
            station.sockets.now = now;
            let sender = Socket::Sends(Box::new(Sender::lasting(ours, bytes)));
            station.open(ends, sender, hop, text)
        });
        self.send_from(at, frames.unwrap_or_default());
    }

    /// Whoever has it lets it be.
    fn close_lasting(&mut self, name: &str) {
        let Some(it) = self.lasting.remove(name) else {
            return;
        };
        for (at, ends) in [(Some(it.at), it.ends), (it.far, it.ends.turned())] {
            if let Some(station) = at.and_then(|at| self.station_at(at)) {
                station.sockets.close(ends);
            }
        }
    }

    /// Whether both ends still have it.
    fn is_open(&mut self, at: At, far: Option<At>, ends: Ends) -> bool {
        let sends = self.sender(at, ends).is_some_and(|it| !it.is_over());
        sends && (far.is_none() || self.receiver(far, ends).is_some())
    }

    fn sender(&mut self, at: At, ends: Ends) -> Option<&Sender> {
        match self.station_at(at)?.sockets.get(ends)? {
            Socket::Sends(it) => Some(it),
            _ => None,
        }
    }

    fn receiver(&mut self, far: Option<At>, ends: Ends) -> Option<&Receiver> {
        match self.station_at(far?)?.sockets.get(ends.turned())? {
            Socket::Receives(it) => Some(it),
            _ => None,
        }
    }

    /// Opens anew what policy allows and what has happened before has ended: nobody tells a
    /// host that a dataplane knows its connection no more. What runs from now on, by the number of
    /// its job.
    pub(super) fn reopen(
        &mut self,
        jobs: &[Job],
        running: &[Option<Running>],
        (before, excuses): (&[Option<Verdict>], &Excuses),
    ) -> Result<Vec<(usize, Option<Running>)>, ProbeError> {
        let mut again = Vec::new();
        for (number, job) in jobs.iter().enumerate() {
            let (
                Job::Connection {
                    name,
                    probe,
                    bytes,
                    for_ns,
                },
                Some(Some(run)),
            ) = (job, running.get(number))
            else {
                continue;
            };
            let Some((part, (ends, far))) = run.part.clone().zip(run.flow) else {
                continue;
            };
            let stood = part.stood && self.lasting.get(name).is_some_and(|it| it.stands);
            if stood || part.is_new || self.is_whole_part(run.at, (ends, far)) {
                continue;
            }
            let before = before.get(number).copied().flatten();
            let allowed =
                before == Some(Verdict::Allow) && self.expected(probe)?.verdict == Verdict::Allow;
            let is_cut = excuses.cut([Some(run.at), far]);
            if allowed && !is_cut && self.is_untouched(&part, probe, excuses)? {
                self.close_lasting(name);
                again.push((number, self.begin_lasting(name, probe, *bytes, *for_ns)?));
            }
        }
        Ok(again)
    }

    /// Whether nothing but policy can have kept a job from its end, which had the time for it.
    fn is_untouched(
        &self,
        part: &Part,
        probe: &Probe,
        excuses: &Excuses,
    ) -> Result<bool, ProbeError> {
        let question = self.question(probe)?;
        Ok(part.was_whole
            && self.is_whole()
            && self.net.faults.hits == excuses.hits
            && self.crowded_out(&question) == part.crowded_out)
    }

    /// Whether all that it was to move has come, as it was.
    fn is_whole_part(&mut self, at: At, (ends, far): (Ends, Option<At>)) -> bool {
        let sent = self.sender(at, ends);
        let sent = sent.filter(|it| it.is_complete()).map(Sender::total);
        let came = self.receiver(far, ends);
        let came = came.filter(|it| it.is_intact()).map(Receiver::received);
        sent.is_some() && sent == came
    }

    /// What came of a job, against what policy says.
    pub(super) fn record_lasting(
        &mut self,
        record: &mut JobRecord,
        (job, run): (&Job, Option<&Running>),
        (before, excuses): (Option<Verdict>, &Excuses),
    ) -> Result<(), ProbeError> {
        let Job::Connection {
            name,
            probe,
            for_ns,
            ..
        } = job
        else {
            return Ok(());
        };
        record.kind = "connection";
        record.from = probe.from.to_string();
        record.to = Some(probe.to.to_string());
        record.port = self.question(probe)?.port;
        let mut came = 0;
        let ends = run.map(|it| [Some(it.at), it.flow.and_then(|it| it.1)]);
        let is_cut = ends.is_some_and(|it| excuses.cut(it));
        let run = run.and_then(|it| Some((it.at, it.flow?, it.part.as_ref()?)));
        if let Some((at, flow, part)) = run {
            record.complete = self.is_whole_part(at, flow);
            let (ends, far) = flow;
            if let Some(sender) = self.sender(at, ends) {
                record.bytes = sender.acknowledged() - part.acknowledged;
                record.packets = sender.sent_again() - part.sent_again;
                let all = sender.is_complete();
                if all && !record.complete {
                    let text = "all was acknowledged, and something else arrived than was sent";
                    record.wrong = Some(text.to_owned());
                }
            }
            came = self.receiver(far, ends).map_or(0, Receiver::received) - part.received;
        }
        let policy = self.expected(probe)?.verdict;
        let untouched = match run {
            Some((.., part)) => !is_cut && self.is_untouched(part, probe, excuses)?,
            None => self.is_whole(),
        };
        let has_come = came > 0 || record.bytes > 0;
        // What was under way before it was denied may come later, if something has held it.
        let is_new = run.is_some_and(|it| it.2.is_new);
        let known = self.lasting.get_mut(name);
        let stood = run.is_some_and(|it| it.2.stood) && known.is_some_and(|it| it.stands);
        let wrong = match policy {
            _ if before != Some(policy) => None,
            Verdict::Deny if has_come && (is_new || untouched) => Some("policy denies it"),
            Verdict::Allow if !record.complete && untouched && *for_ns >= LIVE_NS => {
                Some(if stood {
                    "policy has allowed it all the time, and it didn't go on"
                } else {
                    "policy allows it, and a new one didn't come to its end"
                })
            }
            _ => None,
        };
        let expected = match (probe.expect, record.complete) {
            (Some(Verdict::Allow), false) => Some("expected to come to its end"),
            (Some(Verdict::Deny), _) if has_come => Some("expected to be denied"),
            _ => None,
        };
        record.asked = record.wrong.is_none() && wrong.is_none();
        let wrong = wrong.or(expected).map(ToOwned::to_owned);
        record.wrong = record.wrong.take().or(wrong);
        let stands = record.complete && !self.net.faults.corrupts();
        if let Some(it) = self.lasting.get_mut(name) {
            it.stands = stands;
        }
        self.note_revoked();
        Ok(())
    }
}
