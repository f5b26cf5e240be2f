//! The SPA's files, out of one folder and nothing else.
//!
//! Conditional requests (RFC 9110 §13), ranges and precompressed variants are tower-http's; what
//! may be opened is decided here, on the path the operating system resolves a name to: never a
//! file outside the folder, a dotfile, or anything but a regular file. A browser that navigates to
//! a path without a file gets `index.html` (history fallback); a script, an image or a `fetch`
//! gets 404, so a missing asset is never answered with a page. HTML carries a strict policy and
//! is revalidated, files with a content hash in their name are kept for ever. This file attaches
//! no credential, knows no session and lists no folder.

use std::future::Future;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use coatroom_core::error::Error;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, DefaultServeDirFallback, File};

/// The body of a served file.
pub type FileBody = tower_http::services::fs::ServeFileSystemResponseBody;

/// One folder that is served.
#[derive(Clone)]
pub struct StaticFiles {
    folder: ServeDir<DefaultServeDirFallback, Confined>,
}

/// A folder that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StaticFilesError {
    /// It is missing or may not be read.
    #[error("`static` names a folder that cannot be opened: {0}")]
    Unreadable(#[source] io::Error),
    /// It is a file.
    #[error("`static` names something that is not a folder")]
    NotAFolder,
}

impl StaticFiles {
    /// Checks that the folder is there. Whether its files change later does not matter, and a
    /// folder that is a symbolic link may be switched to another release at any time.
    ///
    /// # Errors
    /// [`StaticFilesError`] when it is missing, unreadable or no folder.
    pub fn open(folder: &Path) -> Result<Self, StaticFilesError> {
        std::fs::read_dir(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => StaticFilesError::NotAFolder,
            _ => StaticFilesError::Unreadable(error),
        })?;
        let confined = Confined {
            folder: folder.into(),
        };
        Ok(Self {
            folder: ServeDir::with_backend(folder, confined)
                .redirect_to_trailing_slash(false)
                .precompressed_br()
                .precompressed_zstd()
                .precompressed_gzip(),
        })
    }

    /// Serves `path`, which is the normalised path below the route.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`] for anything but `GET` and `HEAD`, [`Error::NotFound`] where
    /// nothing may be served, [`Error::UpstreamUnavailable`] when a file cannot be read.
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
        let found = if has_dot_segment(path) {
            None
        } else {
            self.file(method, path, headers).await?
        };
        if let Some(response) = found {
            let kept_for_ever = has_content_hash(path);
            return Ok(finish(response, kept_for_ever));
        }
        if !is_navigation(headers) || is_asset_like(path) {
            return Err(Error::NotFound);
        }
        let page = self.file(method, "/", headers).await?;
        let mut response = finish(page.ok_or(Error::NotFound)?, false);
        response
            .headers_mut()
            .append(VARY, HeaderValue::from_static("accept, sec-fetch-mode"));
        Ok(response)
    }

    /// The answer for a file; none when there is no such file.
    async fn file(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Response<FileBody>>, Error> {
        let Ok(uri) = Uri::try_from(path) else {
            return Ok(None);
        };
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        match self.folder.clone().try_call(request).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => Ok(None),
            Ok(response) => Ok(Some(response)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput => Ok(None),
                kind => Err(Error::UpstreamUnavailable(format!(
                    "a file below `static` cannot be read: {kind}"
                ))),
            },
        }
    }
}

/// Caching and the browser's protections.
fn finish(mut response: Response<FileBody>, kept_for_ever: bool) -> Response<FileBody> {
    let html = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let found = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static(if kept_for_ever && found && !html {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        }),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if html {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(HTML_POLICY));
        headers.insert(
            REFERRER_POLICY,
            HeaderValue::from_static("strict-origin-when-cross-origin"),
        );
    }
    response
}

