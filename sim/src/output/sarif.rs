//! SARIF 2.1.0 (OASIS), for systems that show findings at their lines.

use std::path::{Component, Path};

use serde::Serialize;

/// Of the schema that a log says it is of.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// A kind of result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SarifRule {
    /// `SL001`.
    pub id: &'static str,
    /// `selects-nothing`.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub summary: &'static str,
    /// How much it weighs.
    pub level: SarifLevel,
}

/// How much a result weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SarifLevel {
    /// A check failed.
    Error,
    /// Most likely a mistake.
    Warning,
    /// Worth a look.
    Note,
}

/// Something found at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SarifResult {
    /// The [`SarifRule::id`].
    pub rule: &'static str,
    /// How much it weighs.
    pub level: SarifLevel,
    /// What was found and what to do.
    pub text: String,
    /// The file, as [`artifact`] has it; none if the finding is of no file.
    pub uri: Option<String>,
    /// The line and column, from 1.
    pub at: Option<(u32, u32)>,
    /// What in the file: `NetworkPolicy shop/cart spec.ingress[0]`.
    pub object: String,
}

/// A log of one run.
#[derive(Serialize)]
pub struct SarifLog<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    name: &'static str,
    short_description: Message<'static>,
    default_configuration: Configuration,
}

#[derive(Serialize)]
struct Configuration {
    level: SarifLevel,
}

#[derive(Serialize)]
struct Message<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'a> {
    rule_id: &'static str,
    rule_index: usize,
    level: SarifLevel,
    message: Message<'a>,
    locations: Vec<Location<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_location: Option<Physical<'a>>,
    logical_locations: [Logical<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical<'a> {
    artifact_location: Artifact<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
struct Artifact<'a> {
    uri: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical<'a> {
    fully_qualified_name: &'a str,
}

impl<'a> SarifLog<'a> {
    /// A log of results; each result's rule must be among the rules.
    #[must_use]
    pub fn new(rules: &[SarifRule], results: &'a [SarifResult]) -> Self {
        let descriptor = |it: &SarifRule| Descriptor {
            id: it.id,
            name: it.name,
            short_description: Message { text: it.summary },
            default_configuration: Configuration { level: it.level },
        };
        let found = |it: &'a SarifResult| {
            let rule_index = rules.iter().position(|rule| rule.id == it.rule)?;
            let physical_location = it.uri.as_deref().map(|uri| Physical {
                artifact_location: Artifact { uri },
                region: it.at.map(|(start_line, start_column)| Region {
                    start_line,
                    start_column,
                }),
            });
            Some(Found {
                rule_id: it.rule,
                rule_index,
                level: it.level,
                message: Message { text: &it.text },
                locations: vec![Location {
                    physical_location,
                    logical_locations: [Logical {
                        fully_qualified_name: &it.object,
                    }],
                }],
            })
        };
        Self {
            schema: SCHEMA,
            version: "2.1.0",
            runs: [Run {
                tool: Tool {
                    driver: Driver {
                        name: "sluice-sim",
                        version: env!("CARGO_PKG_VERSION"),
                        rules: rules.iter().map(descriptor).collect(),
                    },
                },
                column_kind: "unicodeCodePoints",
                results: results.iter().filter_map(found).collect(),
            }],
        }
    }
}

/// A file as a relative URI reference. Of a path that is absolute, or leads out of the current
/// folder, only the name is left: results must be the same on every machine.
#[must_use]
pub fn artifact(path: &Path) -> String {
    let inside = |it: Component<'_>| matches!(it, Component::Normal(_) | Component::CurDir);
    let parts: Vec<String> = if path.components().all(inside) {
        let named = path
            .components()
            .filter(|it| matches!(it, Component::Normal(_)));
        named
            .map(|it| encode(&it.as_os_str().to_string_lossy()))
            .collect()
    } else {
        let name = path.file_name();
        name.map(|it| encode(&it.to_string_lossy()))
            .into_iter()
            .collect()
    };
    parts.join("/")
}

/// Percent-encodes what may not stand in a URI's segment (RFC 3986 section 3.3).
fn encode(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_relative_uris() {
        for (path, expected) in [
            ("k8s/policy.yaml", "k8s/policy.yaml"),
            ("./k8s/a b.yaml", "k8s/a%20b.yaml"),
            ("/home/me/k8s/policy.yaml", "policy.yaml"),
            ("../other/policy.yaml", "policy.yaml"),
            ("k8s/ü#1.yaml", "k8s/%C3%BC%231.yaml"),
        ] {
            assert_eq!(artifact(Path::new(path)), expected);
        }
    }
}
