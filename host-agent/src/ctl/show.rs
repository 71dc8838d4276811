//! What the agent answered, for people.

use core::fmt::Write as _;

use sluice_offload_api::model::{Action, Tier, Verdict};

use super::table::table;
use crate::agent::{Disposition, PolicyTable, PolicyView, Trace, TraceSide, VfView};
use crate::local::{
    DropsView, FlowsView, MatrixView, NameView, PairEndView, PairView, SaView, StatusView,
};

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

pub(super) fn status(it: &StatusView) -> String {
    let agent = &it.agent;
    let number = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let mut out = format!(
        "node {}: {}, {}\n",
        agent.node,
        if agent.connected {
            "connected"
        } else {
            "not connected"
        },
        if agent.settled {
            "in step"
        } else {
            "not in step"
        },
    );
    let mut rows = vec![
        [
            "generation".to_owned(),
            number(agent.generation),
            agent
                .in_flight
                .map_or_else(String::new, |it| format!("{it} is on its way")),
        ],
        [
            "manifests".to_owned(),
            format!("{} pods, {} policies", agent.pods, agent.policies),
            format!(
                "taken {} times, at fault {} times",
                it.source.loads, it.source.faults
            ),
        ],
        [
            "VFs".to_owned(),
            agent.vfs.to_string(),
            format!(
                "{} attached, {} of them closed",
                agent.attached, agent.closed
            ),
        ],
    ];
    if let Some(dataplane) = &it.dataplane {
        let down = match dataplane.links_down.as_slice() {
            [] => String::new(),
            down => format!(", links down: {}", down.join(", ")),
        };
        rows.push([
            "dataplane".to_owned(),
            dataplane.version.clone(),
            format!(
                "generation {}, lease {}, {} workers, {} flows{down}",
                dataplane.generation, dataplane.lease, dataplane.workers, dataplane.flows
            ),
        ]);
    }
    if let Some(log) = &it.verdict_log {
        rows.push([
            "verdict log".to_owned(),
            format!("{} lines", log.written),
            format!(
                "{} suppressed, {} lost, {} not written",
                log.suppressed, log.lost, log.failed
            ),
        ]);
    }
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    let text = table(&["", "", ""], &rows);
    // The empty head is one line.
    out.push_str(text.split_once('\n').map_or("", |(_, rest)| rest));
    for note in &it.source.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for it in &agent.shadow {
        let _ = writeln!(out, "shadow: {it} is counted and not enforced");
    }
    for it in &agent.problems {
        let _ = writeln!(out, "problem: {}: {}; {}", it.part, it.text, it.meanwhile);
    }
    out
}

