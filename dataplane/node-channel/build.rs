//! Generates the Workload API's types and client, without protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["spiffe/workload.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        // It has a private key in it; `src/workload/proto.rs` has one that shows none.
        .skip_debug([".X509SVID"])
        .compile_fds(files.clone())?;
    // A server of the same API, for the tests.
    let server = PathBuf::from(env::var("OUT_DIR")?).join("server");
    fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(server)
        .compile_fds(files)?;
    Ok(())
}
