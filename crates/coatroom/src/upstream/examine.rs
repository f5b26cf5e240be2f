//! One upstream, examined once: each address of it connected to and asked, as calls do it.
//!
//! For whoever wants to know whether a route would work, without serving it. No credential is sent,
//! no body is read, and nothing that an upstream says is kept but its status.

use std::sync::Arc;
use std::time::Duration;

use coatroom_core::config::{HealthCheck, UpstreamAddress, Upstreams};
use http::Method;
use http::uri::PathAndQuery;
use tokio::time::timeout;

use super::connect::{Connector, Place};
use super::endpoint::{At, Endpoint, Protocol, Site};
use super::health::ask;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `GET`, or `HEAD` where nobody said what may be asked for.
    pub method: Method,
    /// The path.
    pub path: PathAndQuery,
    /// How long the answer may take, connecting included.
    pub limit: Duration,
}

/// What one address of an upstream answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The address that was connected to, or the upstream as it is written where it has none.
    pub address: String,
    /// The status of the answer and whether it came over HTTP/2, or why there was none: our own words.
    pub outcome: Result<(u16, bool), String>,
}

impl Question {
    /// What is asked of these upstreams: their health check, else `HEAD` of the base path.
    pub fn of(upstreams: &Upstreams, limit: Duration) -> Self {
        match &upstreams.health_check {
            Some(HealthCheck { path, timeout, .. }) => Self {
                method: Method::GET,
                path: path.clone(),
                limit: limit.min(*timeout),
            },
            None => Self {
                method: Method::HEAD,
                path: match upstreams.addresses.first() {
                    Some(UpstreamAddress::Url(url)) => url.path().parse().ok(),
                    Some(UpstreamAddress::Unix(_)) | None => None,
                }
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
                limit,
            },
        }
    }
}

impl Connector {
    /// Looks up, connects to and asks every address of these upstreams, one after the other.
    pub async fn examine(&self, upstreams: &Upstreams, question: &Question) -> Vec<Examined> {
        let mut examined = Vec::new();
        for address in &upstreams.addresses {
            let site = Arc::new(Site::new(address, upstreams, self.directory.platform()));
            let places = match &site.at {
                At::Fixed(place) => Ok(vec![place.clone()]),
                At::Name(name, port) => looked_up(name, *port, question.limit).await,
            };
            match places {
                Err(why) => examined.push(Examined {
                    address: site.shown.clone(),
                    outcome: Err(why.to_owned()),
                }),
                Ok(places) => {
                    for place in places {
                        let endpoint = Endpoint::new(site.clone(), place, Arc::default());
                        examined.push(Examined {
                            address: endpoint.address(),
                            outcome: asked(&endpoint, question).await,
                        });
                    }
                }
            }
        }
        examined
    }
}

async fn looked_up(name: &str, port: u16, limit: Duration) -> Result<Vec<Place>, &'static str> {
    match timeout(limit, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(addresses)) => {
            let places: Vec<_> = addresses
                .map(|address| Place::Tcp(vec![address]))
                .take(MOST_ADDRESSES)
                .collect();
            match places.is_empty() {
                true => Err("its name has no address"),
                false => Ok(places),
            }
        }
        Ok(Err(_)) => Err("its name cannot be looked up"),
        Err(_) => Err("looking its name up took too long"),
    }
}

async fn asked(endpoint: &Endpoint, question: &Question) -> Result<(u16, bool), String> {
    let (method, path) = (question.method.clone(), question.path.clone());
    match timeout(question.limit, ask(endpoint, method, path)).await {
        Ok(Ok((status, speaks))) => Ok((status.as_u16(), speaks == Protocol::Http2)),
        Ok(Err(error)) => Err(super::health::why(error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Enough of them to know.
const MOST_ADDRESSES: usize = 8;
