//! Coatroom in front of an axum router: `coatroom keygen > coatroom.key`, then
//! `SHOP_CLIENT_SECRET=… cargo run -p coatroom --example axum`.

use axum::http::HeaderMap;
use axum::{Extension, Router};
use coatroom::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom::seal::{KeyRing, MasterKey};
use coatroom::secret::Secret;
use coatroom::{Session, TokenHandler};
use tower::Layer as _;

/// Called with a session only: the token is in `Authorization`, the session is an extension.
async fn orders(Extension(session): Extension<Session>, headers: HeaderMap) -> String {
    let has_token = headers.contains_key("authorization");
    format!("orders of {}, token: {has_token}", session.id.public())
}

/// The Layer wraps a whole router, because it decides before routing does.
pub(crate) fn service(handler: &TokenHandler) -> Router {
    let router = Router::new().route("/api/orders", axum::routing::get(orders));
    Router::new().fallback_service(handler.layer().layer(router))
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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    axum::serve(listener, service(&handler)).await?;
    Ok(())
}
