//! An upstream that lies about its answers, through the real upstream client and the real listener: a
//! client gets one answer with one length, or an error, and nobody gets what was meant for another
//! (RFC 9112 §6.3 and §9.2).

use std::rc::Rc;

use super::corpus::{self, Case};
use super::framing_tests::chance::report;
use super::framing_tests::{Running, send, start_with};
use super::raw_upstream::{Message, Reply};

/// An answer as a strict client reads it.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether it came to its end.
    whole: bool,
}

impl Answer {
    fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// The answers to requests with these methods, in order; an error for framing with two readings.
fn read_answers(mut bytes: &[u8], methods: &[&str]) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    let mut methods = methods.iter();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or("a head that does not end")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(format!("bare line ends: {head:?}"));
        }
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line.get(9..12).and_then(|status| status.parse().ok());
        let status = status.filter(|_| line.starts_with("HTTP/1.")).ok_or(line)?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").ok_or(line)?;
                Ok((name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect::<Result<_, &str>>()?;
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
            whole: true,
        };
        if !(100..200).contains(&status) {
            let method = methods.next().ok_or("more answers than requests")?;
            bytes = read_body(&mut answer, bytes, method)?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// The body of an answer; what is behind it.
fn read_body<'a>(answer: &mut Answer, bytes: &'a [u8], method: &str) -> Result<&'a [u8], String> {
    let (lengths, codings) = (
        answer.values("content-length"),
        answer.values("transfer-encoding"),
    );
    let read = match (lengths.as_slice(), codings.as_slice()) {
        _ if method == "HEAD" || matches!(answer.status, 204 | 304) => Some((Vec::new(), bytes)),
        ([length], []) => {
            let length: usize = length.parse().map_err(|_| format!("{lengths:?}"))?;
            bytes
                .split_at_checked(length)
                .map(|(body, rest)| (body.to_vec(), rest))
        }
        ([], ["chunked"]) => read_chunks(bytes),
        ([], []) => Some((bytes.to_vec(), &b""[..])),
        other => return Err(format!("framing with two readings: {other:?}")),
    };
    match read {
        Some((body, rest)) => {
            answer.body = body;
            Ok(rest)
        }
        None => {
            answer.whole = false;
            Ok(b"")
        }
    }
}

fn read_chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        bytes = &bytes[end + 2..];
        let (chunk, rest) = bytes.split_at_checked(size)?;
        body.extend(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, bytes));
        }
    }
}

/// An upstream that answers `/a` with these bytes and says of everything else what it is.
async fn start_lying(bytes: Vec<u8>, closes: bool) -> Running {
    let answers = move |message: &Message| {
        let target = message.head.split(' ').nth(1).unwrap_or_default().to_owned();
        if target == "/a" {
            let bytes = bytes.clone();
            return Reply { bytes, closes };
        }
        let length = target.len();
        Reply {
            bytes: format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}").into_bytes(),
            closes: false,
        }
    };
    start_with(Rc::new(answers)).await
}

/// What is wrong with what became of a case.
async fn judge(case: &Case) -> Option<String> {
    let running = start_lying(case.bytes.clone(), case.closes).await;
    let method = if case.head { "HEAD" } else { "GET" };
    let request = format!("{method} /a HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    let told = send(running.address, request.as_bytes()).await;
    let other = send(running.address, b"GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    running.finish().await;
    let answers = match read_answers(&told, &[method, "GET"]) {
        Ok(answers) => answers,
        Err(why) => return Some(format!("{}: {why}", case.name)),
    };
    // of an answer that breaks off at once hyper may not even send the head
    if case.read == [b"!"] && answers.is_empty() {
        return others(case, &other);
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let as_expected = |(answer, expected): (&Answer, &Vec<u8>)| match expected.as_slice() {
        b"!" => !answer.whole,
        b"*" => answer.whole && !answer.values("token-handler-error").is_empty(),
        body => answer.whole && answer.body == body,
    };
    let same = answers.len() == case.read.len() && answers.iter().zip(&case.read).all(as_expected);
    if statuses != case.statuses || !same {
        return Some(format!("{}: {answers:?}", case.name));
    }
    let text = String::from_utf8_lossy(&told);
    let forged = case.forbids_forged() && text.contains("forged");
    if forged || text.contains("set-cookie:") {
        return Some(format!("{}: {text}", case.name));
    }
    others(case, &other)
}

/// What is wrong with what the other client was told.
fn others(case: &Case, told: &[u8]) -> Option<String> {
    let answers = read_answers(told, &["GET", "GET"]).unwrap_or_default();
    let bodies: Vec<&[u8]> = answers.iter().map(|answer| answer.body.as_slice()).collect();
    (bodies != [b"/b".as_slice(), b"/last"]).then(|| format!("{}: another was told {bodies:?}", case.name))
}

impl Case {
    /// Whether what is called forged must not arrive.
    fn forbids_forged(&self) -> bool {
        !self.read.iter().any(|body| body == b"forged")
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_lies_is_one_answer_or_an_error_and_never_anothers() {
    let cases: Vec<Case> = corpus::answers()
        .into_iter()
        .flat_map(|family| family.cases)
        .collect();
    let (count, mut wrong) = (cases.len(), Vec::new());
    let mut cases = cases.into_iter();
    loop {
        let mut judging = tokio::task::JoinSet::new();
        for case in cases.by_ref().take(32) {
            judging.spawn_local(async move { judge(&case).await });
        }
        if judging.is_empty() {
            break;
        }
        wrong.extend(judging.join_all().await.into_iter().flatten());
    }
    report("corpus of answers", count, &wrong);
}
