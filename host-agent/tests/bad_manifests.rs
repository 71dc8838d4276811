//! Every fault of a manifest: its file, line and column, and what would be right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use miette::Diagnostic;
use proptest::prelude::*;
use sluice_host_agent::manifest::{ManifestError, load_dir, load_texts, parse};
use sluice_offload_api::model::Encryption;

/// A policy whose `spec` is `spec`, which starts on line 4.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web}}\nspec:\n{spec}\n"
    )
}

fn error(text: &str) -> ManifestError {
    load_texts(&[("net.yaml", text)])
        .err()
        .unwrap_or_else(|| panic!("no fault: {text}"))
}

#[test]
fn a_mode_is_enforce_or_shadow_for_every_kind_of_policy() {
    for (api, kind, more) in [
        ("networking.k8s.io/v1", "NetworkPolicy", ""),
        (
            "policy.networking.k8s.io/v1alpha2",
            "ClusterNetworkPolicy",
            "tier: Admin, priority: 1, subject: {namespaces: {}}",
        ),
        ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy", ""),
    ] {
        let with = |mode: &str| {
            format!(
                "apiVersion: {api}\nkind: {kind}\nmetadata:\n  name: x\n  annotations:\n    \
                 sluice.dev/mode: {mode}\nspec: {{{more}}}\n"
            )
        };
        let said = error(&with("Shadow")).to_string();
        let right = "net.yaml:6:22: annotation sluice.dev/mode `Shadow` is not enforce or shadow";
        assert_eq!(said, right, "{kind}");
        for mode in ["shadow", "enforce"] {
            load_texts(&[("net.yaml", &with(mode))]).unwrap();
        }
    }
}

#[test]
fn a_setting_that_is_none_is_told_by_name_and_is_required() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  annotations:\n    \
                sluice.dev/encryption: of\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: \
                shop, name: web, annotations: {sluice.dev/encryption: Preferred}}\n---\napiVersion: \
                v1\nkind: Pod\nmetadata: {namespace: shop, name: db, annotations: \
                {sluice.dev/encryption: off}}\n";
    let loaded = load_texts(&[("net.yaml", text)]).unwrap();
    let notes: Vec<_> = loaded.notes.iter().map(ToString::to_string).collect();
    let told = |line: u32, what: &str, value: &str| {
        format!(
            "net.yaml:{line}: {what}: sluice.dev/encryption: `{value}` is not a setting of \
             encryption: required, preferred or off; until it is one, required holds"
        )
    };
    let expected = [
        told(6, "Namespace shop", "of"),
        told(10, "Pod shop/web", "Preferred"),
    ];
    assert_eq!(notes, expected);
    let of = |name: &str| {
        let pods = loaded.cluster.pods.values();
        let mut named = pods.filter(|it| it.pod.name == name);
        named.next().unwrap().encryption
    };
    assert_eq!(of("web"), Some(Encryption::Required));
    assert_eq!(of("db"), Some(Encryption::Off));
    let namespace = &loaded.cluster.namespaces["shop"];
    assert_eq!(namespace.encryption, Some(Encryption::Required));
}

