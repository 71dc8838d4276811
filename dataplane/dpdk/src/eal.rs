//! DPDK's environment: one a process, from a typed configuration, until the process ends.

use core::ffi::c_char;
use core::sync::atomic::{AtomicBool, Ordering};
use std::ffi::CString;
use std::{fs, io};

use sluice_dpdk_sys as sys;

use crate::errno::Errno;

/// Where the memory of pools and rings comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Hugepages, taken from the kernel without a mount and gone with the process.
    Hugepages {
        /// Mebibytes reserved at the start; more is taken when needed.
        mib: u32,
    },
    /// Ordinary pages: for laboratories and tests. Drivers of hardware need hugepages.
    NoHuge {
        /// Mebibytes in all.
        mib: u32,
    },
}

impl Memory {
    const fn mib(self) -> u32 {
        match self {
            Self::Hugepages { mib } | Self::NoHuge { mib } => mib,
        }
    }

    /// Whether it is there: DPDK's own answer is a line in its log.
    fn check(self) -> Result<(), EalError> {
        let (kind, free_mib) = match self {
            Self::Hugepages { .. } => (HUGEPAGES, hugepages_free_mib()?),
            Self::NoHuge { .. } => (PAGES, memory_free_mib()?),
        };
        let wanted_mib = self.mib();
        if u64::from(wanted_mib) <= free_mib {
            return Ok(());
        }
        Err(EalError::Memory {
            kind,
            wanted_mib,
            free_mib,
        })
    }
}

/// How much DPDK says on standard error and to syslog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings too.
    #[default]
    Warning,
    /// What drivers say in passing.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What the EAL starts with. Devices are no part of it: a virtual device that is asked for
/// here and can't be had is no error to DPDK. [`crate::device::Device::open`] asks for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EalConfig {
    /// The memory.
    pub memory: Memory,
    /// PCI devices that DPDK may take from the kernel, like `0000:03:00.0`. Empty: it
    /// doesn't look at the PCI bus.
    pub pci_allow: Vec<String>,
    /// CPUs of the calling thread and DPDK's own helpers, as the kernel writes lists
    /// (`0-1,4`). `None`: all that the process may use. Workers bind themselves, see
    /// [`crate::lcore::Lcore`].
    pub control_cpus: Option<String>,
    /// How much it says.
    pub log_level: LogLevel,
}

impl EalConfig {
    /// Only memory; no PCI.
    #[must_use]
    pub const fn new(memory: Memory) -> Self {
        Self {
            memory,
            pci_allow: Vec::new(),
            control_cpus: None,
            log_level: LogLevel::Warning,
        }
    }

    /// The command line that DPDK wants.
    fn args(&self) -> Result<Vec<CString>, EalError> {
        let mut args = vec!["sluice".to_owned()];
        match self.memory {
            Memory::Hugepages { .. } => args.push("--in-memory".to_owned()),
            Memory::NoHuge { .. } => {
                args.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
            }
        }
        let mib = self.memory.mib();
        if mib == 0 {
            return Err(EalError::Config("no memory".to_owned()));
        }
        args.extend(["-m".to_owned(), mib.to_string()]);
        // One lcore for the calling thread, on all CPUs it may use: DPDK starts no thread
        // of its own, nor narrows this one's affinity. Workers register when they start.
        let cpus = match &self.control_cpus {
            Some(cpus) => cpus.clone(),
            None => cpus_allowed()?,
        };
        if !cpus.starts_with(|c: char| c.is_ascii_digit())
            || !cpus.chars().all(|c| c.is_ascii_digit() || "-,".contains(c))
        {
            return Err(EalError::Config(format!("CPU list {cpus:?}")));
        }
        args.push(format!("--lcores=0@({cpus})"));
        if self.pci_allow.is_empty() {
            args.push("--no-pci".to_owned());
        }
        for device in &self.pci_allow {
            args.extend(["-a".to_owned(), device.clone()]);
        }
        args.push("--no-telemetry".to_owned());
        args.push(format!("--log-level=*:{}", self.log_level.name()));
        args.into_iter()
            .map(|arg| CString::new(arg).map_err(|e| EalError::Config(e.to_string())))
            .collect()
    }
}

