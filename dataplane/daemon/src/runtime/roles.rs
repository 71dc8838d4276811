//! What an agent may touch: the ports of its own host, and each as what it is.

use sluice_offload_api::model::{PortKind, PortName};
use sluice_offload_api::refusal::RefusalReason;
use sluice_offload_api::{Object, Op, Refusal, Transaction};

use crate::config::{PortConfig, PortRole};

/// Refuses ports that the configuration doesn't have, or has as another kind: an agent that
/// made the uplink a VF would have its pod see every node's traffic.
///
/// # Errors
/// The first such operation, by its path.
pub(crate) fn check(tx: &Transaction, ports: &[PortConfig]) -> Result<(), Refusal> {
    for (index, op) in tx.ops.iter().enumerate() {
        let Op::Add(Object::Port(port)) = op else {
            continue;
        };
        let Some(ours) = ports.iter().find(|it| it.name == port.name) else {
            let known: Vec<PortName> = ports.iter().map(|it| it.name.clone()).collect();
            let why = RefusalReason::PortNotHere {
                port: port.name.clone(),
                known,
            };
            return Err(Refusal::new(format!("ops[{index}].add.port.name"), why));
        };
        let told = match port.kind {
            PortKind::Vf { .. } => PortRole::Vf,
            PortKind::Uplink { .. } => PortRole::Uplink,
            PortKind::Host => PortRole::Host,
        };
        if told != ours.kind {
            let (name, ours, told) = (&port.name, ours.kind.name(), told.name());
            let what = format!(
                "port {name} is configured as kind {ours}, not {told}; \
                 change the dataplane's configuration if that is wrong"
            );
            let path = format!("ops[{index}].add.port.{told}");
            return Err(Refusal::new(path, RefusalReason::Unsupported { what }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_offload_api::testing::sample;

    fn ports(uplink: PortRole) -> Vec<PortConfig> {
        let port = |name: &str, kind| PortConfig {
            name: name.into(),
            kind,
            device: "net_null0".to_owned(),
        };
        vec![
            port("uplink", uplink),
            port("host", PortRole::Host),
            port("vf0", PortRole::Vf),
            port("vf1", PortRole::Vf),
        ]
    }

    #[test]
    fn the_hosts_own_ports_pass() {
        assert_eq!(
            check(&sample().to_snapshot(), &ports(PortRole::Uplink)),
            Ok(())
        );
    }

    #[test]
    fn a_port_of_nobody_is_refused_by_its_name() {
        let mut few = ports(PortRole::Uplink);
        few.pop();
        let refusal = check(&sample().to_snapshot(), &few).unwrap_err();
        assert!(refusal.path.ends_with(".add.port.name"), "{}", refusal.path);
        assert!(refusal.to_string().contains("has no port vf1"), "{refusal}");
    }

    #[test]
    fn an_agent_can_not_make_a_port_another_kind() {
        let refusal = check(&sample().to_snapshot(), &ports(PortRole::Vf)).unwrap_err();
        assert!(
            refusal.path.ends_with(".add.port.uplink"),
            "{}",
            refusal.path
        );
        assert!(
            refusal.to_string().contains("configured as kind vf"),
            "{refusal}"
        );
    }
}
