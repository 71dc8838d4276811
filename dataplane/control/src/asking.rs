//! What is asked of the workers, and their answers as they come in.

use std::collections::VecDeque;

use sluice_dataplane_core::clear::PAIRS_MAX;
use sluice_dataplane_core::command::{ClearPage, Command, FlowPage, NamePage};
use sluice_offload_api::model::{FlowRecord, NameRecord, SaRecord};

use crate::workers::Workers;

/// Flows and names asked of a worker in one command.
const PAGE: usize = 1024;

/// A question that has found no room on the way yet.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// Of all, from the first on.
    AllFlows,
    /// Of one worker, from an entry on.
    Flows(usize, usize),
    /// The same of names.
    AllNames,
    Names(usize, usize),
    /// Of all, with room for so many.
    Sas(usize),
    /// Of all.
    Clear,
}

/// One of each kind at a time: who asks again before the answer is there gets that one.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    questions: VecDeque<Question>,
    pub(crate) flows: Vec<FlowRecord>,
    flows_done: bool,
    /// Workers that have not told all.
    flows_owed: usize,
    pub(crate) names: Vec<NameRecord>,
    names_done: bool,
    names_owed: usize,
    sas: Vec<SaRecord>,
    sas_done: bool,
    sas_owed: usize,
    clear: ClearPage,
    clear_done: bool,
    clear_owed: usize,
}

impl Asking {
    pub(crate) fn ask_flows(&mut self) {
        self.flows_done = false;
        let waits = |it: &Question| matches!(it, Question::AllFlows);
        if self.flows_owed == 0 && !self.questions.iter().any(waits) {
            self.flows.clear();
            self.questions.push_back(Question::AllFlows);
        }
    }

    pub(crate) fn ask_names(&mut self) {
        self.names_done = false;
        let waits = |it: &Question| matches!(it, Question::AllNames);
        if self.names_owed == 0 && !self.questions.iter().any(waits) {
            self.names.clear();
            self.questions.push_back(Question::AllNames);
        }
    }

    /// Whether that is a new question.
    pub(crate) fn ask_sas(&mut self, room: usize) -> bool {
        self.sas_done = false;
        let waits = |it: &Question| matches!(it, Question::Sas(_));
        if self.sas_owed != 0 || self.questions.iter().any(waits) {
            return false;
        }
        self.sas.clear();
        self.questions.push_back(Question::Sas(room));
        true
    }

    pub(crate) fn ask_clear(&mut self) {
        self.clear_done = false;
        let waits = |it: &Question| matches!(it, Question::Clear);
        if self.clear_owed == 0 && !self.questions.iter().any(waits) {
            self.clear = ClearPage::default();
            self.questions.push_back(Question::Clear);
        }
    }

    /// Sends what there is room for.
    pub(crate) fn send(&mut self, workers: &mut Workers) {
        let count = workers.count();
        while let Some(question) = self.questions.front().copied() {
            let told = match question {
                Question::AllFlows => workers.tell_all((0..count).map(|_| flows_from(0))),
                Question::Flows(worker, cursor) => workers.tell(worker, flows_from(cursor)),
                Question::AllNames => workers.tell_all((0..count).map(|_| names_from(0))),
                Question::Names(worker, cursor) => workers.tell(worker, names_from(cursor)),
                Question::Sas(room) => {
                    let page = |_| Command::ReadSas(Vec::with_capacity(room));
                    workers.tell_all((0..count).map(page))
                }
                Question::Clear => {
                    let page = |_| ClearPage {
                        pairs: Vec::with_capacity(PAIRS_MAX),
                        ..ClearPage::default()
                    };
                    workers.tell_all((0..count).map(page).map(Command::ReadClear))
                }
            };
            if told.is_err() {
                return;
            }
            match question {
                Question::Sas(_) => self.sas_owed = count,
                Question::Clear => self.clear_owed = count,
                Question::AllFlows => self.flows_owed = count,
                Question::AllNames => self.names_owed = count,
                Question::Flows(..) | Question::Names(..) => {}
            }
            self.questions.pop_front();
        }
    }

    /// A worker's page of flows was taken in; the next one is asked for.
    pub(crate) fn on_flows(&mut self, worker: usize, page: &FlowPage) {
        if page.done {
            self.flows_owed = self.flows_owed.saturating_sub(1);
            self.flows_done = self.flows_owed == 0;
        } else {
            let question = Question::Flows(worker, page.cursor);
            self.questions.push_back(question);
        }
    }

    /// The same of names, of which each worker knows all that got through to it.
    pub(crate) fn on_names(&mut self, worker: usize, page: &NamePage) {
        if !page.done {
            let question = Question::Names(worker, page.cursor);
            self.questions.push_back(question);
            return;
        }
        self.names_owed = self.names_owed.saturating_sub(1);
        self.names_done = self.names_owed == 0;
        if self.names_done {
            let key = |it: &NameRecord| (it.endpoint.clone(), it.ip, it.domain.clone());
            self.names
                .sort_by_key(|it| (key(it), u32::MAX - it.left_ms));
            self.names.dedup_by_key(|it| key(it));
        }
    }

    pub(crate) fn on_sas(&mut self, sas: impl Iterator<Item = SaRecord>) {
        self.sas.extend(sas);
        self.sas_owed = self.sas_owed.saturating_sub(1);
        self.sas_done = self.sas_owed == 0;
    }

    pub(crate) fn on_clear(&mut self, page: ClearPage) {
        if self.clear.pairs.is_empty() {
            let rest = core::mem::replace(&mut self.clear, page).rest;
            self.clear.rest.add(rest);
        } else {
            self.clear.add(&page);
        }
        self.clear_owed = self.clear_owed.saturating_sub(1);
        self.clear_done = self.clear_owed == 0;
    }

    pub(crate) fn flows(&self) -> Option<&[FlowRecord]> {
        self.flows_done.then_some(self.flows.as_slice())
    }

    pub(crate) fn names(&self) -> Option<&[NameRecord]> {
        self.names_done.then_some(self.names.as_slice())
    }

    pub(crate) fn sas(&self) -> Option<&[SaRecord]> {
        self.sas_done.then_some(self.sas.as_slice())
    }

    pub(crate) const fn clear(&self) -> Option<&ClearPage> {
        if self.clear_done {
            Some(&self.clear)
        } else {
            None
        }
    }
}

fn flows_from(cursor: usize) -> Command {
    Command::ReadFlows(FlowPage {
        cursor,
        flows: Vec::with_capacity(PAGE),
        done: false,
    })
}

fn names_from(cursor: usize) -> Command {
    Command::ReadNames(NamePage {
        cursor,
        names: Vec::with_capacity(PAGE),
        done: false,
    })
}