/// Whether a browser wants a page to show (Fetch Metadata; without it, by `Accept`).
fn is_navigation(headers: &HeaderMap) -> bool {
    match headers.get(&SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => headers.get_all(ACCEPT).iter().any(|accept| {
            accept
                .to_str()
                .is_ok_and(|text| text.to_ascii_lowercase().contains("text/html"))
        }),
    }
}

/// Whether the path asks for a file: its last segment has an extension.
fn is_asset_like(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.contains('.'))
}

/// Whether a segment is a dotfile's; `/.well-known/` (RFC 8615) is not one.
fn has_dot_segment(path: &str) -> bool {
    let path = path.strip_prefix("/.well-known/").unwrap_or(path);
    path.split('/').any(|segment| {
        segment.starts_with('.') || segment.get(..3).is_some_and(|s| s.eq_ignore_ascii_case("%2e"))
    })
}

/// Whether the file's name carries a content hash, as bundlers write it: `app-3f2a9c1b.js`,
/// `main.3f2a9c1b.chunk.css`, `main-5YVL7XQJ.js`, `assets/index-DiwrgTda.js`.
///
/// Taking a plain name for a hash would keep an old file alive for a year, so words, dates and
/// version numbers must not pass; a hash that is missed is merely revalidated.
fn has_content_hash(path: &str) -> bool {
    let mut segments = path.rsplit('/');
    let name = segments.next().unwrap_or_default();
    let in_assets = segments.next() == Some("assets");
    let Some((stem, _extension)) = name.rsplit_once('.') else {
        return false;
    };
    stem.split('.').enumerate().any(|(index, part)| {
        let after_dash = part.rsplit_once('-').map(|(_, tail)| tail);
        // Base64url hashes may hold a dash themselves: eight characters from the end.
        let last_eight = part
            .len()
            .checked_sub(8)
            .and_then(|at| part.split_at_checked(at))
            .filter(|(head, _)| head.ends_with('-'))
            .map(|(_, tail)| tail);
        let whole = (index > 0).then_some(part);
        [after_dash, whole].into_iter().flatten().any(is_hash)
            || last_eight.is_some_and(|tail| is_base64_hash(tail, in_assets))
    })
}

fn is_hash(text: &str) -> bool {
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let base32 = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    digits && letters && ((hex && text.len() >= 8) || (base32 && text.len() == 8))
}

fn is_base64_hash(text: &str, in_assets: bool) -> bool {
    let count = |class: fn(&u8) -> bool| text.bytes().filter(class).count();
    let alphabet = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mixed = count(u8::is_ascii_lowercase) > 0 && count(u8::is_ascii_uppercase) > 0;
    alphabet && mixed && (in_assets || count(u8::is_ascii_digit) > 0)
}

/// The file system as far as it may be seen: regular files and folders below one folder.
#[derive(Clone)]
struct Confined {
    folder: Arc<Path>,
}

impl Confined {
    /// What `path` really is, if it may be served. Blocks.
    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, std::fs::Metadata)> {
        let folder = self.folder.canonicalize()?;
        let real = path.canonicalize()?;
        let hidden = || io::Error::from(io::ErrorKind::NotFound);
        let below = real.strip_prefix(&folder).map_err(|_| hidden())?;
        let dotted = below
            .components()
            .enumerate()
            .any(|(depth, component)| match component {
                Component::Normal(name) => {
                    name.as_encoded_bytes().starts_with(b".") && !(depth == 0 && name == ".well-known")
                }
                _ => true,
            });
        let metadata = std::fs::metadata(&real)?;
        if dotted || !(metadata.is_file() || metadata.is_dir()) {
            return Err(hidden());
        }
        Ok((real, metadata))
    }
}

