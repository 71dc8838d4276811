//! The files a run leaves in its folder. Written only when the run is over: bad input
//! leaves nothing behind.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::output::{Timeline, timeline_html};
use crate::world::World;
use crate::{esp_sa, pcap};

/// Every frame on the wire between the nodes.
pub const WIRE: &str = "wire.pcap";
/// The keys, for Wireshark.
pub const KEYS: &str = "esp_sa";
/// The record.
pub const REPORT: &str = "report.json";
/// The run over time, for a browser.
pub const TIMELINE: &str = "timeline.html";

/// Writes them.
///
/// # Errors
/// A folder or file that can't be written.
pub fn write(folder: &Path, world: &World, report: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let file = |name: &str| {
        let path = folder.join(name);
        let file =
            File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        anyhow::Ok(BufWriter::new(file))
    };
    let mut wire = file(WIRE)?;
    pcap::write(&mut wire, world.wire())?;
    wire.flush()?;
    let mut keys = file(KEYS)?;
    keys.write_all(esp_sa::write(world.sas()).as_bytes())?;
    keys.flush()?;
    let mut record = file(REPORT)?;
    record.write_all(report)?;
    record.flush()?;
    Ok(())
}

/// Writes a timeline into a folder that is there.
///
/// # Errors
/// A file that can't be written.
pub fn write_timeline(folder: &Path, timeline: &Timeline) -> anyhow::Result<()> {
    let path = folder.join(TIMELINE);
    let page = timeline_html(timeline)?;
    fs::write(&path, page).with_context(|| format!("can't write {}", path.display()))
}
