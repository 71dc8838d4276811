//! A node: a dataplane on ports in memory behind its real service, the real agent, and the
//! real plugin and tool that ask it.

pub(crate) mod plane;
pub(crate) mod service;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use tempfile::TempDir;

use plane::PlaneHandle;
use service::ServerHandle;

pub(crate) const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: a, annotations: {sluice.dev/tunnel-ips: 172.16.0.1}}
status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}}
status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}
";

pub(crate) const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: cart, uid: u-1, labels: {app: cart}}
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, uid: u-2, labels: {app: db}}
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.3}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: far, uid: u-3, labels: {app: far}}
spec: {nodeName: b}
status: {podIPs: [{ip: 10.1.1.2}]}
";

pub(crate) const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

pub(crate) const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: allow-db}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress: [{ports: [{port: 5432}]}]
  ingress: [{ports: [{port: 5432}]}]
";

const CONFIG: &str = "
node: a
source: {directory: manifests}
dataplane: DATAPLANE
uplink: {port: uplink, mac: '02:00:00:00:00:01', mtu: 1500, interfaces: [{address: 172.16.0.1/24}]}
host: {port: host, mac: '02:00:00:00:00:02', mtu: 1500}
vfs:
  - {port: pf0vf0, index: 0, mac: '02:00:00:00:01:00', mtu: 1400, pci: '0000:03:00.2'}
  - {port: pf0vf1, index: 1, mac: '02:00:00:00:01:01', mtu: 1400, pci: '0000:03:00.3'}
state: state
socket: agent.sock
add_timeout_ms: ADD_TIMEOUT
heartbeat_ms: 50
verdict_log: {path: verdicts.jsonl, allowed: true}
";

/// Longer than anything takes; only a failing test waits so long.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(
            Instant::now() < end,
            "in {WAIT_MAX:?} it never was that {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command's result.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn sluicectl(folder: &Path, args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    Done::of(
        command
            .current_dir(folder)
            .args(args)
            .output()
            .expect("it runs"),
    )
}

/// The SYN of a connection from a pod behind a VF.
pub(crate) fn syn(from: &str, to: &str, src_port: u16, dst_port: u16) -> Vec<u8> {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 2,
        seq: 1,
        ack: 0,
        mss: None,
    };
    frame(from, to, body, Vec::new())
}

pub(crate) fn udp(from: &str, to: &str, ports: (u16, u16), payload: Vec<u8>) -> Vec<u8> {
    let (src_port, dst_port) = ports;
    frame(from, to, Body::Udp { src_port, dst_port }, payload)
}

fn frame(from: &str, to: &str, body: Body, payload: Vec<u8>) -> Vec<u8> {
    let mut spec = FrameSpec::new(from.parse().unwrap(), to.parse().unwrap(), body);
    spec.payload = payload;
    let vf = if from == "10.1.0.2" { 0 } else { 1 };
    spec.eth_src = Mac([2, 0, 0, 0, 1, vf]);
    spec.eth_dst = ROUTER_MAC;
    spec.build()
}

