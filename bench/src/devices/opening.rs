//! The opening half: ESP out of a `net_pcap` that repeats itself, for a pod that is a `net_null`.
//!
//! What comes round again would be a replay. So after each round of the file, while nothing comes
//! and off the clock, the receiving SA is taken out and put in again with no number seen. Within a
//! round every packet has a number of its own, and the window is asked about it and told.

use anyhow::ensure;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dataplane_core::reason::DropReason;

use super::{Node, Spans, open, source, start_jumbo};
use crate::bed::{self, Agreed, Side, UPLINK, VF0};

/// Frames of a round are a multiple of this: whole bursts, of each size and each number of flows as
/// often.
pub(crate) const ROUND: usize = 192;
/// Polls without frames in which the SA is replaced.
const QUIET_POLLS: u8 = 2;

/// Nanoseconds a packet of wire to pod in each of some spans, for a round of ESP frames, which an SA
/// opens that has seen none.
///
/// # Errors
/// As of [`super::walk`].
pub(crate) fn opening(
    frames: &[Vec<u8>],
    agreed: Agreed,
    spans: Spans,
) -> anyhow::Result<Vec<f64>> {
    ensure!(
        !frames.is_empty() && frames.len().is_multiple_of(ROUND),
        "{} frames are no whole rounds",
        frames.len()
    );
    let (eal, pool) = start_jumbo()?;
    let (_, uplink) = source(&eal, &pool, "4", frames)?;
    let (_, pod) = open(&eal, &pool, "net_null40,no-rx=1")?;
    let (_, other) = open(&eal, &pool, "net_null41,no-rx=1")?;
    let mut node = Node::over(&pool, [uplink, pod, other], agreed)?;
    // It learns who it is, then the other's MAC.
    node.polls(usize::from(super::QUIET_POLLS));
    let mut failed = None;
    let all = spans.measure(frames.len(), || {
        let spent = node.polls(frames.len() / BURST_MAX);
        let renewed = node.renew(agreed);
        failed = failed.take().or(renewed.err());
        spent
    });
    failed.map_or(Ok(()), Err)?;
    node.check_opened()?;
    Ok(all)
}

impl Node {
    /// Puts an SA that has seen no packet in the receiving one's place, while no frames come.
    fn renew(&mut self, agreed: Agreed) -> anyhow::Result<()> {
        let commands = &mut self.handle.commands;
        while commands.next_reply().is_some() {}
        let retire = Command::RetireInbound(Side::A.spi());
        let install = Command::InstallInbound(bed::inbound(Side::A, agreed));
        for command in [retire, install] {
            let sent = commands.send(command);
            ensure!(sent.is_ok(), "the worker has too many commands");
        }
        for port in self.worker.ports_mut() {
            port.quiet = QUIET_POLLS;
        }
        self.polls(usize::from(QUIET_POLLS));
        let commands = &mut self.handle.commands;
        let (retired, installed) = (commands.next_reply(), commands.next_reply());
        ensure!(
            matches!(retired, Some(Reply::InboundRetired(_, Some(_))))
                && matches!(installed, Some(Reply::InboundInstalled(_))),
            "the SA was not replaced: {retired:?}, {installed:?}"
        );
        Ok(())
    }

    /// Every frame from the wire was opened and went to the pod, but for the other node's answer.
    fn check_opened(&self) -> anyhow::Result<()> {
        let counters = &self.handle.counters;
        let wire = counters.port(UPLINK);
        let (came, opened) = (wire.rx.read() - 1, counters.opened.read());
        let dropped = DropReason::ALL.iter().filter(|r| wire.dropped(**r) > 0);
        let reasons: Vec<_> = dropped.map(|reason| reason.name()).collect();
        let went = [wire.forwarded.read(), counters.port(VF0).tx.read()];
        ensure!(
            came > 0 && opened == came && went == [came, came],
            "of {came} frames {opened} were opened and {went:?} went on, dropped: {reasons:?}"
        );
        Ok(())
    }
}
