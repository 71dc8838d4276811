//! Names, labels and numbers that name: they are shown to people and compared by programs.

use super::Check;
use crate::limits::{LABEL_LEN_MAX, NAME_LEN_MAX, RULE_NAME_LEN_MAX, RULES_PER_POLICY_MAX};
use crate::model::IdentityId;
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn names(&self) -> Result<(), Refusal> {
        for name in self.state.ports.keys() {
            let key = || Key::Port(name.clone());
            self.text(key, || "name".to_owned(), &name.0, NAME_LEN_MAX)?;
        }
        for it in self.state.endpoints.values() {
            let key = || Key::Endpoint(it.key());
            self.text(key, || "pod_uid".to_owned(), &it.pod_uid.0, NAME_LEN_MAX)?;
            // Empty is the primary one.
            if !it.interface.is_empty() {
                let field = || "interface".to_owned();
                self.text(key, field, &it.interface, NAME_LEN_MAX)?;
            }
            let field = || "pod.namespace".to_owned();
            self.text(key, field, &it.pod.namespace, NAME_LEN_MAX)?;
            self.text(key, || "pod.name".to_owned(), &it.pod.name, NAME_LEN_MAX)?;
        }
        for it in self.state.prefixes.values() {
            if let Some(uid) = &it.pod_uid {
                let key = || Key::Prefix(it.prefix);
                self.text(key, || "pod_uid".to_owned(), &uid.0, NAME_LEN_MAX)?;
            }
        }
        for it in self.state.identities.values() {
            let key = || Key::Identity(it.id);
            if it.id == IdentityId(0) {
                return self.fault(&key(), "id", RefusalReason::IdentityZero);
            }
            self.text(key, || "label".to_owned(), &it.label, LABEL_LEN_MAX)?;
        }
        for node in self.state.peers.keys() {
            let key = || Key::Peer(node.clone());
            self.text(key, || "node".to_owned(), &node.0, NAME_LEN_MAX)?;
        }
        for it in self.state.policies.values() {
            let key = || Key::Policy(it.id);
            let (what, count, max) = ("rules", it.rules_in_all(), RULES_PER_POLICY_MAX);
            if count > max {
                let field = if it.rules.len() > max {
                    "rules"
                } else {
                    "shadow.rules"
                };
                let why = RefusalReason::TooMany { what, count, max };
                return self.fault(&key(), field, why);
            }
            let tables = [("", Some(it)), ("shadow.", it.shadow_table())];
            for (at, table) in tables {
                for (index, rule) in table.into_iter().flat_map(|it| it.rules.iter().enumerate()) {
                    let field = || format!("{at}rules[{index}]");
                    self.text(key, field, rule, RULE_NAME_LEN_MAX)?;
                }
            }
        }
        Ok(())
    }

    fn text(
        &self,
        key: impl FnOnce() -> Key,
        field: impl FnOnce() -> String,
        text: &str,
        max: usize,
    ) -> Result<(), Refusal> {
        let len = text.len();
        let why = if len == 0 {
            RefusalReason::Empty
        } else if len > max {
            RefusalReason::TooLong { len, max }
        } else if let Some(char) = text.chars().find(|char| char.is_control()) {
            RefusalReason::ControlCharacter { char }
        } else {
            return Ok(());
        };
        self.fault(&key(), &field(), why)
    }
}
