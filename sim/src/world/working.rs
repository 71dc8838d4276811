//! Workloads: senders that have their own pace, all at once, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use sluice_dataplane_core::meta::{FragKind, FrameKind, NdKind, proto};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::{self, checksum};
use sluice_offload_api::model::{Protocol, Verdict};

use super::due::{Datagrams, Due};
use super::excuses::Excuses;
use super::lasting::Part;
use super::net::At;
use super::probing::Question;
use super::sockets::{Ends, Socket};
use super::{BreakError, IDLE_POLL_NS, World, WorldError};
use crate::dice::Dice;
use crate::probe::{Family, Party, Probe, ProbeError};
use crate::tcp::{Receiver, Sender};
use crate::workload::{Job, JobRecord, Meanwhile};

/// How long a workload may take, in virtual time.
const WORK_NS_MAX: u64 = 600 * Tick::SECOND;
/// How long answers to the last datagrams are waited for.
const LINGER_NS: u64 = 3 * Tick::SECOND;
/// Where an IP header is in a frame without a tag.
const IP_OFF: usize = 14;

/// A job under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) at: At,
    hop: IpAddr,
    /// The flow as the sender sees it, and where its other end is; of a capture one of its flows.
    pub(super) flow: Option<(Ends, Option<At>)>,
    /// What it does of a connection that goes on.
    pub(super) part: Option<Part>,
    /// What is to be sent.
    due: Due,
    /// When it was over.
    ended: Option<Tick>,
}

impl Running {
    pub(super) const fn of(at: At, hop: IpAddr, flow: (Ends, Option<At>)) -> Self {
        Self {
            at,
            hop,
            flow: Some(flow),
            part: None,
            due: Due::NOTHING,
            ended: None,
        }
    }

    /// Whether it is to send more, if it could.
    fn goes_on(&self, sender: &Sender, now: Tick) -> bool {
        let ended = sender.is_over() || sender.is_complete();
        !ended && self.part.as_ref().is_none_or(|it| it.until > now)
    }
}

