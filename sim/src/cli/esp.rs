//! `sluice-sim esp`: a debugging aid.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Failure, Outcome};
use crate::input::{InputError, Source};
use crate::output::{print, to_json};
use crate::{esp_sa, opening, pcap};

/// A capture that is read, in bytes, at most.
const PCAP_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum EspCommand {
    Open(OpenArgs),
}

/// Open the ESP packets of a capture and print what is inside, as JSON.
///
/// The keys are lines of Wireshark's esp_sa table, as `run` writes them. Exit 1 if a packet
/// didn't open or a frame's headers can't be read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sluice-sim esp open --pcap sluice-out/wire.pcap --keys sluice-out/esp_sa --esn")]
pub(super) struct OpenArgs {
    /// The capture, pcap with Ethernet frames.
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// The keys.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The SAs have 64-bit sequence numbers.
    #[arg(long)]
    esn: bool,
}

pub(super) fn run(command: &EspCommand) -> Outcome {
    let EspCommand::Open(args) = command;
    let source = Source::read(&args.keys)?;
    let keys = esp_sa::read(source.text()).map_err(|(line, error)| {
        let line = u64::try_from(line).unwrap_or(u64::MAX);
        // The line holds a key: its number is shown, it is not.
        InputError::Line {
            path: args.keys.display().to_string(),
            line,
            message: error.to_string(),
        }
    })?;
    let bytes = capture(&args.pcap).map_err(Failure::Other)?;
    let frames = pcap::read(&bytes).with_context(|| args.pcap.display().to_string())?;
    let record = opening::open_all(&frames, keys, args.esn).context("replay window")?;
    print(&to_json(&record)?)?;
    Ok(record.is_clean())
}

fn capture(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("can't read {name}"))?;
    let mut bytes = Vec::new();
    file.take(PCAP_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("can't read {name}"))?;
    if bytes.len() as u64 > PCAP_BYTES_MAX {
        anyhow::bail!("{name} is longer than the {PCAP_BYTES_MAX} bytes that are read");
    }
    Ok(bytes)
}
