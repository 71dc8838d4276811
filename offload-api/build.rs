//! Generates the wire's types from the `.proto` files, without protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = protox::compile(
        [
            "sluice/offload/v1/offload.proto",
            "sluice/offload/v1/verdicts.proto",
        ],
        ["proto"],
    )?;
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .compile_fds(files.clone())?;

    // The descriptors without their comments, for the audit of field names and for tools
    // that speak gRPC by reflection.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("sluice.offload.v1.bin"), files.encode_to_vec())?;
    Ok(())
}
