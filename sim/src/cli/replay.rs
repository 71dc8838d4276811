//! `sluice-sim replay`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sluice_host_agent::cluster::{Cluster, Peer};
use sluice_host_agent::incident::{BYTES_MAX, Bundle};
use sluice_host_agent::text::Text;
use sluice_offload_api::model::{Direction, NodeName};

use super::Outcome;
use crate::input::{InputError, load_manifests};
use crate::output::{Format, Paint, Progress, note, print, show_replay, to_json};
use crate::replaying::{ReplayRecord, ask, questions};
use crate::world::{World, WorldConfig};

/// Look at an incident elsewhere: rebuild the cluster of a bundle and ask again what its node
/// has recorded.
///
/// `sluicectl bundle` makes the file on the node. Each of its verdicts and flows is sent once
/// more, as real frames between simulated nodes, and differs or not from what was recorded.
/// With --policies it is asked under other policies than those of the bundle.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluicectl bundle --out incident.json
  sluice-sim replay incident.json
  sluice-sim replay incident.json --policies k8s/policies
  sluice-sim replay incident.json --output json | jq '.results[] | select(.same == false)'

Exit codes: 0 nothing differs, 1 something does, 2 bad input. See docs/incidents.md.")]
pub(super) struct ReplayArgs {
    /// The bundle.
    bundle: PathBuf,
    /// Folder of manifests, or one file: its policies take the place of the bundle's.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Where keys and all other randomness come from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn run(args: &ReplayArgs) -> Outcome {
    let text = Text::read(&args.bundle, BYTES_MAX).map_err(InputError::from)?;
    let shown = args.bundle.display().to_string();
    let bundle = Bundle::read(text.as_str()).with_context(|| shown.clone())?;
    let mut cluster = bundle.cluster().with_context(|| shown.clone())?;
    if let Some(path) = &args.policies {
        let others = load_manifests(path)?;
        others
            .notes
            .iter()
            .for_each(|text| note(&format!("note: {text}")));
        cluster.policies = others.cluster.policies;
        cluster.cluster_policies = others.cluster.cluster_policies;
        cluster.multi_policies = others.cluster.multi_policies;
    }
    let encryption = bundle.encryption().with_context(|| shown.clone())?;
    tell(&bundle);
    if names_domains(&cluster) {
        note("note: policies name domains; what pods had learned of them is not in a bundle");
    }
    let config = WorldConfig {
        seed: args.seed,
        encryption,
        ..WorldConfig::default()
    };
    let (questions, mut left_out) = questions(&bundle, &cluster);
    let mut world = World::boot(cluster, config).map_err(InputError::from)?;
    let here = NodeName(bundle.node.clone());
    let mut progress = Progress::default();
    progress.begin(questions.len());
    let mut results = Vec::new();
    for question in questions {
        let known = (args.policies.is_none(), bundle.encryption.is_some());
        match ask(&mut world, question, &here, known) {
            Ok(replayed) => results.push(replayed),
            Err(why) => *left_out.entry(why).or_insert(0) += 1,
        }
        progress.advance();
    }
    progress.end();
    let count = |same| results.iter().filter(|it| it.same == same).count();
    let record = ReplayRecord {
        node: bundle.node,
        generation: bundle.agent.generation,
        other_policies: args.policies.is_some(),
        differences: count(Some(false)),
        unjudged: count(None),
        results,
        left_out,
    };
    match args.output {
        Format::Json => print(&to_json(&record)?)?,
        Format::Table => print(show_replay(&record, Paint::for_stdout()).as_bytes())?,
    }
    Ok(record.differences == 0)
}

fn names_domains(cluster: &Cluster) -> bool {
    let is_domain = |it: &Peer| matches!(it, Peer::Domain(_));
    let mut rules = cluster.rules(Direction::Egress);
    rules.any(|it| it.peers.iter().any(is_domain))
}

/// What a person should know of a bundle before they believe it.
fn tell(bundle: &Bundle) {
    if bundle.verdicts.is_none() {
        note(
            "note: the bundle has no verdicts: its agent's verdict log is off; see docs/incidents.md",
        );
    }
    if bundle.encryption.is_none() {
        note(
            "note: the bundle doesn't tell what encryption its cluster wants: all is required here",
        );
    }
    if bundle.flows.truncated {
        note("note: the node had more flows than a bundle holds");
    }
    if !bundle.agent.settled {
        note(
            "note: agent and dataplane were not in step: what was in force is not what the objects say",
        );
    }
    for it in &bundle.agent.problems {
        // Somebody else's file: nothing of it may drive a terminal.
        let text = format!("note: {}: {}; {}", it.part, it.text, it.meanwhile);
        note(&text.replace(char::is_control, " "));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Failure;
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_bad_input() {
        let args = ReplayArgs {
            bundle: "nowhere.json".into(),
            policies: None,
            seed: 1,
            output: Format::Json,
        };
        assert!(matches!(run(&args), Err(Failure::Input(_))));
    }
}
