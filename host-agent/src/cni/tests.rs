use super::*;
use crate::local::Fault;
use serde_json::Value;

const PREV: &str = r#"{"cniVersion": "1.0.0",  "interfaces": [
    {"name": "veth1", "mac": "02:00:00:00:09:09"},
    {"name": "eth0", "mac": "02:00:00:00:01:00", "sandbox": "/run/netns/x"}],
  "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
          {"address": "10.8.0.2/24", "interface": 0},
          {"address": "fd00::2/64"}], "x-unknown": [1, 2]}"#;

fn env(command: &str) -> Env {
    Env {
        command: command.to_owned(),
        container: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u-1".to_owned(),
    }
}

fn config(more: &str) -> String {
    format!(r#"{{"cniVersion": "1.0.0", "name": "pods", "type": "sluice-cni"{more}}}"#)
}

fn chained(more: &str) -> String {
    config(&format!(r#", "prevResult": {PREV}{more}"#))
}

/// Runs with an agent that answers everything rightly; what it was asked.
fn asked(env: &Env, config: &str) -> (Result<String, CniError>, Vec<Request>) {
    let mut requests = Vec::new();
    let out = run_with(env, config.as_bytes(), &mut |_, request| {
        requests.push(request.clone());
        Ok(match request {
            Request::Add(_) => Response::Added {
                uid: "u-1".to_owned(),
                open: true,
                standing: "known".to_owned(),
                generation: 3,
                fresh: true,
            },
            Request::Del { .. } => Response::Deleted { found: false },
            Request::Check { .. } => Response::Checked,
            Request::Gc { .. } => Response::Collected { gone: 0 },
            _ => Response::Ready,
        })
    });
    (out.map(|it| String::from_utf8(it).unwrap()), requests)
}

/// Runs with an agent that fails.
fn failed(env: &Env, config: &str, error: fn() -> ClientError) -> CniError {
    run_with(env, config.as_bytes(), &mut |_, _| Err(error())).unwrap_err()
}

fn added(config: &str) -> AttachRequest {
    let (out, requests) = asked(&env("ADD"), config);
    out.unwrap();
    match requests.as_slice() {
        [Request::Add(request)] => request.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn add_asks_for_the_pod_and_passes_the_result_on_byte_by_byte() {
    let (out, _) = asked(&env("ADD"), &chained(""));
    assert_eq!(out.unwrap(), format!("{PREV}\n"));
    let request = added(&chained(""));
    assert_eq!(request.pod.to_string(), "shop/cart");
    assert_eq!(request.uid, Some("u-1".into()));
    assert_eq!(request.network.as_deref(), Some("pods"));
    let ips: Vec<_> = request.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.1.0.2", "fd00::2"]);
    assert_eq!(request.vf.mac.as_deref(), Some("02:00:00:00:01:00"));
    assert_eq!((request.vf.port, request.vf.device), (None, None));
}

#[test]
fn a_vf_is_named_by_port_by_map_or_by_device() {
    let vf = |more: &str| added(&chained(more)).vf;
    assert_eq!(vf(r#", "port": "pf0vf3""#).port, Some("pf0vf3".into()));
    assert_eq!(
        vf(r#", "ports": {"veth1": "pf0vf4", "veth2": "pf0vf5"}"#).port,
        Some("pf0vf4".into())
    );
    let device = vf(r#", "deviceID": "0000:03:00.2""#);
    assert_eq!(device.device.as_deref(), Some("0000:03:00.2"));
    let device =
        vf(r#", "deviceID": "a", "runtimeConfig": {"deviceID": "b"}, "ports": {"b": "pf0vf6"}"#);
    assert_eq!(
        (device.device.as_deref(), device.port),
        (Some("b"), Some("pf0vf6".into()))
    );
    let two = chained(r#", "ports": {"veth1": "pf0vf4", "eth0": "pf0vf5"}"#);
    let (out, requests) = asked(&env("ADD"), &two);
    assert_eq!(
        (out.unwrap_err().code, requests.len()),
        (CniCode::Config, 0)
    );
}

#[test]
fn a_runtime_without_pods_has_containers() {
    let pod = |args: &str| {
        let env = Env {
            args: args.to_owned(),
            ..env("ADD")
        };
        match asked(&env, &chained("")).1.pop() {
            Some(Request::Add(request)) => request.pod.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pod(""), "default/c1");
    assert_eq!(pod("K8S_POD_NAME=web"), "default/web");
}

#[test]
fn del_needs_neither_namespace_nor_result() {
    let (out, requests) = asked(&env("DEL"), &config(""));
    assert_eq!(out.unwrap(), "");
    assert!(matches!(requests.as_slice(), [Request::Del { container, .. }] if container == "c1"));
    asked(&env("CHECK"), &config("")).0.unwrap_err();
    asked(&env("CHECK"), &chained("")).0.unwrap();
    asked(&env("ADD"), &config("")).0.unwrap_err();
}

#[test]
fn version_answers_dummies() {
    let podman = Env {
        command: "VERSION".to_owned(),
        container: "dummy".to_owned(),
        ifname: "dummy".to_owned(),
        args: "dummy".to_owned(),
    };
    for stdin in [
        r#"{"cniVersion":"0.4.0"}"#,
        r#"{"cniVersion":"0.4.0","prevResult":"dummy"}"#,
    ] {
        let (out, requests) = asked(&podman, stdin);
        let out: Value = serde_json::from_str(&out.unwrap()).unwrap();
        assert_eq!(out["cniVersion"], "0.4.0");
        assert_eq!(out["supportedVersions"], json!(VERSIONS));
        assert!(requests.is_empty());
    }
    assert!(asked(&podman, "").0.is_ok());
}

#[test]
fn gc_needs_a_list_to_go_by() {
    let (out, requests) = asked(&env("GC"), &config(""));
    assert_eq!(
        (out.unwrap_err().code, requests.len()),
        (CniCode::Config, 0)
    );
    let list = r#", "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]"#;
    let (out, requests) = asked(&env("GC"), &config(list));
    assert_eq!(out.unwrap(), "");
    let keep = vec![("c1".to_owned(), "eth0".to_owned())];
    let network = "pods".to_owned();
    assert_eq!(requests, [Request::Gc { network, keep }]);
}

#[test]
fn without_an_agent_every_command_fails_and_says_that_it_may_work_later() {
    let gone = || ClientError::HungUp;
    for (command, code) in [
        ("ADD", CniCode::TryAgain),
        ("DEL", CniCode::TryAgain),
        ("CHECK", CniCode::TryAgain),
        ("STATUS", CniCode::NotAvailable),
    ] {
        let error = failed(&env(command), &chained(""), gone);
        assert_eq!(error.code, code, "{command}");
        let json: Value = serde_json::from_str(&error.to_json()).unwrap();
        assert_eq!(json["code"], code as u32);
        assert_eq!(json["cniVersion"], "1.0.0");
        assert!(json["msg"].is_string() && json["details"].is_string());
    }
}

#[test]
fn a_refusal_is_told_from_what_may_work_later() {
    let refused = || ClientError::Fault(Fault::new(FaultKind::Refused, "VF pf0vf0 belongs to x"));
    let error = failed(&env("ADD"), &chained(""), refused);
    assert_eq!(error.code, CniCode::Refused);
    assert_eq!(error.details, "VF pf0vf0 belongs to x");
    let later = || ClientError::Fault(Fault::new(FaultKind::Unavailable, "not connected"));
    assert_eq!(
        failed(&env("ADD"), &chained(""), later).code,
        CniCode::TryAgain
    );
}

#[test]
fn what_makes_no_sense_never_reaches_the_agent() {
    let cases = [
        (env("ADD"), "{", CniCode::Decode),
        (env("ADD"), r#"{"cniVersion": "0.2.0"}"#, CniCode::Version),
        (env("ADD"), r#"{"cniVersion": "9.0.0"}"#, CniCode::Version),
        (env("PLAY"), &chained(""), CniCode::Environment),
        (env(""), "", CniCode::Environment),
        (env("ADD"), &chained(r#", "timeoutMs": 0"#), CniCode::Config),
        (
            env("ADD"),
            &config(r#", "prevResult": {"ips": [{"address": "x"}]}"#),
            CniCode::Decode,
        ),
        (
            Env {
                container: String::new(),
                ..env("DEL")
            },
            &chained(""),
            CniCode::Environment,
        ),
        (
            Env {
                container: "../x".to_owned(),
                ..env("DEL")
            },
            &chained(""),
            CniCode::Environment,
        ),
        (
            Env {
                ifname: "a/b".to_owned(),
                ..env("ADD")
            },
            &chained(""),
            CniCode::Environment,
        ),
        (
            Env {
                ifname: "a".repeat(16),
                ..env("ADD")
            },
            &chained(""),
            CniCode::Environment,
        ),
        (
            Env {
                args: "K8S_POD_NAME=a/b".to_owned(),
                ..env("ADD")
            },
            &chained(""),
            CniCode::Environment,
        ),
    ];
    for (env, config, code) in cases {
        let (out, requests) = asked(&env, config);
        assert_eq!(out.unwrap_err().code, code, "{env:?} {config}");
        assert!(requests.is_empty());
    }
}

#[test]
fn the_networks_of_the_reference_and_the_samples_are_right() {
    let reference = include_str!("../../../docs/agent-config.md");
    let block = reference.split("```json\n").nth(1).expect("there is one");
    let (block, _) = block.split_once("```").expect("it ends");
    for list in [
        block,
        include_str!("../../../deploy/cni/10-sluice.conflist"),
        include_str!("../../../deploy/cni/20-lab.conflist"),
    ] {
        let list: Value = serde_json::from_str(list).unwrap();
        let plugins = list["plugins"].as_array().unwrap();
        let ours = plugins.last().unwrap();
        assert_eq!(ours["type"], "sluice-cni");
        // As a runtime puts it together.
        let mut config = ours.clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        config["prevResult"] = serde_json::from_str(PREV).unwrap();
        let (out, requests) = asked(&env("ADD"), &config.to_string());
        out.unwrap();
        assert_eq!(requests.len(), 1);
    }
}

proptest::proptest! {
    /// Whatever a runtime sends ends in a result or in an error of the specification's form.
    #[test]
    fn mangled_input_ends_in_an_error_that_can_be_read(
        mangles in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 0..6),
        cut in proptest::option::of(proptest::prelude::any::<proptest::sample::Index>()),
        args in ".{0,40}",
    ) {
        let mut stdin = chained(r#", "port": "pf0vf3", "deviceID": "0000:03:00.2""#).into_bytes();
        for (at, byte) in mangles {
            let at = at.index(stdin.len());
            stdin[at] = byte;
        }
        if let Some(cut) = cut {
            stdin.truncate(cut.index(stdin.len()));
        }
        let env = Env { args, ..env("ADD") };
        let out = run_with(&env, &stdin, &mut |_, _| Err(ClientError::HungUp));
        let error: Value = serde_json::from_str(&out.unwrap_err().to_json()).unwrap();
        proptest::prop_assert!(error["code"].as_u64() > Some(0));
    }
}
