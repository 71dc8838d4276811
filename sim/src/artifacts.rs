//! The files a run leaves in its folder. Written only when the run is over: bad input
//! leaves nothing behind.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::links::Links;
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

/// The folder with a capture of each link.
pub const LINKS: &str = "links";

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

/// Writes a capture of each link into a folder of its own; those of a run before that are there
/// are of other pods, and go.
///
/// # Errors
/// A folder or file that can't be written or taken away.
pub fn write_links(folder: &Path, links: &Links) -> anyhow::Result<()> {
    let folder = folder.join(LINKS);
    remove_captures(&folder).with_context(|| format!("can't clear {}", folder.display()))?;
    for (name, frames) in links.files() {
        let path = folder.join(name);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = BufWriter::new(File::create(&path)?);
            pcap::write(&mut file, frames)?;
            file.flush()
        };
        write().with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// Takes captures away, and nothing that somebody else has put beside them.
fn remove_captures(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let node = entry?.path();
        if !node.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&node)? {
            let file = entry?.path();
            if file.extension().is_some_and(|it| it == "pcap") {
                fs::remove_file(file)?;
            }
        }
    }
    Ok(())
}