#[test]
fn every_fault_in_a_policy_is_at_its_place_and_says_what_is_right() {
    let table = [
        (
            "  podSelectr: {}",
            "net.yaml:5:3: unknown field `podSelectr`; allowed here: podSelector, policyTypes, \
             ingress, egress",
        ),
        (
            "  ingress:\n  - from: []\n    to: []",
            "net.yaml:7:5: unknown field `to`; allowed here: from, ports",
        ),
        (
            "  egress:\n  - to:\n    - podselector: {}",
            "net.yaml:7:7: unknown field `podselector`; allowed here: podSelector, \
             namespaceSelector, ipBlock",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, exept: []}",
            "net.yaml:7:35: unknown field `exept`; allowed here: cidr, except",
        ),
        (
            "  ingress:\n  - ports:\n    - ports: 80",
            "net.yaml:7:7: unknown field `ports`; allowed here: protocol, port, endPort",
        ),
        (
            "  podSelector: {matchlabels: {a: b}}",
            "net.yaml:5:17: unknown field `matchlabels`; allowed here: matchLabels, \
             matchExpressions",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock: {except: []}",
            "net.yaml:7:17: the field `cidr` is missing",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0}",
            "net.yaml:7:23: `10.0.0.0` is not an address with a prefix length, such as \
             10.0.0.0/8 or fd00::/64",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.1/8}",
            "net.yaml:7:23: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/33}",
            "net.yaml:7:23: prefix length 33 is over 32, the longest for 10.0.0.0",
        ),
        (
            "  ingress:\n  - from:\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except:\n        - 11.0.0.0/16",
            "net.yaml:10:11: exception 11.0.0.0/16 is not strictly within cidr 10.0.0.0/8; \
             take it out or widen cidr",
        ),
        (
            "  ingress:\n  - from:\n    - {}",
            "net.yaml:7:7: the peer is empty; give podSelector, namespaceSelector or ipBlock, \
             or leave out the list for everyone",
        ),
        (
            "  ingress:\n  - from:\n    - podSelector: {}\n      ipBlock: {cidr: 10.0.0.0/8}",
            "net.yaml:7:7: the peer has ipBlock and a selector; make two peers of it",
        ),
        (
            "  ingress:\n  - ports:\n    - port: 0",
            "net.yaml:7:13: port 0 is not within 1 to 65535",
        ),
        (
            "  ingress:\n  - ports:\n    - port: 65536",
            "net.yaml:7:13: port 65536 is not within 1 to 65535",
        ),
        (
            "  ingress:\n  - ports:\n    - port: -1",
            "net.yaml:7:13: port -1 is not within 1 to 65535",
        ),
        (
            "  ingress:\n  - ports:\n    - port: \"80\"",
            "net.yaml:7:13: `80` is no port name; use up to 15 lower-case letters, digits and \
             `-` with at least one letter, or a number without quotes",
        ),
        (
            "  ingress:\n  - ports:\n    - {port: 80, endPort: 79}",
            "net.yaml:7:27: endPort 79 is below port 80",
        ),
        (
            "  ingress:\n  - ports:\n    - {port: web, endPort: 90}",
            "net.yaml:7:28: endPort 90 needs a number in port; a named port is no range",
        ),
        (
            "  ingress:\n  - ports:\n    - {endPort: 90}",
            "net.yaml:7:17: endPort 90 needs a number in port; a named port is no range",
        ),
        (
            "  ingress:\n  - ports:\n    - {port: 80, endPort: 70000}",
            "net.yaml:7:27: port 70000 is not within 1 to 65535",
        ),
        (
            "  ingress:\n  - ports:\n    - protocol: tcp",
            "net.yaml:7:17: protocol `tcp` is not TCP, UDP or SCTP",
        ),
        (
            "  policyTypes: [Ingress, Egres]",
            "net.yaml:5:26: policy type `Egres` is not Ingress or Egress",
        ),
        (
            "  podSelector:\n    matchExpressions:\n    - {key: a, operator: Equals, values: [b]}",
            "net.yaml:7:26: operator `Equals` is not In, NotIn, Exists or DoesNotExist",
        ),
        (
            "  podSelector:\n    matchExpressions:\n    - {key: a, operator: In}",
            "net.yaml:7:26: operator In needs at least one of values",
        ),
        (
            "  podSelector:\n    matchExpressions:\n    - {key: a, operator: NotIn, values: []}",
            "net.yaml:7:26: operator NotIn needs at least one of values",
        ),
        (
            "  podSelector:\n    matchExpressions:\n    - {key: a, operator: Exists, values: [b]}",
            "net.yaml:7:26: operator Exists takes no values",
        ),
        (
            "  podSelector: {}\n  podSelector: {}",
            "net.yaml:6:3: the field `podSelector` is there twice; keep one",
        ),
        ("  ingress: {}", "net.yaml:5:12: expected sequence start"),
    ];
    for (spec, expected) in table {
        assert_eq!(error(&policy(spec)).to_string(), expected, "{spec}");
    }
}

