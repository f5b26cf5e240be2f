//! A request as the agent sees it: its headers, and what a store said of the sessions that they name.
//!
//! The core asks ([`Asks`]), a shell reads, and gives back what it read ([`StoreView`]). Nothing here
//! reads a store, and what it does not say is not known.

use http::HeaderMap;

use crate::flow::known::marks_of;
use crate::session::Anchor;
use crate::store::{MarkKey, Record, RecordKey};
use crate::time::UnixTime;

/// What an agent request has to be answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Records to load.
    pub records: Vec<RecordKey>,
    /// Marks to look at.
    pub marks: Vec<MarkKey>,
}

impl Asks {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.marks.is_empty()
    }
}

/// What a store said about [`Asks`].
#[derive(Clone, Default)]
pub struct StoreView {
    records: Vec<(RecordKey, Record)>,
    marks: Vec<(MarkKey, UnixTime)>,
    unavailable: bool,
}

impl StoreView {
    /// The records that are there, and the marks that are set.
    pub fn new(records: Vec<(RecordKey, Record)>, marks: Vec<(MarkKey, UnixTime)>) -> Self {
        Self {
            records,
            marks,
            unavailable: false,
        }
    }

    /// The store could not be asked: only for signing out, which needs no session.
    pub fn unavailable() -> Self {
        Self {
            unavailable: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_unavailable(&self) -> bool {
        self.unavailable
    }

    pub(crate) fn record(&self, key: RecordKey) -> Option<&Record> {
        let mut all = self.records.iter();
        all.find(|(known, _)| *known == key).map(|(_, record)| record)
    }

    pub(crate) fn has_ended(&self, anchor: &Anchor) -> bool {
        let Some(facts) = &anchor.facts else { return false };
        let mut names = marks_of(anchor.id, facts).into_iter();
        names.any(|name| {
            let mut all = self.marks.iter();
            all.any(|(key, at)| *key == name && *at >= facts.created_at)
        })
    }
}

/// A request as the agent sees it: its headers, and what the store says of them.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) view: Option<&'a StoreView>,
}

impl<'a> Seen<'a> {
    /// A request whose cookies a store was asked about.
    pub fn with(headers: &'a HeaderMap, view: &'a StoreView) -> Self {
        Self {
            headers,
            view: Some(view),
        }
    }
}

impl<'a> From<&'a HeaderMap> for Seen<'a> {
    fn from(headers: &'a HeaderMap) -> Self {
        Self { headers, view: None }
    }
}
