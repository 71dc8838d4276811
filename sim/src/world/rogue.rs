//! A node whose dataplane is an attacker's: it has keys with the others, as any node has, and
//! says whatever it likes by them.

use std::net::IpAddr;

use sluice_crypto::esp::{
    ESP_HEADER_LEN, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, OutboundSa, Outer, Spi, Tunnel,
};
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, SaConfig};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::ethernet;
use sluice_offload_api::model::NodeName;

use super::plan::{self, MacOf};
use super::probing::PLAIN;
use super::stale::node_of;
use super::{At, World};
use crate::keys::SeedKeys;
use crate::probe::{Family, Party, Probe, ProbeError};
use crate::sighting::Way;

impl World {
    /// The node of who asks seals a packet that another node's pod is said to have sent, under
    /// a key that its peer has of it; how many stations it came to. Nothing is sent where the
    /// ends are one, or don't run.
    pub(super) fn rogue(&mut self, probe: &Probe, address_of: &Party) -> Result<usize, ProbeError> {
        let question = self.question(probe)?;
        let family = Family::of(question.dst);
        let src = self.address(address_of, family)?;
        let node = |it: &Party, world: &Self| {
            let party = super::probing::judged(it);
            node_of(&world.cluster, &party).cloned()
        };
        let ends = [&probe.from, &probe.to].map(|it| node(it, self));
        let [Some(from), Some(to)] = ends else {
            return Ok(0);
        };
        let runs = |name: &NodeName, world: &Self| {
            let at = world.nodes.iter().position(|it| it.is_named(&name.0))?;
            let it = world.nodes.get(at)?;
            (!it.dead && !it.stalled).then_some(at)
        };
        let (Some(rogue), Some(victim)) = (runs(&from, self), runs(&to, self)) else {
            return Ok(0);
        };
        if rogue == victim {
            return Ok(0);
        }
        let port = question.port.unwrap_or(0);
        let body = Body::Udp {
            src_port: self.fresh_port(),
            dst_port: port,
        };
        let mut spec = FrameSpec::new(src, question.dst, body);
        spec.payload = [PLAIN, format!(" rogue {}", self.asked).as_bytes()].concat();
        self.asked = self.asked.wrapping_add(1);
        let payload = spec.payload.clone();

        let before = self.sightings.len();
        if let Some((spi, frame)) = self.sealed(&spec, (&from, rogue), (&to, victim)) {
            let at = At::Dataplane(rogue, super::node::UPLINK);
            self.net.switch(at, frame.into());
            self.settle();
            let receiver = self.nodes.get_mut(victim);
            // Busy it is not: all that it was told it has done.
            receiver.map(|it| it.control.retire_inbound(spi));
        }
        let seen = self.sightings.get(before..).unwrap_or_default();
        let came = seen.iter().filter(|it| {
            it.way == Way::Delivered && it.frame.windows(payload.len()).any(|it| it == payload)
        });
        Ok(came.count())
    }

    /// A packet as its sender's node would seal it, under a key of its own that the receiver
    /// has. Nothing if the two are no peers.
    fn sealed(
        &mut self,
        spec: &FrameSpec,
        (from, rogue): (&NodeName, usize),
        (to, victim): (&NodeName, usize),
    ) -> Option<(Spi, Vec<u8>)> {
        let keys = SeedKeys::new(self.config.seed);
        let (algorithm, esn) = (self.config.algorithm, self.config.esn);
        let (name, number) = (format!("rogue {}", from.0), u32::try_from(self.asked).ok()?);
        let key = || keys.esp(algorithm, &name, &to.0, number).ok();
        let spi = keys.spi(&name, &to.0, number);
        let (src, dst) = self.nodes.get(rogue)?.control.outer_addresses(to)?;
        let config = SaConfig {
            spi,
            key: key()?,
            esn,
            window: ReplayWindow::DEFAULT,
            udp_encap: self.config.udp_encap,
            mode: Mode::Tunnel,
            child: Child::ONLY,
        };
        let receiver = self.nodes.get_mut(victim)?;
        receiver.control.install_inbound(from, config).ok()?;
        receiver.poll(&mut self.net);
        receiver.control.poll();

        let inner = spec.build().split_off(ethernet::HEADER_LEN);
        let mut esp = vec![0; OutboundSa::sealed_len(inner.len())];
        esp.get_mut(ESP_HEADER_LEN..ESP_HEADER_LEN + inner.len())?
            .copy_from_slice(&inner);
        let next_header = if spec.src.is_ipv4() {
            NEXT_HEADER_IPV4
        } else {
            NEXT_HEADER_IPV6
        };
        let mut sa = OutboundSa::new(spi, key()?, esn);
        sa.seal(&mut esp, inner.len(), next_header).ok()?;
        let outer = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Outer::V4 {
                src: src.octets(),
                dst: dst.octets(),
            },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Outer::V6 {
                src: src.octets(),
                dst: dst.octets(),
            },
            _ => return None,
        };
        let tunnel = Tunnel {
            outer,
            udp_encap: self.config.udp_encap,
        };
        let mut frame = FrameSpec::new(
            src,
            dst,
            Body::Other {
                protocol: proto::ESP,
            },
        );
        frame.eth_src = plan::mac(MacOf::Uplink(self.nodes.get(rogue)?.number));
        frame.eth_dst = plan::mac(MacOf::Uplink(self.nodes.get(victim)?.number));
        let mut bytes = frame.build();
        bytes.truncate(ethernet::HEADER_LEN);
        let mut header = vec![0; tunnel.header_len()];
        tunnel.write(&mut header, esp.len(), 0, true, 0).ok()?;
        bytes.extend(header);
        bytes.extend(esp);
        Some((spi, bytes))
    }
}
