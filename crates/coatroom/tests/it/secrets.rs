//! No secret in any log, error, or answer: canaries are looked for everywhere.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::{Method, header};
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::browser::{Answer, Browser, Site};
use crate::support::provider::Fault;
use crate::support::{CLIENT_SECRET, Rig};

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Everything a browser's script could read of an answer.
fn readable(answer: &Answer) -> String {
    let headers: String = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != header::SET_COOKIE)
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or_default()))
        .collect();
    headers + &answer.body
}

#[test]
fn canaries_appear_in_no_log_and_no_answer() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    // every thread of this runtime logs here
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(
        async {
            let rig = Rig::new().await;
            let mut browser = rig.browser();
            let mut answers = Vec::new();
            let callback = browser.start(&rig.provider, "alice").await;
            answers.push(browser.navigate(&callback, Site::Cross).await);
            answers.push(browser.navigate(&callback, Site::Cross).await);
            answers.push(browser.fetch(Method::GET, "/auth/session", "").await);
            answers.push(browser.fetch(Method::GET, "/api/x", "").await);
            answers.push(browser.fetch(Method::POST, "/auth/refresh", "").await);
            rig.advance(300);
            answers.push(browser.fetch(Method::GET, "/api/x", "").await);
            for fault in [
                Fault::Answer(
                    400,
                    "application/json",
                    r#"{"error":"canary-error","error_description":"canary-text"}"#,
                ),
                Fault::Answer(200, "text/html", "canary-html"),
                Fault::Answer(503, "text/html", "canary-html"),
            ] {
                rig.provider.script().token_fault = Some(fault);
                answers.push(browser.fetch(Method::POST, "/auth/refresh", "").await);
            }
            rig.provider.script().token_fault = None;
            answers.push(
                browser
                    .fetch(
                        Method::POST,
                        "/auth/login/end",
                        "code=canary-code&state=canary-state",
                    )
                    .await,
            );
            answers.push(
                browser
                    .fetch(
                        Method::POST,
                        "/auth/login/end",
                        "error=canary-error&state=canary-state",
                    )
                    .await,
            );
            answers.push(browser.fetch(Method::POST, "/auth/logout", "").await);
            let secrets = secrets_of(&rig, &browser);
            for answer in &answers {
                let text = readable(answer);
                for secret in &secrets {
                    assert!(!text.contains(secret.as_str()), "{secret} in {text}");
                }
            }
            let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("UTF-8");
            assert!(text.contains("provider_error"), "refusals are logged: {text}");
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{secret} in the log");
            }
        }
        .with_current_subscriber(),
    );
}

fn secrets_of(rig: &Rig, browser: &Browser) -> Vec<String> {
    let mut secrets = rig.provider.script().issued.clone();
    secrets.extend(["canary-".to_owned(), CLIENT_SECRET.to_owned()]);
    secrets.extend(browser.jar.iter().map(|cookie| cookie.value.clone()));
    secrets.retain(|secret| !secret.is_empty());
    secrets
}
