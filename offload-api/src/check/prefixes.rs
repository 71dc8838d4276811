//! Prefixes: whose addresses are whose, and where.

use std::collections::BTreeSet;

use super::Check;
use crate::model::{IpPrefix, Place, Prefix};
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn prefixes(&self) -> Result<(), Refusal> {
        let endpoints = self.state.endpoints.values();
        let pods: BTreeSet<_> = endpoints.flat_map(|it| it.ips.iter().copied()).collect();
        for it in self.state.prefixes.values() {
            let key = Key::Prefix(it.prefix);
            let Some(identity) = self.state.identities.get(&it.identity) else {
                return self.dangling(key, "identity", Key::Identity(it.identity));
            };
            if let Some(domain) = identity.domain.clone() {
                let path = self.blame.reference(
                    (&key, "identity"),
                    Some((&Key::Identity(it.identity), "domain")),
                );
                let identity = it.identity;
                return Err(Refusal::new(
                    path,
                    RefusalReason::DomainHeld { identity, domain },
                ));
            }
            let remote_pod = matches!(it.place, Place::RemotePod(_)) && it.prefix == host(it);
            if it.pod_uid.is_some() && !remote_pod {
                let why = RefusalReason::PodUidNotThere;
                return self.fault(&Key::Prefix(it.prefix), "pod_uid", why);
            }
            match &it.place {
                Place::RemotePod(node) | Place::RemoteNode(node) => {
                    if !self.state.peers.contains_key(node) {
                        let field = match it.place {
                            Place::RemotePod(_) => "remote_pod",
                            _ => "remote_node",
                        };
                        let key = Key::Prefix(it.prefix);
                        return self.dangling(key, field, Key::Peer(node.clone()));
                    }
                }
                Place::LocalPod => {
                    if !pods.contains(&it.prefix.addr()) || it.prefix != host(it) {
                        return self.local_pod(it);
                    }
                }
                Place::LocalNode | Place::Outside | Place::ServiceVip | Place::Nobody => {}
            }
        }
        Ok(())
    }

    /// What is wrong with a local pod's prefix that is no endpoint's.
    fn local_pod(&self, it: &Prefix) -> Result<(), Refusal> {
        let key = Key::Prefix(it.prefix);
        let ip = it.prefix.addr();
        if it.prefix != host(it) {
            let len = it.prefix.len();
            return self.fault(&key, "prefix.len", RefusalReason::NotHost { len });
        }
        let had = self.blame.endpoint_before(ip);
        let to = had.as_ref().map(|endpoint| (endpoint, "ips"));
        let path = self.blame.reference((&key, "local_pod"), to);
        Err(Refusal::new(path, RefusalReason::NoLocalPod { ip }))
    }
}

fn host(it: &Prefix) -> IpPrefix {
    IpPrefix::host(it.prefix.addr())
}
