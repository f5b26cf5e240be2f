//! Look-ups of the names of upstreams, beside the calls and never in their way.
//!
//! The system's resolver tells no time to live, so a name is looked up every [`EVERY`], and sooner
//! when an address of it refuses connections. A look-up that fails changes nothing: the addresses
//! known before stay in use. Only the very first calls of a name wait for it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::directory::Group;
use super::endpoint::At;

/// What knows the addresses of names.
pub(super) type Resolver = Arc<dyn Fn(String, u16) -> Resolving + Send + Sync>;

/// A look-up under way.
pub(super) type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The system's own resolver.
pub(super) fn system() -> Resolver {
    Arc::new(|name, port| Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }))
}

/// Looks the names of a group up for as long as somebody uses it.
pub(super) async fn keep_resolved(group: Weak<Group>, resolver: Resolver) {
    loop {
        let Some(strong) = Group::in_use(&group) else {
            return;
        };
        let now = Instant::now();
        let next = now.checked_add(EVERY).unwrap_or(now);
        look_up(&strong, &resolver).await;
        let hurry = strong.hurry.clone();
        drop(strong);
        sleep(AT_LEAST).await;
        tokio::select! {
            () = hurry.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn look_up(group: &Group, resolver: &Resolver) {
    let lookups = group.sites.iter().map(|site| async {
        let At::Name(name, port) = &site.at else {
            return None;
        };
        let found = timeout(DEADLINE, resolver(name.clone(), *port)).await;
        Some(match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(distinct(addresses)),
            Ok(Ok(_)) => Err("it has no address".to_owned()),
            Ok(Err(error)) => Err(error.kind().to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        })
    });
    let found = futures_util::future::join_all(lookups).await;
    group.take_on(found);
}

/// Each once, in their order, and not more than anybody has.
fn distinct(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if kept.len() < MOST && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

/// How often a name is looked up.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// The shortest pause between two look-ups, however many calls fail.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How long one look-up may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Addresses of one name.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_once_and_within_a_bound() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(
            distinct(vec![address(2), address(1), address(2)]),
            [address(2), address(1)]
        );
        assert_eq!(distinct((1..1000).map(address).collect()).len(), MOST);
    }

    #[tokio::test]
    async fn the_systems_resolver_knows_this_machine() {
        let addresses = system()("localhost".to_owned(), 80).await.expect("resolved");
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
