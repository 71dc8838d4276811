//! Recorded flows: YAML with a list `flows`, or JSON lines with one each.

use std::path::Path;

use serde_saphyr::Spanned;
use sluice_host_agent::difference::{Flow, FlowEnd, FlowPort};
use sluice_offload_api::model::{PodRef, Protocol};

use super::probes::{PortEntry, check_port};
use super::{InputError, Place, Source, Spot, parse_party};
use crate::probe::{Party, ProbePort};

/// Flows of a file, at most.
pub const FLOWS_MAX: usize = 100_000;

/// A recorded flow and where it was written.
#[derive(Clone, Debug)]
pub struct PlacedFlow {
    /// The flow.
    pub flow: Flow,
    /// The initiator as written.
    pub from: String,
    /// The responder as written.
    pub to: String,
    /// Its place.
    pub place: Place,
}

/// Reads a file of recorded flows.
///
/// # Errors
/// [`InputError`].
pub fn load_flows(path: &Path) -> Result<Vec<PlacedFlow>, InputError> {
    let source = Source::read(path)?;
    let entries = if is_lines(source.text()) {
        lines(&source)?
    } else {
        let file: FlowsFile = source.parse()?;
        let entries = file.flows.into_iter();
        let placed = |it: Spanned<FlowEntry>| (source.at(Spot::from(it.referenced)), it.value);
        entries.map(placed).collect()
    };
    if entries.is_empty() {
        let place = source.at(Spot::START);
        return Err(place.fault("no flows, so nothing would be checked; write at least one"));
    }
    if entries.len() > FLOWS_MAX {
        let count = entries.len();
        let text = format!("{count} flows are more than the {FLOWS_MAX} of a file; split it");
        return Err(source.at(Spot::START).fault(text));
    }
    let checked = entries.into_iter().map(|(place, entry)| entry.check(place));
    checked.collect()
}

/// JSON lines begin with an object that is whole in its line.
fn is_lines(text: &str) -> bool {
    let first = text.lines().find(|it| !it.trim().is_empty());
    let object = first
        .map(str::trim)
        .filter(|it| it.starts_with('{') && it.ends_with('}'));
    object.is_some_and(|it| it.contains("\"from\"") && !it.contains("\"flows\""))
}

fn lines(source: &Source) -> Result<Vec<(Place, FlowEntry)>, InputError> {
    let mut entries = Vec::new();
    for (line, text) in (1..).zip(source.text().lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let place = |column| source.at(Spot { line, column });
        let entry = serde_json::from_str(text).map_err(|error| {
            let column = u32::try_from(error.column()).unwrap_or(1).max(1);
            let message = error.to_string();
            // The place stands in front already.
            let end = message.rfind(" at line ").unwrap_or(message.len());
            place(column).fault(message.get(..end).unwrap_or(&message))
        })?;
        entries.push((place(1), entry));
    }
    Ok(entries)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowsFile {
    flows: Vec<Spanned<FlowEntry>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowEntry {
    from: String,
    to: String,
    protocol: Protocol,
    port: Option<PortEntry>,
}

impl FlowEntry {
    fn check(self, place: Place) -> Result<PlacedFlow, InputError> {
        check_port(self.protocol, self.port.as_ref(), &place)?;
        let end = |text: &str| match parse_party(text) {
            Ok(Party::Outside(ip)) => Ok(FlowEnd::Ip(ip)),
            Ok(Party::Node(node)) => Ok(FlowEnd::Node(node.as_str().into())),
            Ok(Party::Pod { namespace, name }) => Ok(FlowEnd::Pod(PodRef { namespace, name })),
            Err(error) => Err(place.fault(error)),
        };
        let port = self.port.map(|it| match it.0 {
            ProbePort::Number(number) => FlowPort::Number(number),
            ProbePort::Name(name) => FlowPort::Name(name),
        });
        let flow = Flow {
            from: end(&self.from)?,
            to: end(&self.to)?,
            protocol: self.protocol,
            port,
        };
        Ok(PlacedFlow {
            flow,
            from: self.from,
            to: self.to,
            place,
        })
    }
}