#[test]
fn faults_of_other_objects_are_at_their_places() {
    let table = [
        (
            "kind: Pod\nmetadata: {labels: {}}\n",
            "net.yaml:2:12: the field `name` is missing",
        ),
        (
            "a: b\n",
            "net.yaml:1:1: there is no kind; a manifest has apiVersion and kind",
        ),
        (
            "kind: Pod\nmetadata: {name: a b}\n",
            "net.yaml:2:18: `a b` is no name; use up to 253 letters, digits, `-` and `.`",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.0.0.256}]}\n",
            "net.yaml:3:24: `10.0.0.256` is not an IP address, such as 10.0.0.1 or fd00::1",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIP: 224.0.0.1}\n",
            "net.yaml:3:17: 224.0.0.1 is not a unicast address that a station can have",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - ports: [{containerPort: 0}]\n",
            "net.yaml:5:29: port 0 is not within 1 to 65535",
        ),
        (
            "kind: Node\nmetadata:\n  name: a\n  annotations:\n    sluice.dev/tunnel-ips: 10.0.0.1,x\n",
            "net.yaml:5:28: `x` is not an IP address, such as 10.0.0.1 or fd00::1",
        ),
        (
            "kind: Node\nmetadata:\n  name: a\n  annotations:\n    sluice.dev/tunnel-ips: 10.0.0.1,10.0.0.2\n",
            "net.yaml:5:28: 10.0.0.2 is the second tunnel address of its family; give at most one",
        ),
        (
            "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\n",
            "net.yaml:1:13: NetworkPolicy has apiVersion `extensions/v1beta1`; write \
             networking.k8s.io/v1",
        ),
        (
            "kind: Pod\n  name: : a\n",
            "net.yaml:2:7: mapping values are not allowed in this context",
        ),
        (
            "kind: List\nitems: [{kind: List}]\n",
            "net.yaml:2:16: a List is in a List; put its items into the outer one",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(error(text).to_string(), expected, "{text}");
    }
}

#[test]
fn lines_count_from_the_top_of_the_file_in_a_later_document() {
    let text = format!(
        "# top\n---\nkind: Namespace\nmetadata: {{name: a}}\n---\n{}",
        policy("  x: 1")
    );
    let error = error(&text);
    assert_eq!(
        (error.file(), error.line(), error.column()),
        ("net.yaml", 10, 3)
    );
}

#[test]
fn a_fault_in_a_list_is_at_its_item() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- kind: Namespace\n  metadata: {name: a}\n\
                - apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: b}\n  \
                spec:\n    ingres: []\n";
    let message = error(text).to_string();
    assert!(
        message.starts_with("net.yaml:10:5: unknown field `ingres`"),
        "{message}"
    );
}

#[test]
fn a_fault_in_json_is_at_its_place() {
    let text = "{\n\t\"apiVersion\": \"networking.k8s.io/v1\",\n\t\"kind\": \"NetworkPolicy\",\n\t\
                \"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"podSelectr\": {}}\n}\n";
    let message = error(text).to_string();
    assert!(
        message.starts_with("net.yaml:5:11: unknown field `podSelectr`"),
        "{message}"
    );
}

#[test]
fn the_diagnostic_points_at_the_word() {
    let text = policy("  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.1/8}");
    let error = error(&text);
    let label = error.labels().unwrap().next().unwrap();
    assert_eq!(
        &text[label.offset()..label.offset() + label.len()],
        "10.0.0.1/8"
    );
    assert!(error.source_code().is_some());
}

#[test]
fn the_same_object_in_two_files_names_both() {
    let pod = "kind: Pod\nmetadata:\n  name: a\n";
    let error = load_texts(&[("a.yaml", pod), ("b.yaml", pod)])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "b.yaml:3:9: Pod default/a was defined before at a.yaml:3:9; keep one"
    );
}

#[test]
fn two_pods_with_one_address_or_uid_name_both() {
    let pod = |name: &str, uid: &str, ip: &str| {
        format!("kind: Pod\nmetadata: {{name: {name}, uid: {uid}}}\nstatus: {{podIP: {ip}}}\n")
    };
    let two = |a: &str, b: &str| {
        load_texts(&[("a.yaml", a), ("b.yaml", b)])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        two(&pod("a", "1", "10.0.0.1"), &pod("b", "2", "10.0.0.1")),
        "b.yaml:3:17: 10.0.0.1 of pod default/b belongs to pod default/a at a.yaml:3:17; \
         give each its own"
    );
    assert_eq!(
        two(&pod("a", "1", "10.0.0.1"), &pod("b", "1", "10.0.0.2")),
        "b.yaml:2:18: uid 1 of Pod default/b is also that of Pod default/a at a.yaml:2:18; \
         give each its own"
    );
}

