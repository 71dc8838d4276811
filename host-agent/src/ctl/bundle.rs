//! `sluicectl bundle`: a file for a look elsewhere.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::Outcome;
use crate::incident::Bundle;

/// Write down what agent and dataplane know: objects, compiled policy, flows, verdicts and
/// counters, no key and no payload. `sluice-sim replay` reads it; see docs/incidents.md.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The file; what is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl BundleArgs {
    /// Writes it, for its owner's eyes only: it tells who may talk to whom.
    pub(super) fn write(&self, bundle: &Bundle) -> anyhow::Result<Outcome> {
        let mut text = serde_json::to_vec_pretty(bundle)?;
        text.push(b'\n');
        let shown = self.out.display();
        self.replace(&text)
            .with_context(|| format!("can't write {shown}"))?;
        let generation = bundle.agent.generation;
        let (objects, flows) = (bundle.objects.len(), bundle.flows.flows.len());
        let verdicts = bundle.verdicts.as_ref().map(Vec::len);
        let told = verdicts.map_or_else(
            || "no verdicts (the agent has no verdict log)".to_owned(),
            |it| format!("{it} verdicts"),
        );
        let generation_text = generation.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let text = format!(
            "node {}, generation {generation_text}: {objects} objects, {flows} flows, {told}\n",
            bundle.node
        );
        let json = json!({
            "node": bundle.node,
            "generation": generation,
            "objects": objects,
            "flows": flows,
            "verdicts": verdicts,
        });
        Outcome::new(text, &json)
    }

    /// Puts a file of its own in the place of what is there: whoever could read that, or had
    /// made a link of it, gets nothing.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let mut beside = self.out.clone().into_os_string();
        beside.push(format!(".{}.part", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        let written = file
            .write_all(text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, &self.out));
        if written.is_err() {
            // What is half there helps nobody; that it can't be removed says nothing new.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}
