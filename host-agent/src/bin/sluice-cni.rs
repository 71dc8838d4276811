//! The chained CNI plugin; see `sluice_host_agent::cni`.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use sluice_host_agent::cni::{Env, run};

/// Bytes of a configuration that are read, at most.
const STDIN_BYTES_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    // What can't be read is no JSON either, and said so.
    let _ = std::io::stdin()
        .take(STDIN_BYTES_MAX)
        .read_to_end(&mut stdin);
    let (out, code) = match run(&Env::from_process(), &stdin) {
        Ok(out) => (out, ExitCode::SUCCESS),
        Err(error) => {
            let text = error.to_json() + "\n";
            (text.into_bytes(), ExitCode::FAILURE)
        }
    };
    let mut stdout = std::io::stdout().lock();
    // A runtime that doesn't get the result must not take it for one.
    match stdout.write_all(&out).and_then(|()| stdout.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
