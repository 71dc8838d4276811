//! A scenario that was drawn: as text, as files, and in parts that can be left out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::input::{Beside, InputError, Manifests, PlacedProbe, Scenario, Source, parse_scenario};
use crate::probe::Family;

/// The scenario's file in a folder of its own.
const SCENARIO: &str = "scenario.yaml";
/// Prefixes of the addresses that pods are given.
const POD_CIDRS: &str = "10.1.0.0/16, 10.244.0.0/14, \"fd01::/48\", \"fd10:244::/48\"";
const CLUSTER: &str = "cluster.yaml";

/// A scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// What it was drawn from: keys and the wires' chances come from it too.
    pub seed: u64,
    /// The algorithm of all SAs.
    pub algorithm: &'static str,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// The family of the outer headers.
    pub underlay: Family,
    /// ESP in UDP.
    pub udp_encap: bool,
    /// The operator says which addresses only pods have.
    pub pod_cidrs: bool,
    /// Workers of each dataplane.
    pub workers: u8,
    /// Flows that each dataplane has room for, if they are few.
    pub flows_max: Option<usize>,
    /// The sequence number of each SA's first packet, if it is not 1.
    pub sa_first: Option<u64>,
    /// Kubernetes objects at the beginning.
    pub objects: Vec<Value>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Objects come or change.
    Apply(Vec<Value>),
    /// Another verb, and what it says.
    Verb(&'static str, Value),
}

impl Step {
    /// The verb.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Verb(verb, _) => verb,
        }
    }
}

impl Case {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        format!("seed-{}", self.seed)
    }

    /// The scenario file, with what it shows in its first lines.
    #[must_use]
    pub fn text(&self, about: &str) -> String {
        let mut text = String::new();
        for line in about.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        let Self {
            seed,
            algorithm,
            esn,
            udp_encap,
            ..
        } = self;
        let underlay = match self.underlay {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        text.push_str(&format!(
            "name: {}\nseed: {seed}\nalgorithm: {algorithm}\nesn: {esn}\nunderlay: {underlay}\n\
             udp_encap: {udp_encap}\n",
            self.name()
        ));
        if self.pod_cidrs {
            text.push_str(&format!("pod_cidrs: [{POD_CIDRS}]\n"));
        }
        if self.workers > 1 {
            text.push_str(&format!("workers: {}\n", self.workers));
        }
        if let Some(flows_max) = self.flows_max {
            text.push_str(&format!("flows_max: {flows_max}\n"));
        }
        if let Some(first) = self.sa_first {
            text.push_str(&format!("sa: {{first: {first}}}\n"));
        }
        text.push_str(&format!("manifests: {CLUSTER}\nsteps:\n"));
        if self.steps.is_empty() {
            text.push_str("  []\n");
        }
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Apply(_) => text.push_str(&format!("  - apply: {}\n", step_file(index))),
                Step::Verb(verb, says) => text.push_str(&format!("  - {verb}: {says}\n")),
            }
        }
        text
    }

    /// The other files: name and text. JSON is YAML, and an object on a line is easy to
    /// take out.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, String> {
        let documents = |objects: &[Value]| {
            let lines: Vec<_> = objects.iter().map(|it| format!("{it}\n")).collect();
            lines.join("---\n")
        };
        let mut files = BTreeMap::from([(CLUSTER.to_owned(), documents(&self.objects))]);
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::Apply(objects) = step {
                files.insert(step_file(index), documents(objects));
            }
        }
        files
    }

    /// The scenario, read as if from its files.
    ///
    /// # Errors
    /// [`InputError`] if a file is wrong.
    pub fn scenario(&self) -> Result<Scenario, InputError> {
        let source = Source::new(SCENARIO, self.text(""));
        parse_scenario(&source, &Memory(self.files()))
    }

    /// Writes its files into a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, folder: &Path, about: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            // Of an earlier time, when it had other steps.
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("step-") && name.ends_with(".yaml") {
                fs::remove_file(path)?;
            }
        }
        fs::write(folder.join(SCENARIO), self.text(about))?;
        for (name, text) in self.files() {
            fs::write(folder.join(name), text)?;
        }
        Ok(())
    }
}

fn step_file(index: usize) -> String {
    format!("step-{}.yaml", index + 1)
}

/// Files that were never written.
struct Memory(BTreeMap<String, String>);

impl Beside for Memory {
    fn manifests(&self, name: &str) -> Result<Manifests, InputError> {
        let text = self.0.get(name).map_or("", String::as_str);
        Manifests::parse(name, text)
    }

    fn probes(&self, _: &str) -> Result<Vec<PlacedProbe>, InputError> {
        Ok(Vec::new())
    }
}
