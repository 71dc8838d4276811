//! Endpoints: a pod, its VF and what it may call itself.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::{Check, Claim, Station, is_station};
use crate::limits::IPS_PER_ENDPOINT_MAX;
use crate::model::{Endpoint, IpPrefix, Place, PortKind};
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn endpoints(&self) -> Result<(), Refusal> {
        let mut ports = BTreeMap::new();
        for it in self.state.endpoints.values() {
            self.endpoint_port(it)?;
            let claim = Claim {
                key: Key::Endpoint(it.key()),
                field: "port".to_owned(),
                holder: it,
            };
            self.claim(&mut ports, &it.port, claim, |&holder| {
                let port = it.port.clone();
                let pod = holder.into();
                RefusalReason::PortTaken { port, pod }
            })?;
            self.endpoint_policy(it)?;
            self.endpoint_addresses(it)?;
        }
        Ok(())
    }

    fn endpoint_port(&self, it: &Endpoint) -> Result<(), Refusal> {
        let key = Key::Endpoint(it.key());
        let port_key = Key::Port(it.port.clone());
        let Some(port) = self.state.ports.get(&it.port) else {
            return self.dangling(key, "port", port_key);
        };
        if !matches!(port.kind, PortKind::Vf { .. }) {
            let path = self
                .blame
                .reference((&key, "port"), Some((&port_key, "vf")));
            let why = RefusalReason::PortNotVf {
                pod: it.pod.clone(),
                port: it.port.clone(),
            };
            return Err(Refusal::new(path, why));
        }
        if port.mac != it.mac {
            let path = self
                .blame
                .reference((&key, "mac"), Some((&port_key, "mac")));
            let why = RefusalReason::MacMismatch {
                pod: it.pod.clone(),
                mac: it.mac,
                port: it.port.clone(),
                port_mac: port.mac,
            };
            return Err(Refusal::new(path, why));
        }
        Ok(())
    }

    fn endpoint_policy(&self, it: &Endpoint) -> Result<(), Refusal> {
        let key = || Key::Endpoint(it.key());
        if !self.state.identities.contains_key(&it.identity) {
            return self.dangling(key(), "identity", Key::Identity(it.identity));
        }
        if !self.state.policies.contains_key(&it.policy) {
            return self.dangling(key(), "policy", Key::Policy(it.policy));
        }
        Ok(())
    }

    fn endpoint_addresses(&self, it: &Endpoint) -> Result<(), Refusal> {
        let key = Key::Endpoint(it.key());
        let (what, count, max) = ("addresses", it.ips.len(), IPS_PER_ENDPOINT_MAX);
        if count == 0 {
            return self.fault(&key, "ips", RefusalReason::NoIps);
        }
        if count > max {
            return self.fault(&key, "ips", RefusalReason::TooMany { what, count, max });
        }
        for (index, &ip) in it.ips.iter().enumerate() {
            let field = format!("ips[{index}]");
            if !is_station(ip) {
                return self.fault(&key, &field, RefusalReason::IpNotUnicast { ip });
            }
            self.endpoint_prefix(it, &key, &field, ip)?;
        }
        Ok(())
    }

    /// What everyone else goes by, the prefix, must say what the endpoint says: that the pod
    /// is here, and for the first address its identity. The others may have another one,
    /// where an `ipBlock` holds one family's address and not the other's.
    fn endpoint_prefix(
        &self,
        it: &Endpoint,
        key: &Key,
        field: &str,
        ip: IpAddr,
    ) -> Result<(), Refusal> {
        let host = IpPrefix::host(ip);
        let prefix_key = Key::Prefix(host);
        match self.state.prefixes.get(&host) {
            Some(prefix) if prefix.place == Place::LocalPod => {
                if prefix.identity == it.identity || it.ips.first() != Some(&ip) {
                    return Ok(());
                }
                let (from, to) = ((key, "identity"), (&prefix_key, "identity"));
                let path = self.blame.reference(from, Some(to));
                let why = RefusalReason::IdentityMismatch {
                    pod: it.pod.clone(),
                    endpoint: it.identity,
                    ip,
                    prefix: prefix.identity,
                };
                Err(Refusal::new(path, why))
            }
            _ => {
                let (from, to) = ((key, field), (&prefix_key, "place"));
                let path = self.blame.reference(from, Some(to));
                let pod = it.pod.clone();
                Err(Refusal::new(path, RefusalReason::NoLocalPrefix { pod, ip }))
            }
        }
    }

    /// The pods' addresses.
    pub(super) fn endpoint_ips(&self) -> impl Iterator<Item = (IpAddr, Claim<Station<'_>>)> {
        self.state.endpoints.values().flat_map(|it| {
            it.ips.iter().enumerate().map(|(index, &ip)| {
                let claim = Claim {
                    key: Key::Endpoint(it.key()),
                    field: format!("ips[{index}]"),
                    holder: Station::Pod(it),
                };
                (ip, claim)
            })
        })
    }
}
