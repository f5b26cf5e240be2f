//! The folder with everything in it that must and must not be served.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::*;

struct Site {
    root: tempfile::TempDir,
    files: StaticFiles,
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

fn serving(folder: &Path) -> StaticFiles {
    StaticFiles::new(folder, FileHeaders::default())
}

fn site() -> Site {
    let root = tempfile::tempdir().expect("a folder");
    let dist = root.path().join("dist");
    for (name, text) in [
        ("dist/index.html", "<!doctype html>home"),
        ("dist/docs/index.html", "<!doctype html>docs"),
        ("dist/assets/index-DiwrgTda.js", "hashed"),
        ("dist/app-3f2a9c1b.js", "hashed and long"),
        ("dist/app-3f2a9c1b.js.gz", "zipped"),
        ("dist/app-3f2a9c1b.js.br", "brotli"),
        ("dist/big.bin.gz", "larger than the file itself"),
        ("dist/big.bin", "small"),
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
    let files = serving(&dist);
    Site { root, files }
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
                assert_eq!(
                    headers["vary"], "accept-encoding, accept, sec-fetch-mode",
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
async fn every_variant_has_its_own_tag_and_tells_caches_apart() {
    let site = site();
    let mut tags = Vec::new();
    for (accepts, encoding, text) in [
        ("identity", None, "hashed and long"),
        ("gzip", Some("gzip"), "zipped"),
        ("gzip, br", Some("br"), "brotli"),
        ("br;q=0.1, gzip;q=0.9", Some("gzip"), "zipped"),
        ("zstd", None, "hashed and long"),
    ] {
        let request = [("accept-encoding", accepts)];
        for method in [Method::GET, Method::HEAD] {
            let asked = Ask {
                method: method.clone(),
                ..get("/app-3f2a9c1b.js", &request)
            };
            let (_, headers, body) = ask(&site, asked).await.expect("served");
            let sent = headers
                .get("content-encoding")
                .map(|value| value.to_str().expect("text"));
            assert_eq!(sent, encoding, "{accepts}");
            assert_eq!(body, if method == Method::GET { text } else { "" });
            assert_eq!(headers["content-length"], text.len().to_string().as_str());
            assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
            assert_eq!(headers["vary"], "accept-encoding");
            tags.push((encoding, headers["etag"].clone()));
        }
    }
    for (encoding, tag) in &tags {
        for (other, another) in &tags {
            assert_eq!(encoding == other, tag == another, "{encoding:?} {other:?}");
        }
    }
    let (_, headers, body) = ask(&site, get("/big.bin", &[("accept-encoding", "gzip")]))
        .await
        .expect("served");
    assert_eq!((headers.get("content-encoding"), body.as_str()), (None, "small"));
}

#[tokio::test]
async fn the_tag_of_a_variant_revalidates_that_variant() {
    let site = site();
    for accepts in ["gzip", "identity"] {
        let (_, headers, _) = ask(&site, get("/app-3f2a9c1b.js", &[("accept-encoding", accepts)]))
            .await
            .expect("served");
        let tag = headers["etag"].clone();
        for (now_accepts, status) in [(accepts, StatusCode::NOT_MODIFIED), ("br", StatusCode::OK)] {
            let request: HeaderMap = [
                (http::header::IF_NONE_MATCH, tag.clone()),
                (
                    http::header::ACCEPT_ENCODING,
                    HeaderValue::from_static(now_accepts),
                ),
            ]
            .into_iter()
            .collect();
            let answer = site.files.serve(&Method::GET, "/app-3f2a9c1b.js", &request).await;
            let answer = answer.expect("served");
            assert_eq!(answer.status(), status, "{accepts} {now_accepts}");
            assert_eq!(answer.headers()["vary"], "accept-encoding");
            assert!(answer.headers().contains_key("etag"));
        }
    }
}

#[tokio::test]
async fn an_equally_long_page_of_the_same_time_is_a_new_page() {
    // As builds leave them that set every time to the same moment.
    let site = site();
    let page = site.path("dist/index.html");
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let mut known = None;
    for text in ["<script src=a.js>", "<script src=b.js>"] {
        std::fs::write(&page, text).expect("a file");
        let file = File::options().write(true).open(&page).expect("a file");
        file.set_modified(moment).expect("set");
        let (_, headers, _) = ask(&site, get("/", &[])).await.expect("served");
        assert_eq!(headers["last-modified"], "Thu, 01 Jan 1970 00:00:01 GMT");
        assert_ne!(
            known.replace(headers["etag"].clone()),
            Some(headers["etag"].clone())
        );
    }
}

#[tokio::test]
async fn another_policy_makes_another_answer() {
    let site = site();
    let headers = |policy: &'static str, more: &'static str| FileHeaders {
        content_security_policy: Some(HeaderValue::from_static(policy)),
        further: vec![(HeaderName::from_static("x-more"), HeaderValue::from_static(more))],
        ..FileHeaders::default()
    };
    let mut tags = Vec::new();
    for (policy, more) in [
        ("default-src 'self'", "a"),
        ("default-src 'none'", "a"),
        ("default-src 'self'", "b"),
    ] {
        let site = Site {
            files: StaticFiles::new(&site.path("dist"), headers(policy, more)),
            root: tempfile::tempdir().expect("a folder"),
        };
        let (_, headers, _) = ask(&site, get("/", &[])).await.expect("served");
        assert_eq!(headers["content-security-policy"], policy);
        assert_eq!(headers["x-more"], more);
        assert!(!tags.contains(&headers["etag"]), "{policy} {more}");
        tags.push(headers["etag"].clone());
        let (_, headers, _) = ask(&site, get("/favicon.svg", &[])).await.expect("served");
        assert_eq!(headers["x-more"], more);
    }
    let without = FileHeaders {
        content_security_policy: None,
        ..FileHeaders::default()
    };
    let site = Site {
        files: StaticFiles::new(&site.path("dist"), without),
        root: tempfile::tempdir().expect("a folder"),
    };
    let (_, headers, _) = ask(&site, get("/", &[])).await.expect("served");
    assert!(!headers.contains_key("content-security-policy"));
}

#[tokio::test]
async fn a_part_is_served_and_continued_under_its_tag_only() {
    let site = site();
    let (_, headers, _) = ask(&site, get("/favicon.svg", &[])).await.expect("served");
    let (tag, modified) = (headers["etag"].clone(), headers["last-modified"].clone());
    assert_eq!(headers["accept-ranges"], "bytes");
    for (range, condition, status, text) in [
        ("bytes=1-3", None, 206, "svg"),
        ("bytes=4-", None, 206, "/>"),
        ("bytes=-2", None, 206, "/>"),
        ("bytes=1-3", Some(tag), 206, "svg"),
        (
            "bytes=1-3",
            Some(HeaderValue::from_static("\"old\"")),
            200,
            "<svg/>",
        ),
        ("bytes=1-3", Some(modified), 200, "<svg/>"),
        ("bytes=6-", None, 416, ""),
        ("items=1-3", None, 200, "<svg/>"),
        ("bytes=0-1,3-4", None, 200, "<svg/>"),
    ] {
        let mut request = HeaderMap::new();
        request.insert(http::header::RANGE, HeaderValue::from_static(range));
        if let Some(condition) = condition {
            request.insert(http::header::IF_RANGE, condition);
        }
        let answer = site
            .files
            .serve(&Method::GET, "/favicon.svg", &request)
            .await
            .expect("answered");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("read").to_bytes();
        assert_eq!(
            (parts.status.as_u16(), &*body),
            (status, text.as_bytes()),
            "{range}"
        );
        assert_eq!(parts.headers["content-length"], text.len().to_string().as_str());
        let part = parts
            .headers
            .get("content-range")
            .map(|value| value.to_str().expect("text"));
        let expected = match (status, range) {
            (416, _) => Some("bytes */6"),
            (206, "bytes=1-3") => Some("bytes 1-3/6"),
            (206, _) => Some("bytes 4-5/6"),
            _ => None,
        };
        assert_eq!(part, expected, "{range}");
        assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn a_failed_precondition_is_412_without_a_body() {
    let site = site();
    let (status, headers, body) = ask(&site, get("/", &[("if-match", "\"old\"")]))
        .await
        .expect("answered");
    assert_eq!((status, body.as_str()), (StatusCode::PRECONDITION_FAILED, ""));
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn text_says_that_it_is_utf_8_and_what_is_no_text_does_not() {
    let site = site();
    for (name, content_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.xml", "text/xml"),
        ("a.json", "application/json"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.svg", "image/svg+xml"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.unheard-of", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
        (".well-known/apple-app-site-association", "application/json"),
    ] {
        std::fs::write(site.path("dist").join(name), "x").expect("a file");
        let (_, headers, _) = ask(&site, get(&format!("/{name}"), &[])).await.expect(name);
        assert_eq!(headers["content-type"], content_type, "{name}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{name}");
        let document = ["a.html", "a.svg", "a.xml"].contains(&name);
        assert_eq!(
            headers.contains_key("content-security-policy"),
            document,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_read_to_its_old_end() {
    let site = site();
    let path = site.path("dist/large.bin");
    let old = vec![b'o'; 300_000];
    std::fs::write(&path, &old).expect("a file");
    let answer = site
        .files
        .serve(&Method::GET, "/large.bin", &HeaderMap::new())
        .await
        .expect("served");
    let known = answer.headers()["etag"].clone();
    let new = site.path("dist/new");
    std::fs::write(&new, vec![b'n'; 300_000]).expect("a file");
    std::fs::rename(new, &path).expect("replaced");
    assert_eq!(answer.into_body().collect().await.expect("read").to_bytes(), old);
    let answer = site
        .files
        .serve(&Method::GET, "/large.bin", &HeaderMap::new())
        .await
        .expect("served");
    assert_ne!(answer.headers()["etag"], known);
}

#[tokio::test]
async fn a_file_that_grows_or_shrinks_meanwhile_is_never_passed_off_as_whole() {
    let site = site();
    let path = site.path("dist/large.bin");
    for (length, complete) in [(400_000, true), (100_000, false)] {
        std::fs::write(&path, vec![b'o'; 300_000]).expect("a file");
        let answer = site
            .files
            .serve(&Method::GET, "/large.bin", &HeaderMap::new())
            .await
            .expect("served");
        assert_eq!(answer.headers()["content-length"], "300000");
        let file = File::options().write(true).open(&path).expect("a file");
        file.set_len(length).expect("resized");
        let read = answer
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes().len());
        assert_eq!(read.ok(), complete.then_some(300_000));
    }
}

#[tokio::test]
async fn a_folder_may_come_and_go() {
    let root = tempfile::tempdir().expect("a folder");
    let site = Site {
        files: serving(&root.path().join("dist")),
        root,
    };
    let missing = || Some(Error::FilesUnavailable("entity not found".to_owned()));
    assert_eq!(ask(&site, get("/", &[])).await.err(), missing());
    std::fs::create_dir(site.path("dist")).expect("a folder");
    assert_eq!(ask(&site, get("/", &[])).await.err(), Some(Error::NotFound));
    std::fs::write(site.path("dist/index.html"), "home").expect("a file");
    assert_eq!(ask(&site, get("/", &[])).await.expect("served").2, "home");
    std::fs::remove_dir_all(site.path("dist")).expect("removed");
    assert_eq!(ask(&site, get("/", &[])).await.err(), missing());
    std::fs::write(site.path("dist"), "a file").expect("a file");
    let no_folder = Some(Error::FilesUnavailable("not a directory".to_owned()));
    assert_eq!(ask(&site, get("/", &[])).await.err(), no_folder);
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
        files: serving(&link),
        root,
    };
    assert_eq!(ask(&site, get("/", &[])).await.expect("served").2, "one");
    std::fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink("two", &link).expect("a link");
    assert_eq!(ask(&site, get("/", &[])).await.expect("served").2, "two");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_not_there_and_keeps_nobody_waiting() {
    let site = site();
    let dist = site.path("dist");
    rustix::fs::mkfifoat(rustix::fs::CWD, dist.join("pipe.js"), rustix::fs::Mode::RWXU).expect("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(dist.join("socket.js")).expect("a socket");
    std::os::unix::fs::symlink("/dev/zero", dist.join("zero.js")).expect("a link");
    std::os::unix::fs::symlink("loop.js", dist.join("loop.js")).expect("a link");
    std::fs::create_dir(dist.join("folder.js")).expect("a folder");
    std::fs::create_dir_all(dist.join("odd/index.html")).expect("a folder");
    let deep = "d/".repeat(2000);
    let long = format!("/{}.js", "x".repeat(300));
    for path in [
        "/pipe.js",
        "/socket.js",
        "/zero.js",
        "/loop.js",
        "/folder.js",
        "/folder.js/",
        "/odd",
        "/odd/",
        &long,
        &format!("/{deep}a.js"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let asked = Ask {
                method,
                ..get(path, &[("accept-encoding", "br, gzip, zstd")])
            };
            assert_eq!(ask(&site, asked).await.err(), Some(Error::NotFound), "{path}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_variant_is_confined_as_the_file_is() {
    let site = site();
    let dist = site.path("dist");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        dist.join("index.html.zst"),
        rustix::fs::Mode::RWXU,
    )
    .expect("a pipe");
    // Shorter than the page, so that only its place speaks against it.
    std::fs::write(site.path("dist/.hidden"), "S").expect("a file");
    std::fs::write(site.path("short"), "S").expect("a file");
    std::os::unix::fs::symlink("../short", dist.join("index.html.br")).expect("a link");
    std::os::unix::fs::symlink(".hidden", dist.join("index.html.gz")).expect("a link");
    let (_, headers, body) = ask(&site, get("/", &[("accept-encoding", "br, gzip, zstd")]))
        .await
        .expect("served");
    assert_eq!(body, "<!doctype html>home");
    assert!(!headers.contains_key("content-encoding"));
}

/// Thousands of paths made of what leads astray, against a folder with everything around and in it
/// that must not be seen. What is served must be one of the files that may be.
#[cfg(unix)]
#[expect(clippy::print_stdout, reason = "it tells how many paths it tried")]
#[tokio::test]
async fn no_path_leads_out_of_the_folder_or_to_a_dotfile() {
    let site = site();
    let dist = site.path("dist");
    let root = site.root.path().to_string_lossy().into_owned();
    for (target, link) in [
        ("/", "whole"),
        (root.as_str(), "up"),
        ("..", "parent"),
        ("../dist/.git", "git"),
        ("docs", "inside"),
    ] {
        std::os::unix::fs::symlink(target, dist.join(link)).expect("a link");
    }
    let long = "x".repeat(255);
    let pieces = [
        "..",
        ".",
        "",
        "/",
        "//",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "%252e%252e",
        "%c0%ae",
        "%ff",
        "..;",
        ".env",
        "%2eenv",
        ".git",
        "config",
        ".well-known",
        "security.txt",
        ".hidden",
        "secret.txt",
        "outside",
        "a.txt",
        "dist",
        "docs",
        "index.html",
        "favicon.svg",
        "app-3f2a9c1b.js",
        ".gz",
        ".br",
        "whole",
        "up",
        "parent",
        "git",
        "inside",
        "out",
        "out.txt",
        "env.txt",
        "icon.svg",
        "etc",
        "passwd",
        "proc",
        "self",
        "environ",
        "root",
        "é",
        " ",
        "~",
        "*",
        "?",
        "#",
        long.as_str(),
    ];
    let allowed = [
        "<!doctype html>home",
        "<!doctype html>docs",
        "hashed",
        "hashed and long",
        "zipped",
        "brotli",
        "small",
        "larger than the file itself",
        "<svg/>",
        "Contact:",
    ];
    let mut random = 0x5eed_u64;
    let mut next = |below: usize| {
        // xorshift64: the same paths each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).expect("31 bits") % below
    };
    let (mut served, mut escapes) = (0, 0);
    for _ in 0..CASES {
        let mut path = String::new();
        for _ in 0..=next(6) {
            if next(4) > 0 {
                path.push('/');
            }
            path.push_str(pieces[next(pieces.len())]);
        }
        let headers: &[_] = match next(3) {
            0 => NAVIGATE,
            1 => &[("accept-encoding", "br, gzip, zstd")],
            _ => &[],
        };
        match ask(&site, get(&path, headers)).await {
            Ok((status, _, body)) => {
                served += 1;
                if !allowed.contains(&body.as_str()) || status != StatusCode::OK {
                    escapes += 1;
                    println!("{path} answers {status} with {} bytes", body.len());
                }
            }
            Err(error) => assert_eq!(error, Error::NotFound, "{path}"),
        }
    }
    println!("{CASES} paths, {served} served, {escapes} escapes");
    assert_eq!(escapes, 0);
    assert!(served > CASES / 50, "the generator meets files too: {served}");
}

const CASES: usize = 20_000;
