//! Compiles the shim, and links the library where its header is. Elsewhere there is no key to be
//! had, and the build goes on.

use std::env;
use std::path::Path;

fn main() {
    for file in ["ipsec_mb.h", "ipsec_mb.c"] {
        println!("cargo::rerun-if-changed=shim/{file}");
    }
    println!("cargo::rerun-if-changed={HEADER}");
    let has_library = has_library();
    let mut build = cc::Build::new();
    if has_library {
        build.define("SLUICE_HAS_IMB", None);
    }
    let compiled = build
        .file("shim/ipsec_mb.c")
        .opt_level(2)
        .std("gnu11")
        .warnings(true)
        .try_compile("sluice_ipsec_mb_shim");
    if let Err(error) = compiled {
        println!("cargo::error=the shim does not compile: {error}");
    }
    if has_library {
        println!("cargo::rustc-link-lib=IPSec_MB");
    }
}

/// Of Debian's libipsec-mb-dev, which libdpdk-dev brings.
const HEADER: &str = "/usr/include/intel-ipsec-mb.h";

/// On x86-64 alone.
fn has_library() -> bool {
    let is_x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|it| it == "x86_64");
    is_x86 && Path::new(HEADER).exists()
}