/// The EAL didn't start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// Something in the configuration that isn't what it should be.
    #[error("EAL configuration: {0}")]
    Config(String),
    /// This process has started it before, or tried to: DPDK can't start twice.
    #[error("the EAL was started before in this process")]
    Claimed,
    /// Less memory than was asked for.
    #[error(
        "the EAL was to have {wanted_mib} MiB of {kind}, and {free_mib} MiB are free{remedy}",
        remedy = if *kind == HUGEPAGES { ": raise vm.nr_hugepages, or configure less" } else { "" }
    )]
    Memory {
        /// Hugepages or memory.
        kind: &'static str,
        /// Mebibytes asked for.
        wanted_mib: u32,
        /// Mebibytes that are free.
        free_mib: u64,
    },
    /// DPDK refused.
    #[error("the EAL does not start with `{args}`: {errno}")]
    Init {
        /// Its arguments.
        args: String,
        /// Why.
        errno: Errno,
    },
    /// What the kernel says of CPUs or memory can't be read.
    #[error("reading {path}: {source}")]
    Kernel {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

const HUGEPAGES: &str = "hugepages";
const PAGES: &str = "memory";

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// Proof that the EAL is up. It is never taken down: its memory stays mapped until the
/// process ends, so nothing that points into it can outlive it.
#[derive(Clone, Copy, Debug)]
pub struct Eal {
    _only_here: (),
}

impl Eal {
    /// Starts the EAL. The calling thread becomes DPDK's main thread.
    ///
    /// # Errors
    /// [`EalError`]. After [`EalError::Init`] this process can't try again.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        let args = config.args()?;
        // Else the memory that this process has would be missed in the next line.
        if CLAIMED.load(Ordering::Relaxed) {
            return Err(EalError::Claimed);
        }
        config.memory.check()?;
        // Relaxed: it guards only itself; who gets `false` is the only one to go on.
        if CLAIMED.swap(true, Ordering::Relaxed) {
            return Err(EalError::Claimed);
        }
        let shown: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
        let shown = shown.join(" ");
        // DPDK keeps pointers into its arguments: they are never freed.
        let argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
        let argv = argv.leak();
        let argc = i32::try_from(argv.len()).unwrap_or(0);
        // SAFETY: argv has argc pointers to writable NUL-terminated strings that live for
        // ever (leaked above); no other call can be under way or come later (CLAIMED).
        let started = unsafe { sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        if started < 0 {
            return Err(EalError::Init {
                args: shown,
                errno: Errno::last(),
            });
        }
        Ok(Self { _only_here: () })
    }

    /// Ports that are open in this process, by whoever.
    #[must_use]
    pub fn ports_open(&self) -> u16 {
        // SAFETY: the EAL is up (self).
        unsafe { sys::rte_eth_dev_count_avail() }
    }
}

/// The kernel's list of the CPUs that this process may use, like `0-1,4`.
fn cpus_allowed() -> Result<String, EalError> {
    let list = read("/proc/self/status")?;
    let list = field(&list, "Cpus_allowed_list:");
    Ok(list.unwrap_or("0").to_owned())
}

/// Hugepages of all sizes that nobody has.
fn hugepages_free_mib() -> Result<u64, EalError> {
    const SIZES: &str = "/sys/kernel/mm/hugepages";
    let unread = |source| EalError::Kernel {
        path: SIZES.to_owned(),
        source,
    };
    let mut free_mib = 0;
    for size in fs::read_dir(SIZES).map_err(unread)? {
        let size = size.map_err(unread)?.path();
        let page_kib = size.file_name().and_then(|name| {
            let name = name.to_str()?.strip_prefix("hugepages-")?;
            name.strip_suffix("kB")?.parse::<u64>().ok()
        });
        let count = read(&size.join("free_hugepages").to_string_lossy())?;
        let count = count.trim().parse::<u64>();
        free_mib += page_kib.unwrap_or(0) * count.unwrap_or(0) / 1024;
    }
    Ok(free_mib)
}

/// Ordinary memory that can be had without swapping.
fn memory_free_mib() -> Result<u64, EalError> {
    let meminfo = read("/proc/meminfo")?;
    let kib = field(&meminfo, "MemAvailable:").and_then(|v| v.strip_suffix(" kB"));
    Ok(kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024)
}

fn read(path: &str) -> Result<String, EalError> {
    fs::read_to_string(path).map_err(|source| EalError::Kernel {
        path: path.to_owned(),
        source,
    })
}

/// The value behind a name in one of the kernel's lists.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines();
    lines
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &EalConfig) -> String {
        let args = config.args().unwrap();
        let args: Vec<_> = args.iter().map(|a| a.to_str().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn without_hugepages_nothing_is_shared_or_mounted() {
        let mut config = EalConfig::new(Memory::NoHuge { mib: 64 });
        config.control_cpus = Some("0-1,4".to_owned());
        let args = shown(&config);
        assert!(args.starts_with("sluice --no-huge --no-shconf -m 64 --lcores=0@(0-1,4) --no-pci"));
        assert!(!args.contains("--in-memory"), "the two exclude each other");
    }

    #[test]
    fn allowed_pci_devices_turn_the_bus_on() {
        let mut config = EalConfig::new(Memory::Hugepages { mib: 512 });
        config.pci_allow = vec!["0000:03:00.0".to_owned()];
        let args = shown(&config);
        assert!(args.contains("--in-memory -m 512"));
        assert!(args.contains("-a 0000:03:00.0"));
        assert!(!args.contains("--no-pci"));
    }

    #[test]
    fn a_cpu_list_can_not_carry_other_arguments() {
        let mut config = EalConfig::new(Memory::NoHuge { mib: 64 });
        for bad in ["", "0)(", "0 --vdev=net_null0", "-1", "all"] {
            config.control_cpus = Some(bad.to_owned());
            assert!(config.args().is_err(), "{bad:?}");
        }
    }
}
