//! A daemon in a thread of its own, its wires, and a folder for its files.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod log;
pub(crate) mod pki;
pub(crate) mod spelled;
pub(crate) mod wires;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_dataplane::config::Config;
use sluice_dataplane::daemon::{Daemon, DaemonError, Summary};
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) use wires::WORKERS;
use wires::{Wires, wires};

/// Whatever is waited for comes well within this, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Ports of the sample state, in the worker's order.
pub(crate) const PORTS: &str = "
node: a
ports:
  - {name: uplink, kind: uplink, device: memory}
  - {name: host, kind: host, device: memory}
  - {name: vf0, kind: vf, device: memory}
  - {name: vf1, kind: vf, device: memory}
worker:
  flows: 1024
  idle: {policy: adaptive}
";

/// A folder with files of a configuration.
pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A file that only its owner may read.
    pub(crate) fn write_secret(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.write(name, text);
        mode(&path, 0o600);
    }

    pub(crate) fn config(&self, text: &str) -> Config {
        // Written out where it has nothing to say of it.
        let counted = format!("worker:\n  count: {WORKERS}\n");
        let names_cores = text.contains("core:");
        let text = if names_cores {
            text.to_owned()
        } else {
            text.replace("worker:\n", &counted)
        };
        let path = self.write("dataplane.yaml", text);
        Config::load(&path).unwrap()
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A daemon that runs.
pub(crate) struct Running {
    pub(crate) wires: Wires,
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Summary, DaemonError>>>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let (wires, set) = wires(config.ports.len());
        Self::start_with(config, wires, set).unwrap()
    }

    /// With wires on which frames wait already.
    pub(crate) fn start_with(
        config: Config,
        wires: Wires,
        set: wires::MemSet,
    ) -> Result<Self, DaemonError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (up, is_up) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let daemon = Daemon::start(config, set).await?;
                up.send((daemon.tcp_addr(), daemon.metrics_addr())).unwrap();
                daemon
                    .run(async {
                        drop(stopped.await);
                    })
                    .await
            })
        });
        match is_up.recv_timeout(PATIENCE) {
            Ok((tcp, metrics)) => {
                let (stop, thread) = (Some(stop), Some(thread));
                Ok(Self {
                    wires,
                    tcp,
                    metrics,
                    stop,
                    thread,
                })
            }
            Err(_) => Err(thread.join().unwrap().unwrap_err()),
        }
    }

    /// Tells it to stop; what it did.
    pub(crate) fn stop(mut self) -> Summary {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Waits for its own end.
    pub(crate) fn wait(mut self) -> Summary {
        let thread = self.thread.take().unwrap();
        until("the daemon ends", || thread.is_finished().then_some(()));
        thread.join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Waits until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until something holds; whether it came to that.
pub(crate) fn try_until(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Runs a test's client.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(2 * PATIENCE, test)
            .await
            .expect("the test takes too long")
    })
}
