//! The binary as a process, its agent, and pcap files.

use std::io::{BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_offload_api::convert::to_requests;
use sluice_offload_api::proto::CountersRequest;
use sluice_offload_api::proto::offload_client::OffloadClient;
use sluice_offload_api::{Answer, State};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Whatever is waited for comes well within this, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(folder: &Path, config: &str, more: &[&str]) -> Command {
    let path = folder.join("dataplane.yaml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-dataplane"));
    command.arg("--config").arg(path).args(more);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end: exit code, standard output and error.
pub(crate) fn sluice(folder: &Path, config: &str, more: &[&str]) -> (i32, String, String) {
    let done = command(folder, config, more).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        done.status.code().unwrap(),
        text(done.stdout),
        text(done.stderr),
    )
}

/// A process that serves an agent. Killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    socket: PathBuf,
}

impl Child {
    /// Starts it and waits until it answers its agent.
    pub(crate) fn start(folder: &Path, config: &str, more: &[&str]) -> Self {
        let process = command(folder, config, more).spawn().unwrap();
        let mut this = Self {
            process,
            socket: folder.join("agent.sock"),
        };
        let deadline = Instant::now() + PATIENCE;
        while !this.answers() {
            if let Some(status) = this.process.try_wait().unwrap() {
                let mut said = String::new();
                drop(
                    this.process
                        .stderr
                        .take()
                        .unwrap()
                        .read_to_string(&mut said),
                );
                panic!("it ended with {status}: {said}");
            }
            assert!(Instant::now() < deadline, "it does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    fn answers(&self) -> bool {
        run(async {
            let Ok(mut agent) = connect(&self.socket).await else {
                return false;
            };
            agent.counters(CountersRequest { port: None }).await.is_ok()
        })
    }

    /// Waits until so many frames came by a port.
    pub(crate) fn wait_for_frames(&self, port: &str, frames: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let received = run(async {
                let mut agent = connect(&self.socket).await.unwrap();
                let request = CountersRequest {
                    port: Some(port.to_owned()),
                };
                agent.counters(request).await.unwrap().into_inner().ports[0].rx_frames
            });
            if received >= frames {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{received} frames came by {port}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its exit code (`None`: by a signal), standard output and error.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let (mut out, mut err) = (String::new(), String::new());
        BufReader::new(self.process.stdout.take().unwrap())
            .read_to_string(&mut out)
            .unwrap();
        BufReader::new(self.process.stderr.take().unwrap())
            .read_to_string(&mut err)
            .unwrap();
        (status.code(), out, err)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, work)
            .await
            .expect("too slow")
    })
}

async fn connect(path: &Path) -> Result<OffloadClient<Channel>, tonic::transport::Error> {
    let path = path.to_owned();
    let connect = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://dataplane");
    Ok(OffloadClient::new(
        endpoint.connect_with_connector(connect).await?,
    ))
}

/// Makes a state hold, and waits for the Ack.
pub(crate) fn program(socket: &Path, state: &State) {
    let answer = run(async {
        let mut agent = connect(socket).await.unwrap();
        let messages: Vec<_> = to_requests(state.to_snapshot()).collect();
        let answers = agent.program(tokio_stream::iter(messages)).await.unwrap();
        answers.into_inner().message().await.unwrap().unwrap()
    });
    let ack = Answer::Ack {
        generation: state.generation,
    };
    assert_eq!(Answer::try_from(answer).unwrap(), ack);
}

/// A SYN from the sample's cart to its db.
pub(crate) fn cart_to_db(src_port: u16, dst_port: u16) -> Vec<u8> {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 2,
        seq: 1,
        ack: 0,
        mss: None,
    };
    let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let eth_src = Mac([2, 0, 0, 0, 0, 1]);
    FrameSpec {
        eth_src,
        eth_dst: ROUTER_MAC,
        ..FrameSpec::new(ip(1), ip(2), body)
    }
    .build()
}

/// The classic file format, little endian, Ethernet.
pub(crate) fn write_pcap(path: &Path, frames: &[&[u8]]) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, len, len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(*frame);
    }
    std::fs::write(path, out).unwrap();
}

pub(crate) fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (header, body) = rest.split_at(16);
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap());
        let (frame, behind) = body.split_at(usize::try_from(len).unwrap());
        frames.push(frame.to_vec());
        rest = behind;
    }
    frames
}
