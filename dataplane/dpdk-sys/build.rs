//! Finds libdpdk by pkg-config and gives the same raw flags to bindgen and to the shim's
//! compiler: they carry `-include rte_config.h` and the `-march` that the headers need.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const MISSING: &str = "\
libdpdk was not found by pkg-config. sluice-dpdk-sys binds to Debian's DPDK 22.11:
    apt-get install libdpdk-dev libclang-dev pkg-config
(only dataplane/dpdk* need it: plain `cargo build` and `make sim` do without)";

/// The ABI that the shim and the layout assumptions were written for.
const VERSION_WANTED: &str = "22.11";

fn main() {
    for file in ["shim.h", "shim.c"] {
        println!("cargo::rerun-if-changed=shim/{file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Err(error) = build() {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let version = pkg_config("--modversion")?;
    let version = version.join(" ");
    if !version.starts_with(VERSION_WANTED) {
        return Err(format!(
            "libdpdk is {version}; sluice-dpdk-sys is written for {VERSION_WANTED}"
        ));
    }
    let mut cflags = pkg_config("--cflags")?;
    // rte_os.h has CPU sets only with it.
    cflags.push("-D_GNU_SOURCE".to_owned());
    let libs = pkg_config("--libs")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    compile_shim(&cflags)?;
    bind(&cflags, &out)?;
    link(&libs);
    Ok(())
}

fn pkg_config(what: &str) -> Result<Vec<String>, String> {
    let tool = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let run = Command::new(&tool)
        .args([what, "libdpdk"])
        .output()
        .map_err(|error| format!("{}: {error}\n{MISSING}", Path::new(&tool).display()))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(format!("{MISSING}\npkg-config said: {}", said.trim()));
    }
    let said = String::from_utf8(run.stdout).map_err(|error| error.to_string())?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

fn compile_shim(cflags: &[String]) -> Result<(), String> {
    let mut shim = cc::Build::new();
    shim.file("shim/shim.c");
    shim.opt_level(2).std("gnu11");
    // DPDK's headers are not clean under -Wall; the shim itself is.
    shim.warnings(true).flag("-Wno-unused-parameter");
    for flag in cflags {
        shim.flag(flag);
    }
    shim.try_compile("sluice_dpdk_shim")
        .map_err(|error| format!("the shim does not compile: {error}"))
}

fn bind(cflags: &[String], out: &Path) -> Result<(), String> {
    let bindings = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(cflags)
        .allowlist_function("sluice_.*")
        .allowlist_function("rte_(eal_init|dev_probe|dev_remove|dev_name)")
        .allowlist_function("rte_eal_alarm_set")
        .allowlist_function("rte_thread_(register|unregister)")
        .allowlist_function("rte_pktmbuf_pool_create")
        .allowlist_function("rte_mempool_avail_count")
        .allowlist_function("rte_eth_dev_(configure|start|stop|close|info_get)")
        .allowlist_function("rte_eth_dev_(set_mtu|get_mtu|count_avail|adjust_nb_rx_tx_desc)")
        .allowlist_function("rte_eth_(rx|tx)_queue_setup")
        .allowlist_function("rte_eth_find_next")
        .allowlist_function("rte_eth_promiscuous_(enable|disable)")
        .allowlist_function("rte_eth_(macaddr_get|stats_get|link_get_nowait)")
        .allowlist_function("rte_acl_(create|free|add_rules|build|classify)")
        .allowlist_type("sluice_mbuf_layout")
        .allowlist_var("RTE_(PKTMBUF_HEADROOM|MAX_ETHPORTS|MAX_LCORE|ETH_NAME_MAX_LEN)")
        .allowlist_var("RTE_(MEMPOOL_CACHE_MAX_SIZE|CACHE_LINE_SIZE)")
        .allowlist_var("RTE_ACL_(FIELD_TYPE_.*|MAX_PRIORITY|NAMESIZE)")
        .allowlist_var("SLUICE_.*")
        // Behind pointers that we only pass on.
        .opaque_type("rte_mempool")
        .opaque_type("rte_device")
        // Ends in a flexible array; sluice-dpdk lays out its own.
        .opaque_type("rte_acl_rule")
        .allowlist_type("rte_acl_(rule_data|field)")
        // Packed, with bit fields or unions: we pass them by pointer or read no field.
        .opaque_type("rte_(ether|ipv4|ipv6|udp|tcp|arp|vlan|vxlan|gre|esp)_.*hdr")
        .opaque_type("rte_eth_(rss_conf|vmdq.*|dcb.*|fdir.*|txmode|intr_conf)")
        // 22.11 has types that are packed and hold aligned ones, which the generated
        // tests get wrong; tests/layout.rs compares what we read with the C compiler.
        .layout_tests(false)
        .derive_default(true)
        .generate_comments(false)
        .generate()
        .map_err(|error| format!("bindgen: {error} (apt-get install libclang-dev)"))?;
    fs::create_dir_all(out).map_err(|error| error.to_string())?;
    bindings
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| error.to_string())
}

fn link(libs: &[String]) {
    for flag in libs {
        if let Some(library) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib={library}");
        } else if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
}