impl Backend for Confined {
    type File = OpenFile;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Blocking<OpenFile>;
    type MetadataFuture = Blocking<std::fs::Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let this = self.clone();
        blocking(move || {
            let (real, metadata) = this.resolve(&path)?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            std::fs::File::open(real).map(|file| OpenFile(tokio::fs::File::from_std(file)))
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let this = self.clone();
        blocking(move || this.resolve(&path).map(|(_, metadata)| metadata))
    }
}

type Blocking<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Blocking<T> {
    Box::pin(async move {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the file task ended early")))
    })
}

/// An open regular file below the folder.
struct OpenFile(tokio::fs::File);

impl File for OpenFile {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = Pin<Box<dyn Future<Output = io::Result<std::fs::Metadata>> + Send + 'a>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}

/// Fits what bundlers emit: scripts and styles from here, small images and fonts inlined as
/// `data:`, styles that component libraries insert at run time. Scripts are never inline.
const HTML_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; \
     worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; \
     frame-ancestors 'none'";

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    struct Site {
        _root: tempfile::TempDir,
        files: StaticFiles,
    }

    fn site() -> Site {
        let root = tempfile::tempdir().expect("a folder");
        let dist = root.path().join("dist");
        for (name, text) in [
            ("dist/index.html", "<!doctype html>home"),
            ("dist/docs/index.html", "<!doctype html>docs"),
            ("dist/assets/index-DiwrgTda.js", "hashed"),
            ("dist/app-3f2a9c1b.js", "hashed"),
            ("dist/app-3f2a9c1b.js.gz", "zipped"),
            ("dist/favicon.svg", "<svg/>"),
            ("dist/.env", "SECRET=1"),
            ("dist/.git/config", "SECRET=1"),
            ("dist/.well-known/security.txt", "Contact:"),
            ("dist/.well-known/.hidden", "SECRET=1"),
            ("secret.txt", "SECRET=1"),
            ("outside/a.txt", "SECRET=1"),
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        #[cfg(unix)]
        for (target, link) in [
            ("../secret.txt", "out.txt"),
            ("../outside", "out"),
            (".env", "env.txt"),
            ("favicon.svg", "icon.svg"),
        ] {
            std::os::unix::fs::symlink(target, dist.join(link)).expect("a link");
        }
        let files = StaticFiles::open(&dist).expect("the folder is there");
        Site { _root: root, files }
    }

    struct Ask<'a> {
        method: Method,
        path: &'a str,
        headers: &'a [(&'static str, &'static str)],
    }

    async fn ask(site: &Site, ask: Ask<'_>) -> Result<(StatusCode, HeaderMap, String), Error> {
        let headers = ask
            .headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        let response = site.files.serve(&ask.method, ask.path, &headers).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the file is read").to_bytes();
        Ok((
            parts.status,
            parts.headers,
            String::from_utf8_lossy(&body).into_owned(),
        ))
    }

    fn get<'a>(path: &'a str, headers: &'a [(&'static str, &'static str)]) -> Ask<'a> {
        Ask {
            method: Method::GET,
            path,
            headers,
        }
    }

    const NAVIGATE: &[(&str, &str)] = &[("sec-fetch-mode", "navigate"), ("accept", "text/html")];