/// Why jobs couldn't be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// One of them can't be begun.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The objects can't be as they are to be.
    #[error(transparent)]
    World(#[from] WorldError),
    /// What is to start anew can't.
    #[error(transparent)]
    Break(#[from] BreakError),
}

impl World {
    /// Has jobs done, all at once, and tells what came of each.
    ///
    /// # Errors
    /// [`ProbeError`] if one of them can't be begun; then none was.
    pub fn work(&mut self, jobs: &[Job]) -> Result<Vec<JobRecord>, ProbeError> {
        self.work_watched(jobs, &mut |_| {})
    }

    /// The same, and every now and then `glance` sees what went by until then.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn work_watched(
        &mut self,
        jobs: &[Job],
        glance: &mut dyn FnMut(&mut Self),
    ) -> Result<Vec<JobRecord>, ProbeError> {
        match self.do_jobs(jobs, Vec::new(), &mut |_| {}, glance) {
            Ok(records) => Ok(records),
            Err(WorkError::Probe(error)) => Err(error),
            // Nothing changes.
            Err(WorkError::World(_) | WorkError::Break(_)) => Ok(Vec::new()),
        }
    }

    /// The same while something else happens: what, by when in nanoseconds from now. Before each
    /// `look` sees what went by until then.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn work_under(
        &mut self,
        jobs: &[Job],
        changes: Vec<(u64, Meanwhile)>,
        look: &mut dyn FnMut(&mut Self),
    ) -> Result<Vec<JobRecord>, WorkError> {
        self.do_jobs(jobs, changes, look, &mut |_| {})
    }

    fn do_jobs(
        &mut self,
        jobs: &[Job],
        changes: Vec<(u64, Meanwhile)>,
        look: &mut dyn FnMut(&mut Self),
        glance: &mut dyn FnMut(&mut Self),
    ) -> Result<Vec<JobRecord>, WorkError> {
        for job in jobs {
            self.check(job)?;
        }
        let start = self.net.now;
        let excuses = self.excuses(&changes);
        let (mut running, mut before) = (Vec::new(), Vec::new());
        for (number, job) in jobs.iter().enumerate() {
            before.push(self.policy_on(job)?);
            running.push(self.begin(number, job)?);
        }
        let mut changes: Vec<_> = changes
            .into_iter()
            .map(|(at_ns, it)| (start + at_ns, it))
            .collect();
        // The next one last; of those at one time the first.
        changes.sort_by_key(|it| it.0);
        changes.reverse();
        let is_restart = |it: &(Tick, Meanwhile)| matches!(it.1, Meanwhile::Restart(_));
        let restarts = changes.iter().any(is_restart);
        self.run_jobs(start, &mut running, &mut changes, look, glance)?;
        self.settle();
        let (numbers, mut again): (Vec<_>, Vec<_>) = self
            .reopen(jobs, &running, (&before, &excuses))?
            .into_iter()
            .unzip();
        if !again.is_empty() {
            self.run_jobs(self.net.now, &mut again, &mut changes, look, glance)?;
            self.settle();
            for (number, run) in numbers.into_iter().zip(again) {
                if let Some(slot) = running.get_mut(number) {
                    *slot = run;
                }
            }
        }
        if restarts {
            self.wait_for_keys(1);
            self.bring_in_step()?;
        }
        let mut records = Vec::new();
        for ((job, run), before) in jobs.iter().zip(running).zip(before) {
            if !matches!(job, Job::Change { .. }) {
                records.push(self.record(job, run, (start, before), &excuses)?);
            }
        }
        Ok(records)
    }

    /// What policy says of a job as objects are now.
    fn policy_on(&self, job: &Job) -> Result<Option<Verdict>, ProbeError> {
        match job {
            Job::Tcp { probe, .. } | Job::Connection { probe, .. } | Job::Udp { probe, .. } => {
                Ok(Some(self.expected(probe)?.verdict))
            }
            Job::Pcap { .. } | Job::Change { .. } => Ok(None),
        }
    }

    fn check(&self, job: &Job) -> Result<(), ProbeError> {
        match job {
            Job::Change { .. } => Ok(()),
            Job::Tcp { probe, .. } | Job::Connection { probe, .. } | Job::Udp { probe, .. } => {
                self.question(probe).map(|_| ())
            }
            Job::Pcap { from, map, .. } => {
                let mut parties = map.values().chain([from]);
                parties.try_for_each(|it| self.addresses(it, None).map(|_| ()))
            }
        }
    }

    fn begin(&mut self, number: usize, job: &Job) -> Result<Option<Running>, ProbeError> {
        match job {
            Job::Tcp { probe, bytes } => self.begin_tcp(number, probe, *bytes),
            Job::Connection {
                name,
                probe,
                bytes,
                for_ns,
            } => self.begin_lasting(name, probe, *bytes, *for_ns),
            Job::Udp {
                probe,
                packets,
                every_ns,
                sizes,
                ..
            } => self.begin_udp(probe, *packets, *every_ns, sizes),
            Job::Pcap { from, frames, .. } => Ok(self.begin_pcap(job, from, frames)),
            Job::Change { .. } => Ok(None),
        }
    }

    /// Nobody answers what comes to a flow of the capture: if both ends' frames are sent, each
    /// is the other's answer.
    fn begin_pcap(
        &mut self,
        job: &Job,
        from: &Party,
        frames: &[(u64, Vec<u8>)],
    ) -> Option<Running> {
        let now = self.net.now;
        let rewritten = frames.iter().filter_map(|(ns, frame)| {
            let (spec, ends) = self.rewritten(job, frame)?;
            Some((now + *ns, spec, ends))
        });
        let rewritten: Vec<_> = rewritten.collect();
        let (_, first, ends) = rewritten.first()?;
        let question = Question {
            src: first.src,
            dst: first.dst,
            protocol: Protocol::Udp,
            port: None,
            family: Family::of(first.src),
        };
        let (at, ends) = (self.place_of(from, first.src)?, *ends);
        let hop = self.next_hop(at, &question);
        let station = self.station_at(at)?;
        for (_, _, ends) in &rewritten {
            station.open(*ends, Socket::Counts(0), hop, &[]);
        }
        let due = rewritten.into_iter().rev();
        Some(Running {
            due: Due::Frames(due.map(|(time, spec, _)| (time, spec)).collect()),
            ..Running::of(at, hop, (ends, None))
        })
    }

    /// The flow of a probe, where it begins, and who is asked for on its way.
    fn flow(
        &mut self,
        probe: &Probe,
        protocol: u8,
    ) -> Result<Option<(At, Ends, IpAddr)>, ProbeError> {
        let question = self.question(probe)?;
        let Some(at) = self.place_of(&probe.from, question.src) else {
            return Ok(None);
        };
        let port = self.fresh_port();
        let ends = Ends {
            protocol,
            local: (question.src, port),
            remote: (question.dst, question.port.unwrap_or(0)),
        };
        Ok(Some((at, ends, self.next_hop(at, &question))))
    }

    fn begin_tcp(
        &mut self,
        number: usize,
        probe: &Probe,
        bytes: u64,
    ) -> Result<Option<Running>, ProbeError> {
        let Some((at, ends, hop)) = self.flow(probe, proto::TCP)? else {
            return Ok(None);
        };
        let text = self.payload(probe, ends.local.0, ends.remote.0);
        let mut dice = Dice::new(self.config.seed, &format!("tcp {number} {}", self.asked));
        self.asked = self.asked.wrapping_add(1);
        let mut isn = || u32::try_from(dice.draw() >> 32).unwrap_or(0);
        let (ours, theirs) = (isn(), isn());
        let far = self.place_of(&probe.to, ends.remote.0);
        if let Some(station) = far.and_then(|far| self.station_at(far)) {
            let receiver = Socket::Receives(Box::new(Receiver::new(theirs, text)));
            // It says nothing first, so it never asks for anybody.
            station.open(ends.turned(), receiver, ends.local.0, text);
        }
        let now = self.net.now;
        let frames = self.station_at(at).map(|station| {
            station.sockets.now = now;
            let sender = Socket::Sends(Box::new(Sender::new(ours, bytes)));
            station.open(ends, sender, hop, text)
        });
        self.send_from(at, frames.unwrap_or_default());
        Ok(Some(Running::of(at, hop, (ends, far))))
    }

    fn begin_udp(
        &mut self,
        probe: &Probe,
        packets: u64,
        every_ns: u64,
        sizes: &[u16],
    ) -> Result<Option<Running>, ProbeError> {
        let Some((at, ends, hop)) = self.flow(probe, proto::UDP)? else {
            return Ok(None);
        };
        let text = self.payload(probe, ends.local.0, ends.remote.0);
        if let Some(station) = self.station_at(at) {
            station.open(ends, Socket::Counts(0), hop, text);
        }
        let body = Body::Udp {
            src_port: ends.local.1,
            dst_port: ends.remote.1,
        };
        let spec = FrameSpec::new(ends.local.0, ends.remote.0, body);
        let pace = (self.net.now, every_ns);
        let datagrams = Datagrams::new(spec, text, sizes, pace, packets);
        let due = Due::Datagrams(Box::new(datagrams));
        Ok(Some(Running {
            due,
            ..Running::of(at, hop, (ends, None))
        }))
    }

    /// A captured packet with the addresses of who stands in, and its checksums made anew: who
    /// captures what it sends itself often has none. None if it isn't from the one who sends,
    /// or can't be rewritten.
    fn rewritten(&self, job: &Job, frame: &[u8]) -> Option<(FrameSpec, Ends)> {
        let Job::Pcap { from, map, .. } = job else {
            return None;
        };
        let frame = &with_header_checksum(frame)?;
        let meta = wire::parse(frame).ok()?;
        let whole =
            meta.kind == FrameKind::Ip && meta.nd == NdKind::None && meta.frag == FragKind::Whole;
        let (src, dst): (IpAddr, IpAddr) = (meta.src.into(), meta.dst.into());
        if !whole || map.get(&src) != Some(from) {
            return None;
        }
        let mapped = |ip: IpAddr| match map.get(&ip) {
            None => Some(ip),
            Some(party) => {
                let ips = self.addresses(party, None).ok()?;
                ips.into_iter().find(|it| it.is_ipv4() == ip.is_ipv4())
            }
        };
        let (src, dst) = (mapped(src)?, mapped(dst)?);
        let transport = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end))?;
        let protocol = meta.protocol;
        let mut spec = FrameSpec::new(src, dst, Body::Other { protocol });
        spec.payload = transport.to_vec();
        let at = match protocol {
            proto::TCP => Some(16),
            proto::UDP => Some(6),
            _ => None,
        };
        if let Some(at) = at {
            let len = u32::try_from(transport.len()).ok()?;
            spec.payload.get_mut(at..at + 2)?.fill(0);
            let sum = checksum::pseudo(src.into(), dst.into(), protocol, len);
            let sum = match sum.bytes(&spec.payload).checksum() {
                0 if protocol == proto::UDP => 0xffff,
                sum => sum,
            };
            spec.payload
                .get_mut(at..at + 2)?
                .copy_from_slice(&sum.to_be_bytes());
        }
        let ends = Ends {
            protocol,
            local: (src, meta.src_port),
            remote: (dst, meta.dst_port),
        };
        Some((spec, ends))
    }

    /// Runs until all jobs are over. What is due is found by time, and not by asking each job:
    /// hundreds of them send thousands of packets a second.
    fn run_jobs(
        &mut self,
        start: Tick,
        running: &mut [Option<Running>],
        changes: &mut Vec<(Tick, Meanwhile)>,
        look: &mut dyn FnMut(&mut Self),
        glance: &mut dyn FnMut(&mut Self),
    ) -> Result<(), WorkError> {
        let end = start + WORK_NS_MAX;
        let mut idle_until = None;
        let mut polled = self.net.now;
        let mut due: BinaryHeap<Reverse<(Tick, usize)>> = BinaryHeap::new();
        let mut transfers = Vec::new();
        let mut counting = false;
        for (at, run) in running.iter_mut().enumerate() {
            let Some(run) = run else { continue };
            if matches!(self.socket(run), Some(Socket::Sends(_))) {
                transfers.push(at);
                continue;
            }
            counting = true;
            match run.due.next_at() {
                Some(time) => due.push(Reverse((time, at))),
                None => run.ended = Some(self.net.now),
            }
        }
        loop {
            while let Some(Reverse((time, at))) = due.peek().copied()
                && time <= self.net.now
            {
                due.pop();
                let Some(Some(run)) = running.get_mut(at) else {
                    continue;
                };
                self.send_due(run);
                match run.due.next_at() {
                    Some(time) => due.push(Reverse((time, at))),
                    None => run.ended = Some(self.net.now),
                }
            }
            if let Some((_, it)) = changes.pop_if(|it| it.0 <= self.net.now) {
                look(self);
                match it {
                    Meanwhile::Objects(cluster) => self.apply(cluster)?,
                    Meanwhile::Restart(program) => self.restart_meanwhile(&program)?,
                }
                continue;
            }
            let mut next = polled + IDLE_POLL_NS;
            let mut sending = false;
            if let Some((time, _)) = changes.last() {
                sending = true;
                next = next.min(*time);
            }
            if let Some(Reverse((time, _))) = due.peek() {
                sending = true;
                next = next.min(*time);
            }
            for at in &transfers {
                let Some(Some(run)) = running.get_mut(*at) else {
                    continue;
                };
                let now = self.net.now;
                let until = run.part.as_ref().map(|it| it.until);
                match self.socket(run) {
                    Some(Socket::Sends(sender)) if run.goes_on(sender, now) => {
                        sending = true;
                        let due = sender.deadline().into_iter().chain(until);
                        next = due.fold(next, Ord::min);
                    }
                    _ => {
                        run.ended.get_or_insert(now);
                    }
                }
            }
            // The last datagrams may still be answered.
            if !sending {
                let linger = if counting { LINGER_NS } else { 0 };
                let until = *idle_until.get_or_insert(self.net.now + linger);
                if self.net.now >= until || self.net.is_quiet() {
                    return Ok(());
                }
            }
            if self.net.now >= end {
                return Ok(());
            }
            self.deliver_until(next, &mut self.arrivals_max());
            self.net.now = next.max(self.net.now);
            // Whoever got a frame has worked already; timers have their own pace.
            if self.net.now.since(polled) >= IDLE_POLL_NS {
                polled = self.net.now;
                for node in &mut self.nodes {
                    node.poll(&mut self.net);
                }
                self.tend_keys();
                glance(self);
            }
            for at in &transfers {
                let Some(Some(run)) = running.get(*at) else {
                    continue;
                };
                if run.ended.is_some() && run.part.is_some() {
                    continue;
                }
                let (at, now) = (run.at, self.net.now);
                let frames = self.station_at(at).map(|it| it.on_time(now));
                self.send_from(at, frames.unwrap_or_default());
            }
        }
    }

    fn send_due(&mut self, run: &mut Running) {
        while run.due.next_at().is_some_and(|it| it <= self.net.now) {
            let Some(spec) = run.due.pop() else {
                return;
            };
            let frames = self.station_at(run.at).map(|it| it.send(spec, run.hop));
            self.send_from(run.at, frames.unwrap_or_default());
        }
    }

    fn socket(&mut self, run: &Running) -> Option<&Socket> {
        let (ends, _) = run.flow?;
        self.station_at(run.at)?.sockets.get(ends)
    }

    fn close(&mut self, at: At, ends: Ends) -> Option<Socket> {
        self.station_at(at)?.sockets.close(ends)
    }

    fn record(
        &mut self,
        job: &Job,
        run: Option<Running>,
        (start, before): (Tick, Option<Verdict>),
        excuses: &Excuses,
    ) -> Result<JobRecord, ProbeError> {
        let is_cut = excuses.cut(self.ends_of(job)?);
        let touched = is_cut || self.net.faults.hits != excuses.hits || !self.is_whole();
        let ended = run.as_ref().and_then(|it| it.ended).unwrap_or(self.net.now);
        let took_ns = ended.0.saturating_sub(start.0);
        let mut record = JobRecord {
            kind: "pcap",
            from: String::new(),
            to: None,
            port: None,
            bytes: 0,
            packets: 0,
            answered: None,
            skipped: None,
            took_ns,
            goodput_bps: None,
            complete: false,
            ok: true,
            wrong: None,
            asked: false,
        };
        match job {
            Job::Pcap { from, frames, .. } => {
                record.from = from.to_string();
                let sent = frames.iter().filter_map(|it| self.rewritten(job, &it.1));
                let sent: Vec<_> = sent.collect();
                if let Some(run) = &run {
                    record.packets = sent.len() as u64;
                    record.bytes = sent.iter().map(|it| it.0.payload.len() as u64).sum();
                    let came = sent.iter().map(|it| self.close(run.at, it.1));
                    let came = came.map(|it| match it {
                        Some(Socket::Counts(packets)) => packets,
                        _ => 0,
                    });
                    record.answered = Some(came.sum());
                }
                record.skipped = Some(frames.len() as u64 - record.packets);
                record.complete = run.is_some();
                if record.packets == 0 {
                    let text = "no frame of the capture is from an address that `map` gives to \
                                who sends";
                    record.wrong = Some(text.to_owned());
                }
            }
            Job::Change { .. } => {}
            Job::Tcp { probe, bytes } => {
                record.kind = "tcp";
                self.record_tcp(&mut record, *bytes, run.as_ref());
                self.judge_job(&mut record, probe, before, touched)?;
            }
            Job::Connection { .. } => {
                let run = (job, run.as_ref());
                self.record_lasting(&mut record, run, (before, excuses))?;
            }
            Job::Udp {
                probe,
                packets,
                may_lose,
                ..
            } => {
                record.kind = "udp";
                record.packets = *packets;
                let flow = run.as_ref().and_then(|it| Some((it.at, it.flow?.0)));
                let answered = match flow.and_then(|(at, ends)| self.close(at, ends)) {
                    Some(Socket::Counts(answered)) => answered,
                    _ => 0,
                };
                record.answered = Some(answered);
                record.complete = answered >= *packets;
                let policy = self.judge_job(&mut record, probe, before, touched)?;
                let stands = before == Some(policy);
                let lost = record.wrong.is_none() && answered > 0 && !record.complete;
                if lost && stands && !touched {
                    let lost = packets - answered;
                    record.wrong = Some(format!("{lost} were lost, and no fault is to blame"));
                }
                let lost = packets.saturating_sub(answered);
                if let Some(most) = may_lose.filter(|most| lost > *most)
                    && record.wrong.is_none()
                {
                    record.asked = true;
                    record.wrong = Some(format!("{lost} were lost, expected at most {most}"));
                }
            }
        }
        record.ok = record.wrong.is_none();
        Ok(record)
    }

    fn record_tcp(&mut self, record: &mut JobRecord, bytes: u64, run: Option<&Running>) {
        let Some((at, (ends, far))) = run.and_then(|it| Some((it.at, it.flow?))) else {
            return;
        };
        let receiver = far.and_then(|far| self.close(far, ends.turned()));
        let Some(Socket::Sends(sender)) = self.close(at, ends) else {
            return;
        };
        record.bytes = sender.acknowledged();
        record.packets = sender.sent_again();
        let whole = match receiver {
            Some(Socket::Receives(it)) => it.received() == bytes && it.is_intact(),
            _ => false,
        };
        record.complete = sender.is_complete() && whole;
        if sender.is_complete() && !whole {
            let text = "all was acknowledged, and something else arrived than was sent";
            record.wrong = Some(text.to_owned());
        }
        if record.complete {
            let bits = u128::from(bytes) * 8 * u128::from(Tick::SECOND);
            let bps = bits / u128::from(record.took_ns.max(1));
            record.goodput_bps = Some(u64::try_from(bps).unwrap_or(u64::MAX));
        }
    }

    /// What policy says of a job, and who asked for it, against what came of it; the first.
    fn judge_job(
        &self,
        record: &mut JobRecord,
        probe: &Probe,
        before: Option<Verdict>,
        touched: bool,
    ) -> Result<Verdict, ProbeError> {
        record.from = probe.from.to_string();
        record.to = Some(probe.to.to_string());
        record.port = self.question(probe)?.port;
        let policy = self.expected(probe)?.verdict;
        // Of what was allowed when it began, and is not any more, some came. That none came
        // after it was denied is for the oracles to say, who see the frames.
        let is_revoked = before == Some(Verdict::Allow) && policy == Verdict::Deny;
        let came = record.bytes > 0 || record.answered.is_some_and(|it| it > 0);
        let any = if is_revoked { record.complete } else { came };
        let wrong = match (policy, record.complete) {
            (Verdict::Deny, _) if any && !is_revoked => Some("policy denies it".to_owned()),
            (Verdict::Allow, false) if !touched && before == Some(Verdict::Allow) => {
                Some("policy allows it, and it didn't come to its end".to_owned())
            }
            _ => None,
        };
        let expected = match (probe.expect, record.complete) {
            (Some(Verdict::Allow), false) => Some("expected to come to its end".to_owned()),
            (Some(Verdict::Deny), _) if any => Some("expected to be denied".to_owned()),
            _ => None,
        };
        record.asked = record.wrong.is_none() && wrong.is_none();
        record.wrong = record.wrong.take().or(wrong).or(expected);
        Ok(policy)
    }
}

/// The frame with its IPv4 header's checksum made anew: a host that leaves it to its NIC
/// captures none.
fn with_header_checksum(frame: &[u8]) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    if v4 {
        let len = usize::from(frame.get(IP_OFF)? & 0xf) * 4;
        let header = frame.get_mut(IP_OFF..IP_OFF + len)?;
        header.get_mut(10..12)?.fill(0);
        let sum = checksum::of(header).to_be_bytes();
        header.get_mut(10..12)?.copy_from_slice(&sum);
    }
    Some(frame)
}
