//! The step `workload`: who sends what, all at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{Protocol, Verdict};

use super::changes::ApplyEntry;
use super::probes::{PortEntry, check_port};
use super::scenario::Delete;
use super::{Beside, InputError, Place, parse_party};
use crate::fault::{Program, Span};
use crate::pcap;
use crate::probe::{Family, Probe};
use crate::workload::{BYTES_MAX, Change, FRAME_SIZES, IMIX, JOBS_MAX, Job, PACKETS_MAX};

/// Datagrams a second, at most: as many as nanoseconds of a step's clock tell apart.
const RATE_MAX: u64 = 10_000_000;

/// A job as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JobEntry {
    Tcp(TcpEntry),
    Connection(ConnectionEntry),
    Udp(UdpEntry),
    Pcap(PcapEntry),
    Change(ChangeEntry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpEntry {
    from: String,
    to: String,
    port: PortEntry,
    family: Option<Family>,
    bytes: u64,
    expect: Option<Verdict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionEntry {
    name: String,
    from: String,
    to: String,
    port: PortEntry,
    family: Option<Family>,
    bytes: u64,
    #[serde(rename = "for")]
    span: Span,
    expect: Option<Verdict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UdpEntry {
    from: String,
    to: String,
    port: PortEntry,
    family: Option<Family>,
    packets: u64,
    /// Packets a second.
    rate: u64,
    sizes: Sizes,
    may_lose: Option<u64>,
    expect: Option<Verdict>,
}

/// Frame sizes: one, several in turn, or IMIX.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a frame size, a list of them, or imix")]
enum Sizes {
    One(u16),
    Several(Vec<u16>),
    Named(Named),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Imix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeEntry {
    at: Span,
    apply: Option<ApplyEntry>,
    delete: Option<Delete>,
    restart: Option<Program>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PcapEntry {
    file: String,
    from: String,
    map: BTreeMap<IpAddr, String>,
}

/// The jobs of a step.
pub(super) fn check(
    entries: Vec<JobEntry>,
    place: &Place,
    beside: &dyn Beside,
) -> Result<Vec<Job>, InputError> {
    let count = entries.len();
    if !(1..=JOBS_MAX).contains(&count) {
        return Err(place.fault(format!("a workload has 1 to {JOBS_MAX} jobs, not {count}")));
    }
    let jobs = entries.into_iter().map(|it| match it {
        JobEntry::Tcp(it) => it.check(place),
        JobEntry::Connection(it) => it.check(place),
        JobEntry::Udp(it) => it.check(place),
        JobEntry::Pcap(it) => it.check(place, beside),
        JobEntry::Change(it) => it.check(place, beside),
    });
    jobs.collect()
}

fn within(place: &Place, what: &str, number: u64, max: u64) -> Result<u64, InputError> {
    if (1..=max).contains(&number) {
        return Ok(number);
    }
    Err(place.fault(format!("{what} is {number}; write 1 to {max}")))
}

fn probe(
    place: &Place,
    (from, to): (&str, &str),
    (protocol, port): (Protocol, PortEntry),
    family: Option<Family>,
    expect: Option<Verdict>,
) -> Result<Probe, InputError> {
    check_port(protocol, Some(&port), place)?;
    let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
    Ok(Probe {
        from: party(from)?,
        to: party(to)?,
        from_network: None,
        to_network: None,
        protocol,
        port: Some(port.0),
        family,
        source_port: None,
        expect,
    })
}

impl TcpEntry {
    fn check(self, place: &Place) -> Result<Job, InputError> {
        let ends = (self.from.as_str(), self.to.as_str());
        let what = (Protocol::Tcp, self.port);
        Ok(Job::Tcp {
            probe: probe(place, ends, what, self.family, self.expect)?,
            bytes: within(place, "bytes", self.bytes, BYTES_MAX)?,
        })
    }
}

impl ConnectionEntry {
    fn check(self, place: &Place) -> Result<Job, InputError> {
        let ends = (self.from.as_str(), self.to.as_str());
        let what = (Protocol::Tcp, self.port);
        if self.name.is_empty() {
            return Err(
                place.fault("a connection has a name; the next job goes on with it by that")
            );
        }
        Ok(Job::Connection {
            name: self.name,
            probe: probe(place, ends, what, self.family, self.expect)?,
            bytes: within(place, "bytes", self.bytes, BYTES_MAX)?,
            for_ns: self.span.ns,
        })
    }
}

impl UdpEntry {
    fn check(self, place: &Place) -> Result<Job, InputError> {
        let sizes = match self.sizes {
            Sizes::One(size) => vec![size],
            Sizes::Several(sizes) => sizes,
            Sizes::Named(Named::Imix) => IMIX.to_vec(),
        };
        if sizes.is_empty() || !sizes.iter().all(|it| FRAME_SIZES.contains(it)) {
            let (least, most) = (FRAME_SIZES.start(), FRAME_SIZES.end());
            return Err(place.fault(format!("frame sizes are {least} to {most} bytes, or imix")));
        }
        let ends = (self.from.as_str(), self.to.as_str());
        let what = (Protocol::Udp, self.port);
        let rate = within(place, "rate", self.rate, RATE_MAX)?;
        Ok(Job::Udp {
            probe: probe(place, ends, what, self.family, self.expect)?,
            packets: within(place, "packets", self.packets, PACKETS_MAX)?,
            every_ns: Tick::SECOND / rate,
            sizes,
            may_lose: self.may_lose,
        })
    }
}

impl ChangeEntry {
    fn check(self, place: &Place, beside: &dyn Beside) -> Result<Job, InputError> {
        let change = match (self.apply, self.delete, self.restart) {
            (Some(entry), None, None) => Change::Apply(entry.read(place, beside)?.1),
            (None, Some(delete), None) => Change::Delete(delete),
            (None, None, Some(program)) => Change::Restart(program),
            _ => {
                let text = "a change has either `apply`, `delete` or `restart`";
                return Err(place.fault(text.to_owned()));
            }
        };
        Ok(Job::Change {
            at_ns: self.at.ns,
            change: Box::new(change),
        })
    }
}

impl PcapEntry {
    fn check(self, place: &Place, beside: &dyn Beside) -> Result<Job, InputError> {
        let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
        let name = &self.file;
        let bytes = beside.capture(name);
        let bytes = bytes.map_err(|error| place.fault(format!("can't read {name}: {error}")))?;
        let read = pcap::read_timed(&bytes);
        let read = read.map_err(|error| place.fault(format!("{name}: {error}")))?;
        within(
            place,
            "the number of the capture's frames",
            read.len() as u64,
            PACKETS_MAX,
        )?;
        let first = read.iter().map(|it| it.0).min().unwrap_or(0);
        let mut frames: Vec<_> = read
            .into_iter()
            .map(|(ns, frame)| (ns - first, frame.to_vec()))
            .collect();
        // Captures of several queues are not always in order.
        frames.sort_by_key(|it| it.0);
        let from = party(&self.from)?;
        let entries = self.map.iter();
        let map = entries.map(|(ip, text)| Ok((*ip, party(text)?)));
        let map: BTreeMap<_, _> = map.collect::<Result<_, InputError>>()?;
        if !map.values().any(|it| *it == from) {
            let text = format!("map gives no address of the capture to {from}, who sends");
            return Err(place.fault(text));
        }
        Ok(Job::Pcap { from, frames, map })
    }
}