    #[tokio::test]
    async fn files_and_folders_index_are_served() {
        let site = site();
        for (path, text) in [
            ("/", "<!doctype html>home"),
            ("/index.html", "<!doctype html>home"),
            ("/docs/", "<!doctype html>docs"),
            ("/docs", "<!doctype html>docs"),
            ("/favicon.svg", "<svg/>"),
            ("/%66avicon.svg", "<svg/>"),
            ("/icon.svg", "<svg/>"),
            ("/.well-known/security.txt", "Contact:"),
        ] {
            let (status, _, body) = ask(&site, get(path, &[])).await.expect(path);
            assert_eq!((status, body.as_str()), (StatusCode::OK, text), "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_hidden_or_outside_is_served() {
        let site = site();
        for path in [
            "/.env",
            "/%2eenv",
            "/%2Eenv",
            "/docs/.env",
            "/.git/config",
            "/.git",
            "/x%2f..%2f.env",
            "/docs%2f..%2f.env",
            "/.well-known/.hidden",
            "/.well-known/%2ehidden",
            "/docs/.well-known/security.txt",
            "/env.txt",
            "/out.txt",
            "/out/a.txt",
            "/out/",
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "//etc/passwd",
            "/%2fetc%2fpasswd",
            "/favicon.svg/",
            "/favicon.svg/x.txt",
            "/favicon.svg%00.html",
            "/missing.js",
        ] {
            let answer = ask(&site, get(path, NAVIGATE)).await;
            let leaked = answer.as_ref().is_ok_and(|(_, _, body)| body.contains("SECRET"));
            assert!(!leaked, "{path}");
            if !matches!(path, "/.git" | "/out/") && is_asset_like(path) {
                assert_eq!(answer.err(), Some(Error::NotFound), "{path}");
            }
        }
        assert_eq!(ask(&site, get("/.git", &[])).await.err(), Some(Error::NotFound));
        assert_eq!(ask(&site, get("/out/", &[])).await.err(), Some(Error::NotFound));
    }

    #[tokio::test]
    async fn other_methods_are_refused_and_the_allowed_named() {
        let site = site();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = ask(
                &site,
                Ask {
                    method: method.clone(),
                    ..get("/", &[])
                },
            )
            .await;
            assert_eq!(
                answer.err(),
                Some(Error::MethodNotAllowed {
                    allow: vec![Method::GET, Method::HEAD]
                }),
                "{method}"
            );
        }
    }

    #[tokio::test]
    async fn head_has_the_length_and_no_body() {
        let site = site();
        let (status, headers, body) = ask(
            &site,
            Ask {
                method: Method::HEAD,
                ..get("/favicon.svg", &[])
            },
        )
        .await
        .expect("served");
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
        assert_eq!(headers["content-length"], "6");
    }

    #[tokio::test]
    async fn the_history_fallback_is_for_navigations_to_paths_only() {
        let site = site();
        let old_browser: &[_] = &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
        let fetch: &[_] = &[("sec-fetch-mode", "cors"), ("accept", "text/html")];
        for (name, path, headers, page) in [
            ("a navigation", "/orders/7", NAVIGATE, true),
            ("a browser without fetch metadata", "/orders/7", old_browser, true),
            ("a fetch, although it accepts html", "/orders/7", fetch, false),
            ("a call without any sign", "/orders/7", &[], false),
            ("a missing asset", "/assets/old.js", NAVIGATE, false),
            ("a dotfile", "/.env", NAVIGATE, false),
        ] {
            let answer = ask(&site, get(path, headers)).await;
            match answer {
                Ok((status, headers, body)) => {
                    assert!(page, "{name}");
                    assert_eq!((status, body.as_str()), (StatusCode::OK, "<!doctype html>home"));
                    assert_eq!(headers["cache-control"], "no-cache", "{name}");
                    assert!(
                        headers
                            .get_all(VARY)
                            .iter()
                            .any(|v| v == "accept, sec-fetch-mode"),
                        "{name}"
                    );
                }
                Err(error) => {
                    assert!(!page, "{name}");
                    assert_eq!(error, Error::NotFound, "{name}");
                }
            }
        }
    }

    #[tokio::test]
    async fn html_carries_the_policy_and_is_revalidated() {
        let site = site();
        let (_, headers, _) = ask(&site, get("/", &[])).await.expect("served");
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "strict-origin-when-cross-origin");
        let policy = headers["content-security-policy"].to_str().expect("text");
        for directive in [
            "default-src 'self'",
            "script-src 'self';",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(directive), "{directive}");
        }
    }