#[test]
fn two_nodes_with_one_tunnel_address_name_both() {
    let node = |name: &str| {
        format!(
            "kind: Node\nmetadata:\n  name: {name}\n  annotations: {{sluice.dev/tunnel-ips: 10.0.0.1}}\n"
        )
    };
    let text = format!("{}---\n{}", node("a"), node("b"));
    let expected =
        "net.yaml:9:40: 10.0.0.1 of node b belongs to node a at net.yaml:4:40; give each its own";
    assert_eq!(error(&text).to_string(), expected);
}

#[test]
fn other_kinds_are_ignored_with_a_note_and_empty_documents_without() {
    let text = "---\n# nothing\n---\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n\
                spec: {podSelectr: 1}\n---\napiVersion: policy.networking.k8s.io/v1alpha1\n\
                kind: AdminNetworkPolicy\nmetadata: {name: x}\n";
    let (objects, notes) = parse("net.yaml", text).unwrap();
    assert!(objects.is_empty());
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let expected = [
        "net.yaml:4: Deployment shop/web is ignored",
        "net.yaml:9: AdminNetworkPolicy x is ignored: none of its rules is enforced",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn rules_that_policy_types_leave_out_are_noted() {
    let text = policy("  policyTypes: [Ingress]\n  egress: [{}]");
    let (_, notes) = parse("net.yaml", &text).unwrap();
    let expected = "net.yaml:3: NetworkPolicy default/web: its egress rules have no effect: \
                    policyTypes has no Egress";
    assert_eq!(notes[0].to_string(), expected);
}

#[test]
fn a_folder_without_manifests_is_an_error_that_names_it() {
    let missing = load_dir("no/such/folder".as_ref()).unwrap_err();
    assert_eq!(missing.to_string(), "can't read no/such/folder");
    let none = load_dir("src".as_ref()).unwrap_err();
    assert_eq!(none.to_string(), "src has no *.yaml, *.yml or *.json file");
}

#[test]
fn absurd_texts_are_errors_and_never_panics() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n".to_owned()
        + "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
        + "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nkind: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let deep = "[".repeat(100_000);
    let texts = [
        bomb.as_str(),
        &deep,
        "\0",
        "kind: \u{1b}[31m",
        "--- |\n  x\n",
        "- a\n",
        "&a *a",
        "!!x y",
        "\u{feff}",
    ];
    for text in texts {
        // Errors or nothing, as long as it comes back.
        let _ = parse("net.yaml", text);
    }
    for cut in 0..policy("  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]").len() {
        let whole = policy("  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]");
        let _ = parse("net.yaml", &whole[..cut]);
    }
}

proptest! {
    /// Harsher than random text, which never gets past the first mapping.
    #[test]
    fn a_damaged_manifest_never_panics_and_keeps_to_its_lines(
        edits in proptest::collection::vec((0usize..400, "[-a-z0-9:{}\\[\\]&*!|>'\"#%,\n \t./]{0,3}"), 1..5),
    ) {
        let mut text = policy(
            "  podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}\n  ingress:\n  \
             - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]\n    ports:\n    \
             - {port: 80, endPort: 90, protocol: TCP}\n---\nkind: Pod\nmetadata: {name: a}\nstatus:\n  \
             podIPs: [{ip: 10.0.0.1}]\n",
        );
        for (at, replacement) in edits {
            let end = (at + 2).min(text.len());
            text.replace_range(at.min(end)..end, &replacement);
        }
        if let Err(error) = parse("net.yaml", &text) {
            let lines = u32::try_from(text.lines().count()).unwrap();
            prop_assert!((1..=lines + 1).contains(&error.line()), "{error}\n{text}");
            let label = error.labels().unwrap().next().unwrap();
            prop_assert!(label.offset() + label.len() <= text.len());
        }
    }
}

#[test]
fn a_misspelt_policy_is_an_error_and_not_ignored() {
    let table = [
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolciy\nmetadata: {name: x}\n",
            "net.yaml:2:7: networking.k8s.io/v1 has no kind `NetworkPolciy`; is it a policy, \
             misspelt?",
        ),
        (
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolices\n",
            "net.yaml:2:7: policy.networking.k8s.io/v1alpha2 has no kind \
             `ClusterNetworkPolices`; is it a policy, misspelt?",
        ),
        (
            "apiVersion: network.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\n",
            "net.yaml:1:13: NetworkPolicy has apiVersion `network.k8s.io/v1`; write \
             networking.k8s.io/v1",
        ),
        (
            "apiVersion: networking.k8s.io\nkind: NetworkPolicy\nmetadata: {name: x}\n",
            "net.yaml:1:13: NetworkPolicy has apiVersion `networking.k8s.io`; write \
             networking.k8s.io/v1",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {name: x, namespce: shop}\nspec: {podSelector: {}}\n",
            "net.yaml:3:21: unknown field `namespce`; allowed here: name, namespace, uid, \
             labels, annotations, generateName, selfLink, resourceVersion, generation, \
             creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, \
             ownerReferences, finalizers, managedFields",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(error(text).to_string(), expected);
    }
    // Others' policies, and what else there is in these groups.
    let others = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: x}\n\
                  ---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: y}\n";
    assert_eq!(parse("net.yaml", others).unwrap().1.len(), 2);
}

