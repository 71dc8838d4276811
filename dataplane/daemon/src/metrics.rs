//! The dataplane's numbers in Prometheus' text format (version 0.0.4).

use core::fmt::Write;

use sluice_dataplane_core::counters::Counters;
use sluice_offload_api::model::{Fill, PortCounters, SaDirection, SaRecord, Status};

use crate::runtime::{LoopStats, Vitals};

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    pub(crate) status: &'a Status,
    pub(crate) ports: &'a [PortCounters],
    pub(crate) sas: &'a [SaRecord],
    pub(crate) vitals: &'a Vitals,
    pub(crate) counters: &'a Counters,
    pub(crate) stats: &'a LoopStats,
    pub(crate) channel: Option<&'a sluice_node_channel::Status>,
}

/// The text.
pub(crate) fn render(numbers: &Numbers<'_>) -> String {
    let mut page = Page(String::new());
    page.ports(numbers.ports);
    page.devices(numbers);
    page.flows(numbers);
    page.sas(numbers.sas);
    page.clear(numbers.counters);
    page.worker(numbers);
    page.state(numbers);
    if let Some(channel) = numbers.channel {
        page.channel(channel);
    }
    page.0
}

struct Page(String);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn by_port(
        &mut self,
        ports: &[PortCounters],
        name: &str,
        kind: Kind,
        help: &str,
        of: impl Fn(&PortCounters) -> u64,
    ) {
        self.family(name, kind, help);
        for port in ports {
            self.sample(name, &[("port", &port.port.0)], of(port));
        }
    }

    fn ports(&mut self, ports: &[PortCounters]) {
        use Kind::{Counter, Gauge};
        type Row = (&'static str, Kind, &'static str, fn(&PortCounters) -> u64);
        let rows: [Row; 8] = [
            (
                "sluice_port_rx_frames_total",
                Counter,
                "Frames received.",
                |p| p.rx_frames,
            ),
            (
                "sluice_port_rx_bytes_total",
                Counter,
                "Bytes received.",
                |p| p.rx_bytes,
            ),
            (
                "sluice_port_tx_frames_total",
                Counter,
                "Frames sent.",
                |p| p.tx_frames,
            ),
            ("sluice_port_tx_bytes_total", Counter, "Bytes sent.", |p| {
                p.tx_bytes
            }),
            (
                "sluice_port_forwarded_frames_total",
                Counter,
                "Received frames that left by some port.",
                |p| p.forwarded,
            ),
            (
                "sluice_port_consumed_frames_total",
                Counter,
                "Received frames for the dataplane itself: ARP, ND.",
                |p| p.consumed,
            ),
            (
                "sluice_port_originated_frames_total",
                Counter,
                "Sent frames that are the dataplane's own.",
                |p| p.originated,
            ),
            (
                "sluice_port_waiting_frames",
                Gauge,
                "Received frames that wait for a next hop or for their first fragment.",
                |p| p.waiting,
            ),
        ];
        for (name, kind, help, of) in rows {
            self.by_port(ports, name, kind, help, of);
        }
        let name = "sluice_port_shadow_verdicts_total";
        let help = "Verdicts on flows of the port's pod that policies in shadow mode would turn.";
        self.family(name, Counter, help);
        for port in ports {
            let turned = [
                ("deny", port.shadow_would_deny),
                ("allow", port.shadow_would_allow),
            ];
            for (would, verdicts) in turned {
                let labels = [("port", port.port.0.as_str()), ("would", would)];
                self.sample(name, &labels, verdicts);
            }
        }
        let name = "sluice_port_drops_total";
        self.family(name, Counter, "Received frames dropped, by reason.");
        for port in ports {
            for drop in &port.drops {
                let labels = [
                    ("port", port.port.0.as_str()),
                    ("reason", drop.reason.as_str()),
                ];
                self.sample(name, &labels, drop.frames);
            }
        }
    }

    fn devices(&mut self, numbers: &Numbers<'_>) {
        self.family(
            "sluice_port_link_up",
            Kind::Gauge,
            "Whether the link is up.",
        );
        for port in &numbers.status.ports {
            self.sample(
                "sluice_port_link_up",
                &[("port", &port.name.0)],
                port.link_up.into(),
            );
        }
        if numbers.vitals.lost.is_empty() {
            return;
        }
        let name = "sluice_device_lost_frames_total";
        let help = "Frames that the device lost outside the walk, which judged none of them.";
        self.family(name, Kind::Counter, help);
        for (port, lost) in numbers.status.ports.iter().zip(&numbers.vitals.lost) {
            for (way, frames) in [("rx", lost.rx), ("tx", lost.tx)] {
                self.sample(name, &[("port", &port.name.0), ("direction", way)], frames);
            }
        }
    }

    fn flows(&mut self, numbers: &Numbers<'_>) {
        let flows = numbers.status.flows;
        self.one("sluice_flows", Kind::Gauge, "Flows in the table.", flows);
        let name = "sluice_flow_lookups_total";
        self.family(name, Kind::Counter, "Frames by what the flow table said.");
        let outcomes = ["hit", "miss", "stale"];
        for (outcome, frames) in outcomes.into_iter().zip(numbers.vitals.flow_outcomes) {
            self.sample(name, &[("outcome", outcome)], frames);
        }
        self.one(
            "sluice_flows_evicted_total",
            Kind::Counter,
            "Half-open flows that made room for new ones.",
            numbers.counters.flows_evicted.read(),
        );
        self.names(numbers.counters);
        let name = "sluice_verdicts_left_out_total";
        self.family(
            name,
            Kind::Counter,
            "Verdicts that were not logged, by why.",
        );
        let lost = numbers.counters.verdicts_lost.read();
        self.sample(name, &[("why", "ring-full")], lost);
        self.sample(name, &[("why", "rate")], numbers.vitals.verdicts_suppressed);
    }

    fn clear(&mut self, counters: &Counters) {
        let rows = [
            (
                "sluice_clear_packets_total",
                "Packets that left for other nodes, or came and were delivered, in clear.",
                [&counters.clear_sent, &counters.clear_received],
            ),
            (
                "sluice_clear_bytes_total",
                "Their bytes, from the IP header on.",
                [&counters.clear_sent_bytes, &counters.clear_received_bytes],
            ),
        ];
        for (name, help, counters) in rows {
            self.family(name, Kind::Counter, help);
            for (way, counter) in ["sent", "received"].into_iter().zip(counters) {
                self.sample(name, &[("direction", way)], counter.read());
            }
        }
    }

    fn names(&mut self, counters: &Counters) {
        self.one(
            "sluice_names",
            Kind::Gauge,
            "Addresses that pods know by the domain names of policies.",
            counters.names.read(),
        );
        self.one(
            "sluice_names_left_out_total",
            Kind::Counter,
            "Addresses by domain names that there was no room for.",
            counters.names_full.read(),
        );
        let name = "sluice_dns_answers_total";
        self.family(
            name,
            Kind::Counter,
            "Answers of resolvers to pods whose policy names domains, by what became of them.",
        );
        for (outcome, counter) in [
            ("learned", &counters.names_learned),
            ("malformed", &counters.names_malformed),
            ("unasked", &counters.names_unasked),
        ] {
            self.sample(name, &[("outcome", outcome)], counter.read());
        }
    }

    fn sas(&mut self, sas: &[SaRecord]) {
        let way = |sa: &SaRecord| match sa.direction {
            SaDirection::Inbound => "inbound",
            SaDirection::Outbound => "outbound",
        };
        let count = |direction| sas.iter().filter(|sa| sa.direction == direction).count() as u64;
        self.family(
            "sluice_sas",
            Kind::Gauge,
            "ESP security associations in force.",
        );
        self.sample(
            "sluice_sas",
            &[("direction", "inbound")],
            count(SaDirection::Inbound),
        );
        self.sample(
            "sluice_sas",
            &[("direction", "outbound")],
            count(SaDirection::Outbound),
        );
        type Row = (&'static str, &'static str, fn(&SaRecord) -> u64);
        let rows: [Row; 2] = [
            (
                "sluice_sa_packets",
                "Packets through an SA; gone with it.",
                |sa| sa.packets,
            ),
            (
                "sluice_sa_bytes",
                "Inner bytes through an SA; gone with it.",
                |sa| sa.bytes,
            ),
        ];
        for (name, help, of) in rows {
            self.family(name, Kind::Gauge, help);
            for sa in sas {
                let spi = format!("0x{:08x}", sa.spi);
                let peer = sa.peer.as_ref().map_or("", |it| it.0.as_str());
                let labels = [
                    ("direction", way(sa)),
                    ("peer", peer),
                    ("spi", spi.as_str()),
                ];
                self.sample(name, &labels, of(sa));
            }
        }
    }

    fn worker(&mut self, numbers: &Numbers<'_>) {
        let (stats, counters) = (numbers.stats, numbers.counters);
        let rows = [
            (
                "sluice_sealed_frames_total",
                "Frames sealed.",
                &counters.sealed,
            ),
            (
                "sluice_opened_frames_total",
                "Frames opened.",
                &counters.opened,
            ),
            (
                "sluice_handed_frames_total",
                "Frames that one worker handed to the owner of their flow or SA.",
                &counters.handed,
            ),
            (
                "sluice_news_lost_total",
                "Neighbours and names that one worker could not tell another.",
                &counters.news_lost,
            ),
            (
                "sluice_worker_polls_total",
                "Polls of all ports.",
                &stats.polls,
            ),
            (
                "sluice_worker_bursts_total",
                "Polls that found frames.",
                &stats.bursts,
            ),
            (
                "sluice_worker_frames_total",
                "Frames in bursts.",
                &stats.frames,
            ),
            (
                "sluice_worker_busy_ns_total",
                "Time in bursts, nanoseconds.",
                &stats.busy_ns,
            ),
            (
                "sluice_worker_sleeps_total",
                "Sleeps of an idle worker.",
                &stats.sleeps,
            ),
            (
                "sluice_worker_slept_ns_total",
                "Time asleep, nanoseconds.",
                &stats.slept_ns,
            ),
        ];
        for (name, help, counter) in rows {
            self.one(name, Kind::Counter, help, counter.read());
        }
    }

    fn channel(&mut self, channel: &sluice_node_channel::Status) {
        let bad = u64::from(channel.identity_error.is_some());
        let help = "Whether this node's certificate, key or anchors can't be used, or be had anew.";
        self.one("sluice_channel_identity_fault", Kind::Gauge, help, bad);
        if let Some(at) = channel.svid_not_after {
            let help = "When this node's certificate expires, in seconds since 1970.";
            let name = "sluice_channel_svid_expires_timestamp_seconds";
            self.one(name, Kind::Gauge, help, at);
        }
        let name = "sluice_channel_refused_total";
        self.family(
            name,
            Kind::Counter,
            "Node channel connections refused or ended, by why.",
        );
        for (why, count) in &channel.refused {
            self.sample(name, &[("why", why)], *count);
        }
        type Row = (
            &'static str,
            Kind,
            &'static str,
            fn(&sluice_node_channel::PeerStatus) -> u64,
        );
        let rows: [Row; 5] = [
            (
                "sluice_channel_bindings",
                Kind::Gauge,
                "Addresses that the peer announced.",
                |it| u64::try_from(it.bindings).unwrap_or(u64::MAX),
            ),
            (
                "sluice_channel_connected",
                Kind::Gauge,
                "Whether a session is in use.",
                |it| it.connected.into(),
            ),
            (
                "sluice_channel_post_quantum",
                Kind::Gauge,
                "Whether its keys come of X25519MLKEM768.",
                |it| it.post_quantum.into(),
            ),
            (
                "sluice_channel_epochs_total",
                Kind::Counter,
                "Epochs that came into use both ways.",
                |it| it.established,
            ),
            (
                "sluice_channel_dial_failures_total",
                Kind::Counter,
                "Dials that came to nothing.",
                |it| it.dial_failures,
            ),
        ];
        for (name, kind, help, of) in rows {
            self.family(name, kind, help);
            for (node, peer) in &channel.peers {
                self.sample(name, &[("peer", &node.0)], of(peer));
            }
        }
    }

    fn state(&mut self, numbers: &Numbers<'_>) {
        let (status, vitals) = (numbers.status, numbers.vitals);
        let generation = status.generation.0;
        self.one(
            "sluice_generation",
            Kind::Gauge,
            "The generation in force.",
            generation,
        );
        let name = "sluice_lease";
        self.family(name, Kind::Gauge, "Whether an agent is there.");
        use sluice_offload_api::model::Lease::{Expired, Held, Never};
        for (text, lease) in [("never", Never), ("held", Held), ("expired", Expired)] {
            self.sample(name, &[("state", text)], u64::from(status.lease == lease));
        }
        let fault = u64::from(vitals.checkpoint_fault.is_some());
        let help = "Whether the checkpoint could not be used or written.";
        self.one("sluice_checkpoint_fault", Kind::Gauge, help, fault);
        self.one(
            "sluice_uptime_ms",
            Kind::Gauge,
            "Time since the start.",
            status.uptime_ms,
        );
        let full = &status.capacity;
        let kinds: [(&str, Fill); 7] = [
            ("ports", full.ports),
            ("endpoints", full.endpoints),
            ("identities", full.identities),
            ("prefixes", full.prefixes),
            ("policies", full.policies),
            ("rows", full.rows),
            ("peers", full.peers),
        ];
        for (name, help, of) in [
            (
                "sluice_objects",
                "Objects in force.",
                (|it: Fill| it.used) as fn(Fill) -> u32,
            ),
            ("sluice_objects_max", "Objects that fit.", |it: Fill| it.max),
        ] {
            self.family(name, Kind::Gauge, help);
            for (kind, fill) in kinds {
                self.sample(name, &[("kind", kind)], of(fill).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_not_break_out_of_its_quotes() {
        let mut page = Page(String::new());
        page.sample("x", &[("port", "a\"b\\c\nd")], 1);
        assert_eq!(page.0, "x{port=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
