//! Coatroom in an AWS Lambda function behind API Gateway or a load balancer, on `lambda_http`. The key
//! and the client's secret come from the environment. No work outlives the answer there.

use std::convert::Infallible;

use coatroom::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom::seal::{KeyRing, MasterKey};
use coatroom::{Session, TokenHandler, secret::Secret};
use lambda_http::{Body, Request, Response};
use tower::Layer as _;

/// Called with a session only: the token is in `Authorization`, the session is an extension.
pub(crate) async fn orders(request: Request) -> Result<Response<Body>, Infallible> {
    let session = request.extensions().get::<Session>().expect("required");
    let (id, has_token) = (
        session.id.public(),
        request.headers().contains_key("authorization"),
    );
    let text = format!("orders of {id}, token: {has_token}");
    Ok(Response::new(Body::from(text)))
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let secret = Secret::new(std::env::var("SHOP_CLIENT_SECRET")?);
    let provider = ProviderConfig::new("https://login.example.com", "shop", secret);
    let shop = ApplicationConfig::new("shop", "https://shop.example.com", provider)
        .route(RouteConfig::new("/api/", RouteTargetConfig::Inner))
        .check()
        .map_err(|problems| format!("{problems:?}"))?;
    let key = MasterKey::parse(std::env::var("COATROOM_KEY")?.trim())?;
    let handler = TokenHandler::builder(vec![shop], KeyRing::new(vec![key])?).build()?;
    lambda_http::run(handler.layer().layer(tower::service_fn(orders))).await
}
