//! The SPA's files, out of one folder and nothing else.
//!
//! What may be opened is decided on the name and on what the operating system makes of it: never a
//! file outside the folder, a dotfile, or anything but a regular file. A browser that navigates to
//! a path without a file gets `index.html` (history fallback); a script, an image or a `fetch`
//! gets 404, so a missing asset is never answered with a page. Every file has an entity tag, is
//! served in parts where that is asked for, and in a precompressed variant where one lies beside
//! it. Documents carry a strict policy and are revalidated, files with a content hash in their
//! name are kept for ever. This file attaches no credential, knows no session, compresses nothing
//! and lists no folder.

mod body;
mod conditional;
mod confined;
mod encoding;
mod name;
mod tags;

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use coatroom_core::config::FileHeaders;
use coatroom_core::error::Error;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LAST_MODIFIED, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

pub use self::body::FileBody;
use self::conditional::{Extent, Verdict};
use self::confined::{Entry, Folder};
use self::encoding::Encoding;
use self::name::{FileName, has_content_hash, is_asset_like};
use self::tags::{Stamp, Tags};

/// One folder that is served. Clones share what they know of its files.
#[derive(Clone)]
pub struct StaticFiles(Arc<Served>);

struct Served {
    folder: PathBuf,
    headers: FileHeaders,
    /// What in the configuration makes an answer another one: part of every entity tag, or a
    /// browser would go on with the policy that came with its copy.
    configured: String,
    tags: Tags,
}

impl StaticFiles {
    /// Serves `folder` with these headers. The folder need not be there yet, and one that is a
    /// symbolic link may be switched to another release at any time.
    pub fn new(folder: &Path, headers: FileHeaders) -> Self {
        let more = headers
            .further
            .iter()
            .flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let policy = headers.content_security_policy.iter().map(HeaderValue::as_bytes);
        let configured = tags::short(policy.chain(more));
        Self(Arc::new(Served {
            folder: folder.to_owned(),
            configured,
            headers,
            tags: Tags::default(),
        }))
    }

    /// Serves `path`, which is the normalised path below the route.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`] for anything but `GET` and `HEAD`, [`Error::NotFound`] where
    /// nothing may be served, [`Error::FilesUnavailable`] when the folder or a file cannot be read.
    pub async fn serve(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<FileBody>, Error> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Error::MethodNotAllowed {
                allow: vec![Method::GET, Method::HEAD],
            });
        }
        let served = Arc::clone(&self.0);
        let (method, path, headers) = (method.clone(), path.to_owned(), headers.clone());
        let answering = move || served.answer(&method, &path, &headers, SystemTime::now());
        // One hop for the whole of it: every step waits for the file system.
        tokio::task::spawn_blocking(answering)
            .await
            .unwrap_or(Err(Error::Bug("the task that reads a file ended early")))
    }
}

/// Whether a browser wants a page to show (Fetch Metadata; without it, by `Accept`).
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    match headers.get(&SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => headers.get_all(ACCEPT).iter().any(|accept| {
            accept
                .to_str()
                .is_ok_and(|text| text.to_ascii_lowercase().contains("text/html"))
        }),
    }
}

/// A file, open, in the variant that the client gets.
struct Chosen {
    file: File,
    metadata: Metadata,
    /// The name of the file whose variant it is.
    name: PathBuf,
    encoding: Option<Encoding>,
}

