//! YAML that is refused for how much or how deep it is, in words that say what is allowed: the
//! parser's own name a number, not the bound.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;
use serde_saphyr::{Budget, Error, Options};

/// What is said of a text that is beyond a bound, or stands in itself; none if something else
/// is wrong with it.
pub(crate) fn beyond(error: &Error) -> Option<String> {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => beyond(error),
        Error::Budget { breach, .. } => breached(breach, &Budget::default()),
        Error::ExternalMessage { source, .. } => match &**source {
            // One that scans ahead meets this bound before it has counted levels.
            ExternalMessageSource::Parser(error) => {
                let too_deep = matches!(error.kind(), ErrorKind::RecursionLimitExceeded);
                too_deep.then(|| levels(Budget::default().max_depth))
            }
            _ => None,
        },
        Error::AliasReplayLimitExceeded { .. } => {
            let most = Options::default().alias_limits.max_total_replayed_events;
            Some(format!("aliases stand for more than {most} values"))
        }
        Error::AliasReplayStackDepthExceeded { .. } => {
            let most = Options::default().alias_limits.max_replay_stack_depth;
            Some(format!(
                "aliases stand for aliases; at most {most} deep are read"
            ))
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => Some(
            "the alias is recursive: it stands in what it stands for; \
             one may only stand for what ends before it"
                .to_owned(),
        ),
        _ => None,
    }
}

fn levels(most: usize) -> String {
    format!("lists and fields are too deep in each other; at most {most} levels are read")
}

fn breached(breach: &BudgetBreach, budget: &Budget) -> Option<String> {
    let more = |most: usize, what: &str| format!("more than {most} {what}");
    // Aliases count as what they stand for.
    let counted = "with those that aliases stand for; shorten or split it";
    Some(match breach {
        BudgetBreach::Depth { .. } => levels(budget.max_depth),
        BudgetBreach::Nodes { .. } => more(budget.max_nodes, &format!("values, {counted}")),
        BudgetBreach::Events { .. } => more(budget.max_events, &format!("parts, {counted}")),
        BudgetBreach::ScalarBytes { .. } => more(
            budget.max_total_scalar_bytes,
            &format!("bytes of text, {counted}"),
        ),
        BudgetBreach::Aliases { .. } => more(budget.max_aliases, "aliases"),
        BudgetBreach::Anchors { .. } => more(budget.max_anchors, "anchors"),
        BudgetBreach::RecordedAnchorEvents { .. } => {
            more(budget.max_recorded_anchor_events, "parts under anchors")
        }
        BudgetBreach::RecordedAnchorBytes { .. } => {
            more(budget.max_recorded_anchor_bytes, "bytes under anchors")
        }
        BudgetBreach::MergeKeys { .. } => more(budget.max_merge_keys, "merge keys"),
        BudgetBreach::AliasAnchorRatio { aliases, anchors } => {
            let (each, few) = (
                budget.alias_anchor_ratio_multiplier,
                budget.alias_anchor_min_aliases,
            );
            format!(
                "{aliases} aliases of {anchors} anchors; from {few} aliases on at most {each} \
                 for each anchor are read"
            )
        }
        _ => return None,
    })
}
