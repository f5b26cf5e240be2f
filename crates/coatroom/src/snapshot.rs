//! What one core serves: the configuration of the moment, with reference counts and memos of its own.
//!
//! A counter that several cores write costs each of them more than all the look-ups of a request, so a
//! core has copies of what requests hold on to, and the memos of opened anchors are its thread's. It
//! takes over a new configuration with the next request, and forgets what it remembered under the old.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use coatroom_core::config::Application;
use coatroom_core::flow::AnchorMemo;
use http::HeaderName;

use crate::handler::{Shared, TokenHandler};

/// A token handler as one wrapped service sees it, which in the binary is one core.
///
/// What a request holds on to is counted here and not where every core counts: a counter that
/// several cores write costs each of them more than all the look-ups of a request.
pub(crate) struct Local {
    handler: TokenHandler,
    snapshot: ArcSwap<Snapshot>,
}

/// What is served at present, with reference counts of its own.
pub(crate) struct Snapshot {
    pub(crate) shared: Arc<Shared>,
    /// Copies, in the order of `shared.apps`.
    pub(crate) applications: Vec<Arc<Application>>,
}

thread_local! {
    /// What this thread remembers of opened anchors: the configuration's number, one memo an application.
    static MEMOS: RefCell<(u64, Vec<AnchorMemo>)> = const { RefCell::new((0, Vec::new())) };
}

impl Local {
    pub(crate) fn new(handler: TokenHandler) -> Arc<Self> {
        let snapshot = ArcSwap::from_pointee(Snapshot::of(handler.current()));
        Arc::new(Self { handler, snapshot })
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        let current = self.handler.current.load();
        if Arc::ptr_eq(&current, &snapshot.shared) {
            return snapshot;
        }
        let snapshot = Arc::new(Snapshot::of(Arc::clone(&current)));
        self.snapshot.store(Arc::clone(&snapshot));
        snapshot
    }
}

impl Snapshot {
    fn of(shared: Arc<Shared>) -> Self {
        let applications = shared
            .apps
            .iter()
            .map(|app| Arc::new(copy(app.application())))
            .collect();
        Self { shared, applications }
    }

    /// Lends this thread's memo of an application; what was remembered under another configuration, and
    /// so perhaps under other keys, is gone.
    pub(crate) fn with_memo<T>(&self, application: usize, look: impl FnOnce(&mut AnchorMemo) -> T) -> T {
        MEMOS.with_borrow_mut(|(number, memos)| {
            if *number != self.shared.number {
                *number = self.shared.number;
                memos.clear();
                memos.resize_with(self.applications.len(), AnchorMemo::default);
            }
            match memos.get_mut(application) {
                Some(memo) => look(memo),
                None => look(&mut AnchorMemo::default()),
            }
        })
    }
}

/// The number of the next configuration; none has zero.
pub(crate) fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// A copy that shares no reference count with the original where requests count.
fn copy(application: &Application) -> Application {
    let name = HeaderName::from_bytes(application.csrf_header.as_str().as_bytes());
    Application {
        csrf_header: name.expect("a header's name is one"),
        ..application.clone()
    }
}
