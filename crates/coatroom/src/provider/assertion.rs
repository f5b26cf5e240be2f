//! A client assertion in a file that somebody else writes and renews (RFC 7521 §4.2): Kubernetes'
//! projected tokens, and what clouds put beside a workload.
//!
//! Read for each conversation with the provider, since nobody says when it was renewed. What it says
//! is the provider's to judge; no log has any of it.

use std::io::{Error, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coatroom_core::oauth::{MAX_ASSERTION, ProviderSnapshot, read_client_assertion};
use coatroom_core::secret::Secret;

/// The file, and what was wrong with it when it was last read.
pub(super) struct AssertionFile {
    path: PathBuf,
    problem: Mutex<Option<String>>,
}

impl AssertionFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            problem: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The assertion as it is now; none if there is none that can be used, which the log says once.
    pub(super) async fn read(&self, issuer: &str) -> Option<Secret> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || read(&path));
        let outcome = match tokio::time::timeout(READ_LIMIT, reading).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("reading it broke off".to_owned()),
            Err(_) => Err("it could not be read in time".to_owned()),
        };
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(assertion) => {
                *known = None;
                Some(assertion)
            }
            Err(problem) => {
                if known.as_ref() != Some(&problem) {
                    tracing::error!(
                        issuer,
                        "the file of `client_auth` (`method: assertion_file`) holds no client assertion: {problem}"
                    );
                }
                *known = Some(problem);
                None
            }
        }
    }
}

/// What is known by now, with the assertion of the conversation that goes on.
pub(super) fn carried(before: &ProviderSnapshot, newer: Arc<ProviderSnapshot>) -> Arc<ProviderSnapshot> {
    let Some(assertion) = &before.live.client_assertion else {
        return newer;
    };
    let mut newer = (*newer).clone();
    newer.live.client_assertion = Some(assertion.clone());
    Arc::new(newer)
}

fn read(path: &Path) -> Result<Secret, String> {
    let cannot = |error: Error| match error.kind() {
        ErrorKind::NotFound => "there is none at this path".to_owned(),
        kind => format!("it cannot be read: {kind}"),
    };
    // opening a pipe would wait for a writer
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let most = u64::try_from(MAX_ASSERTION).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::with_capacity(MAX_ASSERTION + 1);
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(most).read_to_end(&mut bytes).map_err(cannot)?;
    let assertion = read_client_assertion(&bytes).map_err(|problem| problem.to_string());
    bytes.fill(0);
    assertion
}

/// How long a conversation waits for the file.
const READ_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_read_each_time_and_what_is_none_is_no_assertion() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let file = AssertionFile::new(&path);
        let problem = || file.problem.lock().expect("no test panicked here").clone();
        assert!(file.read("issuer").await.is_none());
        assert_eq!(problem().as_deref(), Some("there is none at this path"));
        for (content, expected) in [
            ("e30.e30.c2ln\n", None),
            ("", Some("it is empty")),
            ("e30.e30.b3RoZXI", None),
            ("canary", Some("it is not a jwt")),
            (&"A".repeat(MAX_ASSERTION + 1), Some("it is longer than 16 kib")),
        ] {
            // as a mounted secret changes: another file in its place
            let next = folder.path().join("next");
            std::fs::write(&next, content).expect("written");
            std::fs::rename(&next, &path).expect("renamed");
            let read = file.read("issuer").await;
            assert_eq!(problem().as_deref(), expected, "{content:.20}");
            assert!(read == expected.is_none().then(|| Secret::new(content.trim())));
        }
        let folder = AssertionFile::new(folder.path());
        assert!(folder.read("issuer").await.is_none());
    }
}
