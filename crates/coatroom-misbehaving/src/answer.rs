//! An answer of the provider, and how it is written to the connection, honestly or not.
//!
//! The bytes are written here and not by a library, because libraries do not lie about lengths. Every
//! answer ends its connection, and none is longer than 64 MiB.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// An answer.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    framing: Framing,
}

/// How the body is framed.
enum Framing {
    /// By its length.
    Honest,
    /// By this length, whatever it is.
    Announced(usize),
    /// By this length as well.
    AnnouncedAsWell(usize),
    /// In chunks that never end.
    Endless,
    /// In chunks, and nothing comes after the first.
    Stalled,
    /// There is no answer: the connection is closed.
    Closed,
    /// There is no answer, and the connection stays open.
    Silent,
    /// These bytes, whatever they are.
    Raw(&'static [u8]),
}

impl Answer {
    /// 200 with JSON.
    pub(crate) fn json(value: &Value) -> Self {
        Self::text(200, "application/json", value.to_string())
    }

    /// Text of a type.
    pub(crate) fn text(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body: body.into(),
            framing: Framing::Honest,
        }
    }

    /// An error as RFC 6749 §5.2 has it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = serde_json::json!({"error": code});
        Self::text(status, "application/json", body.to_string())
    }

    /// A status and nothing else.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            headers: Vec::new(),
            ..Self::text(status, "", "")
        }
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, to: String) -> Self {
        Self::status(status).header("location", to)
    }

    /// No answer: the connection is closed.
    pub(crate) fn closed() -> Self {
        Self {
            framing: Framing::Closed,
            ..Self::status(200)
        }
    }

    /// No answer at all.
    pub(crate) fn silent() -> Self {
        Self {
            framing: Framing::Silent,
            ..Self::status(200)
        }
    }

    /// Bytes that need not be HTTP.
    pub(crate) fn raw(bytes: &'static [u8]) -> Self {
        Self {
            framing: Framing::Raw(bytes),
            ..Self::status(200)
        }
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The same with another body.
    pub(crate) fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// The same with a header; one that is there is replaced.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(there, _)| *there != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The body as text, changed.
    pub(crate) fn edited(self, edit: impl FnOnce(String) -> String) -> Self {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        self.with_body(edit(text))
    }

    /// Announces more than it sends, and closes.
    pub(crate) fn cut_off(self) -> Self {
        let announced = self.body.len() + 100;
        Self {
            framing: Framing::Announced(announced),
            ..self
        }
    }

    /// Announces less than it sends.
    pub(crate) fn announced_too_short(self) -> Self {
        let announced = self.body.len() / 2;
        Self {
            framing: Framing::Announced(announced),
            ..self
        }
    }

    /// Announces two lengths.
    pub(crate) fn announced_twice(self) -> Self {
        let announced = self.body.len() / 2;
        Self {
            framing: Framing::AnnouncedAsWell(announced),
            ..self
        }
    }

    /// Sends its body again and again.
    pub(crate) fn endless(self) -> Self {
        Self {
            framing: Framing::Endless,
            ..self
        }
    }

    /// Sends half of its body and stays silent.
    pub(crate) fn stalled(mut self) -> Self {
        self.body.truncate(self.body.len() / 2);
        Self {
            framing: Framing::Stalled,
            ..self
        }
    }

    /// More than anybody should read.
    pub(crate) fn huge(self) -> Self {
        let padding = " ".repeat(HUGE);
        self.edited(|text| padding + &text)
    }

    /// In a gzip envelope (RFC 1952) that really holds the body, uncompressed.
    pub(crate) fn gzipped(self) -> Self {
        let body = gzip(&self.body);
        self.with_body(body).header("content-encoding", "gzip")
    }

    /// Writes it; an error means that the client has gone.
    pub(crate) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let length = self.body.len();
        match self.framing {
            Framing::Honest => head += &format!("content-length: {length}\r\n\r\n"),
            Framing::Announced(announced) => head += &format!("content-length: {announced}\r\n\r\n"),
            Framing::AnnouncedAsWell(announced) => {
                head += &format!("content-length: {length}\r\ncontent-length: {announced}\r\n\r\n");
            }
            Framing::Endless | Framing::Stalled => {
                head += &format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n");
            }
            Framing::Closed => return Ok(()),
            Framing::Silent => return std::future::pending().await,
            Framing::Raw(bytes) => {
                stream.write_all(bytes).await?;
                return stream.shutdown().await;
            }
        }
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&self.body).await?;
        match self.framing {
            Framing::Endless => {
                let chunk = format!("\r\n{:x}\r\n{}", CHUNK, "x".repeat(CHUNK));
                for _ in 0..MOST_CHUNKS {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
            Framing::Stalled => return std::future::pending().await,
            _ => {}
        }
        stream.shutdown().await
    }
}

/// One stored block (RFC 1951 §3.2.4) in a gzip member; at most 65,535 bytes.
fn gzip(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("the answers of this crate are short");
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(body);
    out.extend(crc32(body).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

/// RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

/// Ten mebibytes.
const HUGE: usize = 10 * 1024 * 1024;

/// The chunks of an endless answer, and after how many it ends after all.
const CHUNK: usize = 16 * 1024;
const MOST_CHUNKS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[tokio::test]
    async fn an_answer_says_how_long_it_is_unless_it_lies() {
        let answer = || Answer::text(200, "text/plain", "0123456789");
        for (name, answer, has) in [
            ("honest", answer(), "content-length: 10\r\n\r\n0123456789"),
            (
                "cut off",
                answer().cut_off(),
                "content-length: 110\r\n\r\n0123456789",
            ),
            (
                "too short",
                answer().announced_too_short(),
                "content-length: 5\r\n\r\n0123456789",
            ),
            (
                "twice",
                answer().announced_twice(),
                "content-length: 10\r\ncontent-length: 5\r\n\r\n0123456789",
            ),
        ] {
            let mut written = Vec::new();
            answer
                .write(&mut written)
                .await
                .expect("a vector takes everything");
            let text = String::from_utf8(written).expect("text");
            assert!(text.ends_with(has), "{name}: {text}");
        }
    }
}
