//! Where the routes lead: does every address of every upstream answer, and are the SPA's files there?
//!
//! An upstream is asked as its health check asks it, else for the head of its base path, without a
//! credential: whatever it answers shows that it is there.

use std::path::Path;

use coatroom::upstream::{Connector, Examined, Question};
use coatroom_core::config::{Application, Http2, Route, RouteTarget, UpstreamAddress, Upstreams};
use futures_util::stream::{self, StreamExt as _};

use super::QUESTION;
use super::network::{Place, first_that_accepts};
use super::sheet::{Sheet, plain, quoted};

/// Examines them.
pub(super) async fn examine(sheet: Sheet, application: &Application) {
    let connector = Connector::platform().ok();
    let routes = application.routes.iter().map(|route| async {
        let found = Sheet::new(None, "");
        look_at(&found, connector.as_ref(), route).await;
        found
    });
    // several at once, and told of in their order
    let mut routes = stream::iter(routes).buffered(AT_ONCE);
    while let Some(found) = routes.next().await {
        sheet.append(&found);
    }
    sheet.done();
}

async fn look_at(sheet: &Sheet, connector: Option<&Connector>, route: &Route) {
    let path = route.prefix.as_str();
    match &route.target {
        RouteTarget::Upstream(upstreams) => match connector {
            Some(connector) => {
                let question = Question::of(upstreams, route.connect_timeout.min(QUESTION));
                for examined in connector.examine(upstreams, &question).await {
                    judge(sheet, path, upstreams, &examined);
                }
            }
            None => sheet.failed(
                "upstream",
                format!("{path}: this system has no certificate authorities to trust"),
                "install the package ca-certificates, or set SSL_CERT_FILE",
            ),
        },
        RouteTarget::Static(folder) => files(sheet, path, folder),
        RouteTarget::DevServer(url) => dev_server(sheet, path, url.as_str()).await,
        RouteTarget::Inner => {}
    }
}

fn judge(sheet: &Sheet, path: &str, upstreams: &Upstreams, examined: &Examined) {
    let address = &examined.address;
    let is_checked = upstreams.health_check.is_some();
    match &examined.outcome {
        Ok((status, _)) if is_checked && !(200..300).contains(status) => sheet.failed(
            "upstream",
            format!("{path}: {address} answers its health check with {status}"),
            "no call goes there while it does: correct the path in `health_check`, or the API",
        ),
        Ok((status, _)) if *status >= 500 => sheet.warning(
            "upstream",
            format!("{path}: {address} answers {status}"),
            "it is there, and broken: see its log",
        ),
        Ok((status, over_http2)) => {
            let protocol = if *over_http2 { "HTTP/2" } else { "HTTP/1.1" };
            sheet.good(
                "upstream",
                format!("{path}: {address} answers {status} over {protocol}"),
            );
        }
        Err(why) => sheet.failed(
            "upstream",
            format!("{path}: {address}: {}", plain(why)),
            todo(upstreams, why),
        ),
    }
}

fn todo(upstreams: &Upstreams, why: &str) -> &'static str {
    let is_socket = matches!(upstreams.addresses.first(), Some(UpstreamAddress::Unix(_)));
    if why.contains("tls") {
        "see its certificate: an authority of your own belongs into `upstream_tls.ca`, another name into \
         `upstream_tls.server_name`"
    } else if why.contains("looked up") || why.contains("no address") {
        "correct the host of `upstream`, or the DNS of this machine"
    } else if why.contains("without an answer") && upstreams.http2 == Http2::Always {
        "does it speak HTTP/2 in the clear? else remove `http2: true` from the route"
    } else if is_socket {
        "is the API up, and may this user connect to its socket?"
    } else {
        "is the API up, and does it listen at that address? calls of this route are 502 or 504"
    }
}

fn files(sheet: &Sheet, path: &str, folder: &Path) {
    if folder.join("index.html").is_file() {
        sheet.good("files", format!("{path}: {}", folder.display()));
    } else {
        let missing = if folder.is_dir() {
            "has no index.html"
        } else {
            "is no folder"
        };
        sheet.failed(
            "files",
            format!("{path}: {} {missing}", folder.display()),
            "build the SPA, or correct `static`; may this user read it?",
        );
    }
}

async fn dev_server(sheet: &Sheet, path: &str, url: &str) {
    let addresses = match Place::of(url) {
        Some(place) => place.addresses().await.unwrap_or_default(),
        None => Vec::new(),
    };
    match first_that_accepts(&addresses).await {
        Some(address) => sheet.good("dev_server", format!("{path}: {address} accepts")),
        None => sheet.failed(
            "dev_server",
            format!("{path}: nobody listens at {}", quoted(url)),
            "start it",
        ),
    }
}

/// Routes that are looked at at the same time.
const AT_ONCE: usize = 16;
