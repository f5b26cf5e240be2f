//! Does the provider give this client the tokens that its routes carry? Each is really asked for.
//!
//! A route with `client_credentials` answers nobody until it has its token, and what is missing is mostly
//! a grant or a scope that nobody allowed at the provider. The tokens are dropped at once and never shown.

use coatroom::clock::{Clock as _, SystemClock, SystemRng};
use coatroom::provider::Provider;
use coatroom_core::config::{Application, ClientGrant};
use coatroom_core::error::Error;
use coatroom_core::handler::Handler;
use coatroom_core::oauth::ProviderSnapshot;
use coatroom_core::step::Context;
use tokio::time::timeout;

use super::QUESTION;
use super::sheet::Sheet;

/// Asks for each, and tells of them in order.
pub(super) async fn examine(
    sheet: &Sheet,
    client: &Provider,
    handler: &Handler,
    snapshot: &ProviderSnapshot,
) {
    let application = handler.application();
    for (index, grant) in application.client_grants.iter().enumerate() {
        let routes = routes(application, index);
        match ask(client, handler, snapshot, grant).await {
            Some(Ok(())) => sheet.good(
                CHECK,
                format!("the provider gives the application's own token for {routes}"),
            ),
            Some(Err(error)) => sheet.failed(
                CHECK,
                format!("no token of the application's own for {routes}: {error}"),
                "allow the grant `client_credentials`, and the scopes and the API of the route's \
                 `token.client_credentials`, for this client at the provider",
            ),
            None => sheet.failed(
                CHECK,
                format!("the token endpoint did not answer in time about {routes}"),
                "the provider, or what is in front of it, is broken or busy: see its log, and try again",
            ),
        }
    }
}

/// None where it took too long.
async fn ask(
    client: &Provider,
    handler: &Handler,
    snapshot: &ProviderSnapshot,
    grant: &ClientGrant,
) -> Option<Result<(), Error>> {
    let step = handler.client_key().and_then(|key| {
        let mut context = Context {
            provider: snapshot,
            now: SystemClock.now(),
            rng: &mut SystemRng,
        };
        handler.client_token(grant, &key, &mut context)
    });
    match step {
        Ok(step) => {
            let outcome = timeout(QUESTION, client.drive(step)).await.ok()?;
            Some(outcome.map(drop))
        }
        Err(error) => Some(Err(error)),
    }
}

fn routes(application: &Application, grant: usize) -> String {
    let paths: Vec<String> = application
        .routes
        .iter()
        .filter(|route| route.client_grant == Some(grant))
        .map(|route| format!("`{}`", route.prefix.as_str()))
        .collect();
    paths.join(" ")
}

const CHECK: &str = "client credentials";
