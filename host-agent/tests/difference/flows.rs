//! Recorded flows: which would break.

use sluice_host_agent::difference::{Comparison, Fate, Flow, FlowEnd, FlowPort};
use sluice_offload_api::model::{PodRef, Protocol};

use super::{cluster, compare, pod, policy};

fn shop(port: u16) -> String {
    let ports = ", spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}, status: {podIPs: [{ip: 10.0.0.2}]}";
    let spec = format!(
        "{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: web}}}}}}, {{ipBlock: {{cidr: 192.0.2.0/24}}}}], ports: [{{port: {port}}}]}}]}}"
    );
    pod("web", "{app: web}", ", status: {podIPs: [{ip: 10.0.0.1}]}")
        + &pod("db", "{app: db}", ports)
        + &policy("db", &spec)
}

fn end(text: &str) -> FlowEnd {
    match (text.parse(), text.strip_prefix("node:")) {
        (Ok(ip), _) => FlowEnd::Ip(ip),
        (_, Some(node)) => FlowEnd::Node(node.into()),
        _ => {
            let (namespace, name) = text.split_once('/').unwrap();
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            FlowEnd::Pod(PodRef { namespace, name })
        }
    }
}

fn fate(comparison: &Comparison, from: &str, to: &str, port: FlowPort) -> Fate {
    let flow = Flow {
        from: end(from),
        to: end(to),
        protocol: Protocol::Tcp,
        port: Some(port),
    };
    comparison.fate(&flow).fate
}

#[test]
fn each_fate_is_told() {
    let comparison = compare(&cluster(&shop(5432)), &cluster(&shop(5433)));
    let number = FlowPort::Number;
    let name = || FlowPort::Name("sql".to_owned());
    for (from, to, port, expected) in [
        ("shop/web", "shop/db", number(5432), Fate::Breaks),
        ("shop/web", "shop/db", name(), Fate::Breaks),
        ("shop/web", "shop/db", number(5433), Fate::Opens),
        ("shop/web", "shop/db", number(80), Fate::Denied),
        ("shop/db", "shop/web", number(80), Fate::Allowed),
        ("10.0.0.1", "10.0.0.2", number(5432), Fate::Breaks),
        ("192.0.2.9", "shop/db", number(5432), Fate::Breaks),
        ("192.0.3.9", "shop/db", number(5432), Fate::Denied),
        ("node:*", "shop/db", number(5432), Fate::Denied),
        ("shop/ghost", "shop/db", number(5432), Fate::Unknown),
        ("2001:db8::1", "shop/db", number(5432), Fate::Unknown),
    ] {
        let told = fate(&comparison, from, to, port.clone());
        assert_eq!(told, expected, "{from} {to} {port:?}");
    }
}

#[test]
fn a_flow_of_a_pod_that_is_gone_is_its_workloads() {
    let web = |hash: &str| {
        let labels = format!("{{app: web, pod-template-hash: {hash}}}");
        pod(&format!("web-{hash}-x"), &labels, "")
    };
    let rest = |port| {
        shop(port)
            .split_once("---\n{apiVersion: v1, kind: Pod, metadata: {name: db")
            .map(|it| {
                format!(
                    "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: db{}",
                    it.1
                )
            })
            .unwrap()
    };
    let before = web("1a") + &rest(5432);
    let after = web("2b") + &rest(5433);
    let comparison = compare(&cluster(&before), &cluster(&after));
    let port = || FlowPort::Number(5432);
    assert_eq!(
        fate(&comparison, "shop/web-1a-x", "shop/db", port()),
        Fate::Breaks
    );
    assert_eq!(
        fate(&comparison, "shop/web", "shop/db", port()),
        Fate::Breaks
    );
    // Recorded elsewhere, under names that nobody wrote down.
    for (name, expected) in [
        ("shop/web-3c-qwxyz", Fate::Breaks),
        ("shop/web-0", Fate::Breaks),
        ("shop/web-a-b-c", Fate::Unknown),
        ("shop/webs-3c-qwxyz", Fate::Unknown),
        ("ops/web-3c-qwxyz", Fate::Unknown),
    ] {
        assert_eq!(
            fate(&comparison, name, "shop/db", port()),
            expected,
            "{name}"
        );
    }
    let without = cluster(&rest(5432));
    let comparison = compare(&cluster(&before), &without);
    assert_eq!(fate(&comparison, "shop/web", "shop/db", port()), Fate::Gone);
    // Recorded, and denied where both ends are known: nothing says that it was denied before.
    let comparison = compare(&without, &cluster(&(web("2b") + &rest(5433))));
    assert_eq!(
        fate(&comparison, "shop/web", "shop/db", port()),
        Fate::Breaks
    );
}

#[test]
fn what_decided_is_told() {
    let comparison = compare(&cluster(&shop(5432)), &cluster(&shop(5433)));
    let flow = Flow {
        from: end("shop/web"),
        to: end("shop/db"),
        protocol: Protocol::Tcp,
        port: Some(FlowPort::Number(5432)),
    };
    let told = comparison.fate(&flow);
    assert_eq!(told.rule_before.as_deref(), Some("shop/db ingress[0]"));
    assert_eq!(told.rule_after.as_deref(), Some("shop/db isolates ingress"));
}