pub(super) fn vfs(list: &[VfView]) -> String {
    let row = |it: &VfView| {
        let mut row = vec![it.port.to_string(), it.index.to_string(), it.mac.clone()];
        match &it.pod {
            None => row.extend(["-", "-", "closed", "free"].map(str::to_owned)),
            Some(pod) => {
                let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
                let open = if pod.open { "open" } else { "closed" };
                let on = pod.network.as_ref();
                let on = on.map_or_else(String::new, |it| format!("@{} ({it})", pod.ifname));
                row.extend([
                    format!("{}{on}", pod.pod),
                    ips.join(","),
                    open.to_owned(),
                    pod.standing.clone(),
                ]);
            }
        }
        row
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(
        &["PORT", "VF", "MAC", "POD", "ADDRESSES", "IS", "STANDING"],
        &rows,
    )
}

pub(super) fn policies(list: &[PolicyView]) -> String {
    let mut out = String::new();
    for it in list {
        let _ = writeln!(
            out,
            "{}{} on {}, identity {} {}, table {}",
            it.pod,
            if it.interface.is_empty() {
                String::new()
            } else {
                format!("@{}", it.interface)
            },
            it.port,
            it.identity,
            it.label,
            it.table.id
        );
        policy_table(&mut out, &it.table);
        if let Some(shadow) = &it.table.shadow {
            out.push_str("counted and not enforced, were its shadow policies in force:\n");
            policy_table(&mut out, shadow);
        }
    }
    if list.is_empty() {
        out.push_str("no pod of this node has a table in force\n");
    }
    out
}

fn policy_table(out: &mut String, it: &PolicyTable) {
    let row = |it: &crate::agent::RowView| {
        vec![
            direction(it.direction).to_owned(),
            tier(it.tier).to_owned(),
            it.peer.clone(),
            it.protocol.clone(),
            it.ports.clone(),
            action(it.action).to_owned(),
            it.rule.clone(),
        ]
    };
    let rows: Vec<_> = it.rows.iter().map(row).collect();
    let head = [
        "WAY", "TIER", "PEER", "PROTOCOL", "PORTS", "VERDICT", "RULE",
    ];
    out.push_str(&table(&head, &rows));
    let _ = writeln!(out, "otherwise ingress: {}", it.ingress);
    let _ = writeln!(out, "otherwise egress: {}\n", it.egress);
}

pub(super) fn drops(list: &[DropsView]) -> String {
    let row = |it: &DropsView| {
        let pod = or_dash(it.pod.as_deref());
        vec![
            it.port.clone(),
            pod,
            it.reason.clone(),
            it.frames.to_string(),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["PORT", "POD", "REASON", "FRAMES"], &rows)
}

pub(super) fn flows(it: &FlowsView) -> String {
    let row = |it: &crate::local::FlowView| {
        let end = |ip: core::net::IpAddr, port: u16| match port {
            0 => ip.to_string(),
            port => core::net::SocketAddr::new(ip, port).to_string(),
        };
        vec![
            it.protocol.clone(),
            end(it.src, it.src_port),
            end(it.dst, it.dst_port),
            it.initiator.clone(),
            it.responder.clone(),
            it.state.clone(),
            format!("{}/{}", it.forward_packets, it.reverse_packets),
            or_dash(it.rule.as_deref()),
        ]
    };
    let rows: Vec<_> = it.flows.iter().map(row).collect();
    let head = [
        "PROTOCOL", "FROM", "TO", "BY", "WITH", "STATE", "PACKETS", "RULE",
    ];
    let mut out = table(&head, &rows);
    if it.truncated {
        out.push_str("there are more; name a pod\n");
    }
    out
}

pub(super) fn names(list: &[NameView]) -> String {
    let row = |it: &NameView| {
        vec![
            or_dash(it.pod.as_deref()),
            it.ip.to_string(),
            it.domain.clone(),
            format!("{} s", it.left_ms.div_ceil(1000)),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["POD", "ADDRESS", "BY", "FOR"], &rows)
}

pub(super) fn matrix(it: &MatrixView) -> String {
    let row = |it: &PairView| {
        let age = it.key_age_ms.map(|ms| format!("{} s", ms / 1000));
        let algorithm = match (&it.algorithm, it.way.as_str()) {
            (None, "esp") => "no SA".to_owned(),
            (algorithm, _) => or_dash(algorithm.as_deref()),
        };
        vec![
            pair_end(&it.from),
            pair_end(&it.to),
            or_dash(it.node.as_deref()),
            it.direction.clone(),
            or_dash(it.setting.as_deref()),
            it.way.clone(),
            algorithm,
            or_dash(age.as_deref()),
            it.flows.to_string(),
            it.clear_packets.to_string(),
            it.clear_bytes.to_string(),
        ]
    };
    let rows: Vec<_> = it.pairs.iter().map(row).collect();
    let head = [
        "FROM",
        "TO",
        "NODE",
        "DIRECTION",
        "SETTING",
        "WAY",
        "ALGORITHM",
        "KEY AGE",
        "FLOWS",
        "CLEAR PACKETS",
        "CLEAR BYTES",
    ];
    let mut out = table(&head, &rows);
    if it.left_out > 0 {
        let _ = writeln!(out, "{} more pairs are left out", it.left_out);
    }
    if it.other_clear_packets > 0 {
        let _ = writeln!(
            out,
            "in clear between pairs that are not listed: {} packets, {} bytes",
            it.other_clear_packets, it.other_clear_bytes
        );
    }
    out
}

/// Its pods, which people know, and what makes them one.
fn pair_end(it: &PairEndView) -> String {
    let gone = || format!("identity {}, gone", it.identity);
    let label = it.label.clone().unwrap_or_else(gone);
    match (it.pods.as_slice(), it.more_pods) {
        ([], _) => label,
        (pods, 0) => format!("{} {label}", pods.join(",")),
        (pods, more) => format!("{} and {more} more {label}", pods.join(",")),
    }
}

pub(super) fn sas(list: &[SaView]) -> String {
    let row = |it: &SaView| {
        let age = it
            .age_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{} s", ms / 1000));
        vec![
            it.spi.clone(),
            or_dash(it.peer.as_deref()),
            it.direction.clone(),
            it.algorithm.clone(),
            it.fingerprint.clone(),
            it.packets.to_string(),
            it.bytes.to_string(),
            age,
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    let head = [
        "SPI",
        "PEER",
        "WAY",
        "ALGORITHM",
        "FINGERPRINT",
        "PACKETS",
        "BYTES",
        "AGE",
    ];
    table(&head, &rows)
}

pub(super) fn trace(it: &Trace) -> String {
    let mut out = String::new();
    for (word, end) in [("from", &it.from), ("to", &it.to)] {
        let identity = or_dash(end.identity.as_deref());
        let _ = writeln!(
            out,
            "{word:5} {} ({}): identity {identity}, {}",
            end.name, end.ip, end.place
        );
        if !end.domains.is_empty() {
            let _ = writeln!(out, "      by name {}", end.domains.join(", "));
        }
    }
    let port = it.port.map_or_else(String::new, |it| format!(" port {it}"));
    let _ = writeln!(
        out,
        "with  {}{port}",
        format!("{:?}", it.protocol).to_uppercase()
    );
    let mut side = |word: &str, side: &Option<TraceSide>| {
        if let Some(side) = side {
            let in_force = match side.in_force {
                Some(it) if it == side.verdict => "in force here",
                Some(_) => "the table in force here says otherwise",
                None => "judged on another node",
            };
            let _ = writeln!(
                out,
                "{word}: {} by {}; {in_force}",
                verdict(side.verdict),
                side.rule
            );
            if let Some(shadow) = &side.shadow {
                let _ = writeln!(
                    out,
                    "{word}, were shadow policies enforced: {} by {}",
                    verdict(shadow.would),
                    shadow.rule
                );
            }
        }
    };
    side("egress", &it.egress);
    side("ingress", &it.ingress);
    let at = it
        .at
        .map_or_else(String::new, |it| format!(" at {}", direction(it)));
    let rule = it
        .rule
        .as_deref()
        .map_or_else(String::new, |it| format!(", by {it}"));
    let _ = writeln!(out, "policy: {}{at}{rule}", verdict(it.verdict));
    let what = match &it.disposition {
        Disposition::Discard { why } => format!("drops it: {why}"),
        Disposition::Bypass { to } => format!("passes it in clear to {to}"),
        Disposition::Protect { node } => format!("passes it through ESP with node {node}"),
        Disposition::Elsewhere => "does not see it as a pod's".to_owned(),
    };
    let _ = writeln!(out, "this node's dataplane {what}");
    for note in &it.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn verdict(it: Verdict) -> &'static str {
    match it {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn action(it: Action) -> &'static str {
    match it {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Pass => "pass",
    }
}

fn tier(it: Tier) -> &'static str {
    match it {
        Tier::Admin => "admin",
        Tier::Namespace => "namespace",
        Tier::Baseline => "baseline",
    }
}

fn direction(it: sluice_offload_api::model::Direction) -> &'static str {
    match it {
        sluice_offload_api::model::Direction::Ingress => "ingress",
        sluice_offload_api::model::Direction::Egress => "egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(identity: u32, label: Option<&str>, pods: &[&str], more_pods: usize) -> PairEndView {
        PairEndView {
            identity,
            label: label.map(str::to_owned),
            pods: pods.iter().map(|it| (*it).to_owned()).collect(),
            more_pods,
        }
    }

    #[test]
    fn a_matrix_names_its_ends_and_says_what_is_not_in_it() {
        let pair = PairView {
            from: end(
                1,
                Some("shop{app=cart}"),
                &["shop/a", "shop/b", "shop/c"],
                2,
            ),
            to: end(7, None, &[], 0),
            node: None,
            direction: "outbound".to_owned(),
            setting: None,
            way: "gone".to_owned(),
            algorithm: None,
            key_age_ms: None,
            flows: 0,
            clear_packets: 3,
            clear_bytes: 300,
        };
        let sealed = PairView {
            to: end(8, Some("lab{app=x}"), &["lab/x"], 0),
            node: Some("b".to_owned()),
            setting: Some("required".to_owned()),
            way: "esp".to_owned(),
            flows: 1,
            clear_packets: 0,
            clear_bytes: 0,
            ..pair.clone()
        };
        let mut keyed = sealed.clone();
        keyed.algorithm = Some("aes-256-gcm-16".to_owned());
        keyed.key_age_ms = Some(61_999);
        let text = matrix(&MatrixView {
            pairs: vec![pair, sealed, keyed],
            left_out: 5,
            other_clear_packets: 6,
            other_clear_bytes: 700,
        });
        let from = "shop/a,shop/b,shop/c and 2 more shop{app=cart}";
        let squeezed: Vec<_> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let end = "lab/x lab{app=x} b outbound required esp";
        assert_eq!(
            squeezed[1..],
            [
                format!("{from} identity 7, gone - outbound - gone - - 0 3 300"),
                format!("{from} {end} no SA - 1 0 0"),
                format!("{from} {end} aes-256-gcm-16 61 s 1 0 0"),
                "5 more pairs are left out".to_owned(),
                "in clear between pairs that are not listed: 6 packets, 700 bytes".to_owned(),
            ]
        );
    }
}
