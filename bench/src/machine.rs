//! What it was measured on.

use std::fs;

/// The CPU, how many of it, and the kernel: a line.
#[must_use]
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        // Arm's kernels give a part number only.
        let known = ["model name", "CPU part"].contains(&name.trim());
        known.then(|| value.trim().to_owned())
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} ({cpus} CPUs, {}), Linux {}",
        cpu.as_deref().unwrap_or("unknown CPU"),
        std::env::consts::ARCH,
        kernel.trim()
    )
}