    #[tokio::test]
    async fn hashed_files_are_kept_and_others_are_revalidated() {
        let site = site();
        for (path, value) in [
            ("/app-3f2a9c1b.js", "public, max-age=31536000, immutable"),
            ("/assets/index-DiwrgTda.js", "public, max-age=31536000, immutable"),
            ("/favicon.svg", "no-cache"),
        ] {
            let (_, headers, _) = ask(&site, get(path, &[])).await.expect(path);
            assert_eq!(headers["cache-control"], value, "{path}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert!(!headers.contains_key("content-security-policy"), "{path}");
        }
    }

    #[tokio::test]
    async fn conditional_requests_are_answered_with_304() {
        let site = site();
        let (_, headers, _) = ask(&site, get("/favicon.svg", &[])).await.expect("served");
        for (request, response) in [("if-none-match", "etag"), ("if-modified-since", "last-modified")] {
            let value = headers[response].clone();
            let ask = [(HeaderName::from_static(request), value)].into_iter().collect();
            let answer = site.files.serve(&Method::GET, "/favicon.svg", &ask).await;
            let answer = answer.expect("served");
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{request}");
            assert_eq!(answer.headers()["cache-control"], "no-cache");
        }
    }

    #[tokio::test]
    async fn a_precompressed_variant_is_preferred_where_accepted() {
        let site = site();
        let (_, headers, body) = ask(&site, get("/app-3f2a9c1b.js", &[("accept-encoding", "gzip")]))
            .await
            .expect("served");
        assert_eq!(
            (headers["content-encoding"].as_bytes(), body.as_str()),
            (&b"gzip"[..], "zipped")
        );
        assert_eq!(headers["content-type"], "text/javascript");
        assert!(headers.get_all(VARY).iter().any(|v| v == "accept-encoding"));
    }

    #[tokio::test]
    async fn a_folder_that_is_a_link_can_be_switched_to_another_release() {
        let root = tempfile::tempdir().expect("a folder");
        for release in ["one", "two"] {
            std::fs::create_dir(root.path().join(release)).expect("a folder");
            std::fs::write(root.path().join(release).join("index.html"), release).expect("a file");
        }
        let link = root.path().join("current");
        std::os::unix::fs::symlink("one", &link).expect("a link");
        let site = Site {
            files: StaticFiles::open(&link).expect("there"),
            _root: root,
        };
        assert_eq!(ask(&site, get("/", &[])).await.expect("served").2, "one");
        std::fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink("two", &link).expect("a link");
        assert_eq!(ask(&site, get("/", &[])).await.expect("served").2, "two");
    }

    #[test]
    fn a_missing_folder_and_a_file_are_reported() {
        let root = tempfile::tempdir().expect("a folder");
        let missing = StaticFiles::open(&root.path().join("missing")).err();
        assert!(matches!(missing, Some(StaticFilesError::Unreadable(_))));
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let file = StaticFiles::open(&file).err();
        assert!(matches!(file, Some(StaticFilesError::NotAFolder)));
    }

    #[test]
    fn content_hashes_are_told_from_words() {
        for (path, hashed) in [
            ("/app-3f2a9c1b.js", true),
            ("/static/js/main.3f2a9c1b.js", true),
            ("/static/js/main.8e6d3f1a.chunk.js", true),
            ("/main-5YVL7XQJ.js", true),
            ("/main.9dce6d6e0a1b2c3d.css", true),
            ("/assets/index-DiwrgTda.js", true),
            ("/assets/index-B-x3kQ9a.js", true),
            ("/assets/index-a_x3kQ9a.js.map", true),
            ("/build/index-Dix3kQ9a.js", true),
            ("/index.html", false),
            ("/service-worker.js", false),
            ("/my-component.js", false),
            ("/build/logo-MyBanner.svg", false),
            ("/photo-20240101.jpg", false),
            ("/assets/photo-20240101.jpg", false),
            ("/jquery-3.7.1.min.js", false),
            ("/chunk-deadbeef.js", false),
            ("/facade12.js", false),
            ("/app-3f2a9c1b", false),
            ("/a-é3f2a9c1.js", false),
            ("", false),
        ] {
            assert_eq!(has_content_hash(path), hashed, "{path}");
        }
    }
}