#[test]
fn what_is_not_read_and_for_whom_there_is_nobody_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "a.yaml",
        &policy("  podSelector: {}").replace("name: web", "name: web, namespace: shpo"),
    );
    write("b.YAML", "");
    write("notes.txt", "");
    std::fs::create_dir(folder.path().join("more")).unwrap();
    std::fs::create_dir(folder.path().join("..data")).unwrap();
    let notes = load_dir(folder.path()).unwrap().notes;
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let expected = [
        "b.YAML:1: the file is not read; its name must end in .yaml, .yml or .json",
        "more:1: the folder is not entered; what is in it is not read",
        "a.yaml:3: NetworkPolicy shpo/web is for nobody: namespace shpo has no manifest and no \
         pod",
    ];
    assert_eq!(notes, expected);
}

/// Who may write a Node may neither stop everybody's policies nor make nobody of the world.
#[test]
fn what_is_wrong_in_a_nodes_ranges_is_told_and_passed_over() {
    let with = |spec: &str| {
        let text = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: a}}\nspec: {spec}\n");
        let loaded = load_texts(&[("net.yaml", &text)]).unwrap();
        let notes: Vec<_> = loaded.notes.iter().map(ToString::to_string).collect();
        (loaded.cluster.nodes[&"a".into()].pod_cidrs.clone(), notes)
    };
    let all = "{podCIDR: 10.1.0.1/24, podCIDRs: [10.1.0.1/24, 'fd01::/64'], taints: []}";
    let ranges = ["10.1.0.0/24", "fd01::/64"].map(|it| it.parse().unwrap());
    assert_eq!(with(all), (ranges.to_vec(), Vec::new()));
    assert_eq!(with("{podCIDR: ''}"), (Vec::new(), Vec::new()));
    for (wrong, why) in [
        (
            "10.0.0.0/15",
            "podCIDR 10.0.0.0/15 is wider than /16, and is passed over",
        ),
        ("fd01::/47", "podCIDR fd01::/47 is wider than /48"),
        ("::/0", "podCIDR ::/0 is wider than /48"),
        ("10.1.0.0", "podCIDR `10.1.0.0` is no prefix"),
        ("::ffff:10.1.0.0/120", "is no prefix"),
    ] {
        let (ranges, notes) = with(&format!("{{podCIDRs: ['{wrong}', 10.2.0.0/16]}}"));
        assert_eq!(ranges, ["10.2.0.0/16".parse().unwrap()]);
        assert!(notes.len() == 1 && notes[0].contains(why), "{notes:?}");
        assert!(notes[0].starts_with("net.yaml:3:"), "{notes:?}");
    }
}
