//! `Expect: 100-continue` against upstreams that say yes, no, or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::upstream::expect::PATIENCE;

/// An upload of a client that waits to be told; the body says when it is first asked for.
fn waiting() -> (Arc<AtomicBool>, Request<TestBody>) {
    let asked = Arc::new(AtomicBool::new(false));
    let noted = asked.clone();
    let mut frames = Some(data("hello"));
    let frames = stream::poll_fn(move |_| {
        noted.store(true, Ordering::Relaxed);
        Poll::Ready(frames.take())
    });
    let mut request = get("/").map(|_| body(StreamBody::new(frames)));
    *request.method_mut() = Method::POST;
    request
        .headers_mut()
        .insert(EXPECT, HeaderValue::from_static("100-Continue"));
    (asked, request)
}

#[tokio::test(flavor = "local")]
async fn the_upstream_is_asked_and_the_body_follows_its_word() {
    let (script, upstream) = (Script::new().await, upstream());
    let (asked, request) = waiting();
    let (answer, ()) = tokio::join!(call(&upstream, &script.url(), request), async {
        let mut conversation = script.accept().await;
        let head = conversation.head().await;
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        assert!(!asked.load(Ordering::Relaxed), "the client was not told to go on");
        conversation.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        conversation.read_until("hello\r\n0\r\n\r\n").await;
        conversation.say("HTTP/1.1 204 No Content\r\n\r\n").await;
    });
    assert_eq!(answer.expect("answered").status(), StatusCode::NO_CONTENT);
    assert!(asked.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "local")]
async fn a_refused_upload_never_begins() {
    let (script, upstream) = (Script::new().await, upstream());
    let (asked, request) = waiting();
    let url = script.url();
    let (answer, mut conversation) = tokio::join!(call(&upstream, &url, request), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
            .await;
        conversation
    });
    let answer = answer.expect("answered");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(answer);
    assert_eq!(conversation.rest().await, b"", "not a byte of it");
    assert!(!asked.load(Ordering::Relaxed));
    assert_eq!(idle(&upstream, &url), 0, "half a request is on that connection");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upstream_that_does_not_know_the_question_gets_the_body_after_a_moment() {
    let (script, upstream) = (Script::new().await, upstream());
    let (asked, request) = waiting();
    let start = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(call(&upstream, &script.url(), request), async {
        let mut conversation = script.accept().await;
        conversation.head().await;
        assert!(!asked.load(Ordering::Relaxed));
        conversation.read_until("hello\r\n0\r\n\r\n").await;
        conversation.say("HTTP/1.1 204 No Content\r\n\r\n").await;
    });
    answer.expect("answered");
    assert!(start.elapsed() >= PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "local")]
async fn nobody_is_asked_about_a_body_that_is_not_there_or_by_another_word() {
    let mut empty = get("/");
    empty
        .headers_mut()
        .insert(EXPECT, HeaderValue::from_static("100-continue"));
    let mut other = post(Full::from("hello"));
    other
        .headers_mut()
        .insert(EXPECT, HeaderValue::from_static("something-else"));
    for request in [empty, other] {
        let (script, upstream) = (Script::new().await, upstream());
        let (answer, head) = tokio::join!(call(&upstream, &script.url(), request), async {
            let mut conversation = script.accept().await;
            conversation.serve("HTTP/1.1 204 No Content\r\n\r\n").await
        });
        answer.expect("answered");
        assert!(!head.contains("expect"), "{head}");
    }
}