pub(crate) struct Node {
    pub(crate) temp: TempDir,
    pub(crate) server: Option<ServerHandle>,
    agent: Option<Child>,
    logs: usize,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
        if thread::panicking() {
            for log in 0..self.logs {
                let path = self.path(&format!("agent.{log}.log"));
                eprintln!("{}", fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
}

impl Node {
    /// A node with these manifests, where nothing runs.
    pub(crate) fn new(manifests: &[(&str, &str)]) -> Self {
        let node = Self {
            temp: tempfile::tempdir().unwrap(),
            server: None,
            agent: None,
            logs: 0,
        };
        fs::create_dir(node.path("manifests")).unwrap();
        for (name, text) in manifests {
            node.put(name, text);
        }
        node.configure("{unix: dataplane.sock}", 120_000);
        node
    }

    /// One where a dataplane and an agent are in step.
    pub(crate) fn running(manifests: &[(&str, &str)]) -> (Self, PlaneHandle) {
        let mut node = Self::new(manifests);
        let plane = node.start_dataplane();
        node.start_agent();
        node.wait_in_step();
        (node, plane)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn configure(&self, dataplane: &str, add_timeout_ms: u64) {
        let text = CONFIG.replace("DATAPLANE", dataplane);
        let text = text.replace("ADD_TIMEOUT", &add_timeout_ms.to_string());
        fs::write(self.path("agent.yaml"), text).unwrap();
    }

    /// Puts a manifest there, renamed into place.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let next = self.path("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path("manifests").join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path("manifests").join(name)).unwrap();
    }

    /// A dataplane that knows nothing.
    pub(crate) fn start_dataplane(&mut self) -> PlaneHandle {
        let (plane, _) = PlaneHandle::start();
        self.serve(&plane);
        plane
    }

    pub(crate) fn serve(&mut self, plane: &PlaneHandle) {
        self.server = Some(service::serve_unix(
            plane.clone(),
            &self.path("dataplane.sock"),
        ));
    }

    pub(crate) fn start_agent(&mut self) {
        let log = fs::File::create(self.path(&format!("agent.{}.log", self.logs))).unwrap();
        self.logs += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-agent"));
        let command = command.arg("--config").arg(self.path("agent.yaml"));
        let child = command.stderr(log).stdin(Stdio::null()).spawn().unwrap();
        self.agent = Some(child);
    }

    /// What the agent that runs has written to its log.
    pub(crate) fn log(&self) -> String {
        let path = self.path(&format!("agent.{}.log", self.logs - 1));
        fs::read_to_string(path).unwrap()
    }

    /// Adds to the agent's configuration.
    pub(crate) fn configure_more(&self, more: &str) {
        let path = self.path("agent.yaml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + more).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// SIGTERM; its exit code.
    pub(crate) fn stop_agent(&mut self) -> Option<i32> {
        let mut agent = self.agent.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        agent.wait().unwrap().code()
    }

    pub(crate) fn wait_in_step(&self) {
        until("the agent is in step", || {
            let status = self.ctl(&["status", "--output", "json"]);
            status.code < 2 && status.json()["agent"]["settled"] == true
        });
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Done {
        let mut all = vec!["--socket", "agent.sock"];
        all.extend(args);
        sluicectl(self.temp.path(), &all)
    }

    pub(crate) fn status(&self) -> Value {
        self.ctl(&["status", "--output", "json"]).json()
    }

    /// Calls the plugin as a runtime does.
    pub(crate) fn cni(&self, command: &str, pod: &Pod, config: &Value) -> Done {
        let child = self.cni_begun(command, pod, config);
        Done::of(child.wait_with_output().unwrap())
    }

    /// The same, while it runs.
    pub(crate) fn cni_begun(&self, command: &str, pod: &Pod, config: &Value) -> Child {
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_sluice-cni"));
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={};K8S_POD_UID={}",
            pod.name, pod.uid
        );
        let plugin = plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", pod.container)
            .env(
                "CNI_NETNS",
                if command == "DEL" { "" } else { "/run/netns/x" },
            )
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = plugin.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(config.to_string().as_bytes()).unwrap();
        drop(stdin);
        child
    }

    pub(crate) fn cni_config(&self, pod: &Pod) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "sluice-cni",
            "socket": self.path("agent.sock"),
            "prevResult": {
                "cniVersion": "1.0.0",
                "interfaces": [{"name": "eth0", "mac": pod.mac, "sandbox": "/run/netns/x"}],
                "ips": [{"address": format!("{}/24", pod.ip), "interface": 0}],
                "dns": {},
            },
        })
    }

    pub(crate) fn add(&self, pod: &Pod) -> Done {
        self.cni("ADD", pod, &self.cni_config(pod))
    }

    /// DEL as a runtime sends it that has forgotten everything else.
    pub(crate) fn del(&self, pod: &Pod) -> Done {
        let mut config = self.cni_config(pod);
        config.as_object_mut().unwrap().remove("prevResult");
        self.cni("DEL", pod, &config)
    }
}

/// A pod's sandbox.
pub(crate) struct Pod {
    pub(crate) container: &'static str,
    pub(crate) name: &'static str,
    pub(crate) uid: &'static str,
    pub(crate) mac: &'static str,
    pub(crate) ip: &'static str,
}

pub(crate) const CART: Pod = Pod {
    container: "c1",
    name: "cart",
    uid: "u-1",
    mac: "02:00:00:00:01:00",
    ip: "10.1.0.2",
};

pub(crate) const DB: Pod = Pod {
    container: "c2",
    name: "db",
    uid: "u-2",
    mac: "02:00:00:00:01:01",
    ip: "10.1.0.3",
};