impl Served {
    /// The whole answer. Blocks.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Response<FileBody>, Error> {
        let folder = Folder::enter(&self.folder).map_err(|error| unreadable(&error))?;
        // A file that is written to while it is read is read again.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let answered = self.attempt(&folder, method, path, headers, now);
            match answered {
                Err(Failure::Changed) if attempts > 0 => {}
                Err(Failure::Changed) => {
                    return Err(Error::FilesUnavailable("a file changes all the time".to_owned()));
                }
                Err(Failure::Io(error)) => return Err(unreadable(&error)),
                Ok(answer) => return answer.ok_or(Error::NotFound),
            }
        }
    }

    fn attempt(
        &self,
        folder: &Folder,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Response<FileBody>>, Failure> {
        if let Some(name) = FileName::parse(path)
            && let Some(chosen) = choose(folder, &name, headers)?
        {
            let keep = if has_content_hash(path) {
                FOR_EVER
            } else {
                REVALIDATED
            };
            return self
                .respond(chosen, keep, VARY_ENCODING, method, headers, now)
                .map(Some);
        }
        if !is_navigation(headers) || is_asset_like(path) {
            return Ok(None);
        }
        match choose(folder, &FileName::index(), headers)? {
            Some(page) => self
                .respond(page, REVALIDATED, VARY_NAVIGATION, method, headers, now)
                .map(Some),
            None => Ok(None),
        }
    }

    fn respond(
        &self,
        mut chosen: Chosen,
        keep: &'static str,
        vary: &'static str,
        method: &Method,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Response<FileBody>, Failure> {
        let digest = self.tags.digest(&mut chosen.file, &chosen.metadata, now)?;
        let tag = match chosen.encoding {
            Some(encoding) => format!("\"{digest}-{}-{}\"", self.configured, encoding.name()),
            None => format!("\"{digest}-{}\"", self.configured),
        };
        let modified = chosen
            .metadata
            .modified()
            .ok()
            .filter(|modified| *modified <= now);
        let modified = modified.and_then(conditional::seconds);
        let length = chosen.metadata.len();
        let content_type = content_type(&chosen.name);

        let mut response = Response::new(FileBody::empty());
        let out = response.headers_mut();
        let text = |text: String| HeaderValue::try_from(text).map_err(io::Error::other);
        out.insert(ETAG, text(tag.clone())?);
        out.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
        out.insert(VARY, HeaderValue::from_static(vary));
        out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(modified) = modified {
            out.insert(LAST_MODIFIED, text(httpdate::fmt_http_date(modified))?);
        }
        if is_document(&content_type) {
            // Scripts run in these, so a browser that has a page from before gets what holds now.
            out.insert(CACHE_CONTROL, HeaderValue::from_static(REVALIDATED));
            out.insert(REFERRER_POLICY, HeaderValue::from_static(REFERRER));
            if let Some(policy) = &self.headers.content_security_policy {
                out.insert(CONTENT_SECURITY_POLICY, policy.clone());
            }
        }
        for (name, value) in &self.headers.further {
            out.insert(name.clone(), value.clone());
        }

        match conditional::weigh(headers, &tag, modified) {
            Verdict::Perform => {}
            Verdict::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
            Verdict::Failed => {
                *response.status_mut() = StatusCode::PRECONDITION_FAILED;
                return Ok(response);
            }
        }
        let out = response.headers_mut();
        out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let (status, first, count) = match conditional::extent(method, headers, &tag, length) {
            Extent::Whole => (StatusCode::OK, 0, length),
            Extent::Part { first, last } => {
                out.insert(CONTENT_RANGE, text(format!("bytes {first}-{last}/{length}"))?);
                let count = last.saturating_sub(first).saturating_add(1);
                (StatusCode::PARTIAL_CONTENT, first, count)
            }
            Extent::Unsatisfiable => {
                out.insert(CONTENT_RANGE, text(format!("bytes */{length}"))?);
                out.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(response);
            }
        };
        out.insert(CONTENT_TYPE, content_type);
        out.insert(CONTENT_LENGTH, HeaderValue::from(count));
        if let Some(encoding) = chosen.encoding {
            out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        *response.status_mut() = status;
        if method == Method::GET {
            *response.body_mut() = chosen.body(first, count)?;
        }
        Ok(response)
    }
}

impl Chosen {
    /// `count` bytes from `first` on. What is small is read at once.
    fn body(mut self, first: u64, count: u64) -> Result<FileBody, Failure> {
        self.file.seek(SeekFrom::Start(first))?;
        if count > SMALL {
            return Ok(FileBody::file(self.file, count));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        (&self.file).take(count).read_to_end(&mut bytes)?;
        let unchanged = Stamp::of(&self.file.metadata()?) == Stamp::of(&self.metadata)
            && u64::try_from(bytes.len()).is_ok_and(|read| read == count);
        if unchanged {
            Ok(FileBody::bytes(bytes))
        } else {
            Err(Failure::Changed)
        }
    }
}

/// Why a file could not be served.
enum Failure {
    /// It was written to meanwhile.
    Changed,
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The file of a name, in the variant that the client likes best.
fn choose(folder: &Folder, name: &FileName, headers: &HeaderMap) -> io::Result<Option<Chosen>> {
    let (path, file, metadata) = match folder.open(&name.path)? {
        Some(Entry::File(file, metadata)) if !name.is_folder => (name.path.clone(), file, metadata),
        Some(Entry::Folder) => {
            let page = name.path.join("index.html");
            match folder.open(&page)? {
                Some(Entry::File(file, metadata)) => (page, file, metadata),
                Some(Entry::Folder) | None => return Ok(None),
            }
        }
        Some(Entry::File(..)) | None => return Ok(None),
    };
    let mut best: Option<(Encoding, u16, File, Metadata)> = None;
    for (encoding, weight) in encoding::accepted(headers) {
        let mut variant = path.clone().into_os_string();
        variant.push(encoding.ending());
        let Some(Entry::File(file, found)) = folder.open(Path::new(&variant))? else {
            continue;
        };
        let better = best.as_ref().is_none_or(|(_, known, _, smallest)| {
            weight > *known || (weight == *known && found.len() < smallest.len())
        });
        if better && found.len() < metadata.len() {
            best = Some((encoding, weight, file, found));
        }
    }
    Ok(Some(match best {
        Some((encoding, _, file, metadata)) => Chosen {
            file,
            metadata,
            name: path,
            encoding: Some(encoding),
        },
        None => Chosen {
            file,
            metadata,
            name: path,
            encoding: None,
        },
    }))
}

/// By the name's ending. Text is UTF-8, as everything that bundlers write.
fn content_type(name: &Path) -> HeaderValue {
    if name.ends_with(".well-known/apple-app-site-association") {
        return HeaderValue::from_static("application/json");
    }
    let known = mime_guess::from_path(name)
        .first_raw()
        .unwrap_or("application/octet-stream");
    // RFC 9239 §6: the older names are the same thing.
    let known = if known == "application/javascript" {
        "text/javascript"
    } else {
        known
    };
    // An XML document says its encoding itself.
    let says_itself = !known.starts_with("text/") || known == "text/xml";
    if says_itself {
        return HeaderValue::from_static(known);
    }
    HeaderValue::try_from(format!("{known}; charset=utf-8"))
        .unwrap_or_else(|_| HeaderValue::from_static(known))
}

/// Whether a browser shows such a file as a document in which scripts can run.
fn is_document(content_type: &HeaderValue) -> bool {
    let value = content_type.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.ends_with("+xml")
        || ["text/html", "text/xml", "application/xml", "text/mathml"].contains(&essence)
}

fn unreadable(error: &io::Error) -> Error {
    Error::FilesUnavailable(error.kind().to_string())
}

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const REVALIDATED: &str = "no-cache";
const REFERRER: &str = "strict-origin-when-cross-origin";
const VARY_ENCODING: &str = "accept-encoding";
const VARY_NAVIGATION: &str = "accept-encoding, accept, sec-fetch-mode";

/// Files up to this size are read at once.
const SMALL: u64 = 64 * 1024;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

#[cfg(test)]
mod tests;
