//! Coatroom in front of a tower service, on hyper: `coatroom keygen > coatroom.key`, then
//! `SHOP_CLIENT_SECRET=… cargo run -p coatroom --example tower`.

use coatroom::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom::seal::{KeyRing, MasterKey};
use coatroom::{Session, TokenHandler, secret::Secret};
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::convert::Infallible;
use tower::Layer as _;

/// Called with a session only: the token is in `Authorization`, the session is an extension.
pub(crate) async fn orders<B>(call: Request<B>) -> Result<Response<String>, Infallible> {
    let session = call.extensions().get::<Session>().expect("required");
    let (id, has_token) = (session.id.public(), call.headers().contains_key("authorization"));
    Ok(Response::new(format!("orders of {id}, token: {has_token}")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = Secret::new(std::env::var("SHOP_CLIENT_SECRET")?);
    let provider = ProviderConfig::new("https://login.example.com", "shop", secret);
    let shop = ApplicationConfig::new("shop", "https://shop.example.com", provider)
        .route(RouteConfig::new("/api/", RouteTargetConfig::Inner))
        .check()
        .map_err(|problems| format!("{problems:?}"))?;
    let key = MasterKey::parse(std::fs::read_to_string("coatroom.key")?.trim())?;
    let handler = TokenHandler::builder(vec![shop], KeyRing::new(vec![key])?).build()?;
    let service = handler.layer().layer(tower::service_fn(orders));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let io = TokioIo::new(listener.accept().await?.0);
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(http1::Builder::new().serve_connection(io, service));
    }
}
