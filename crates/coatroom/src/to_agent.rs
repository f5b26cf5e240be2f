//! From a request at an endpoint of the agent to the agent's own task.
//!
//! Behind the guard and the rate limits only; what the body is, and who reads the answer, is settled here.
//! The task runs to its end on the control runtime, and is counted, whatever becomes of the client.

use std::sync::Arc;

use bytes::Bytes;
use coatroom_core::config::{Origin, ProviderName};
use coatroom_core::error::Error;
use coatroom_core::guard::{self, Class, Navigation};
use coatroom_core::route::{Endpoint, Resolved};
use coatroom_core::session::metadata::PublicSessionId;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};

use crate::agent::{self, AgentCall};
use crate::api::{Exchange, Passage, head};
use crate::handler::{Agent, App};
use crate::respond::Reader;

/// What the path of an agent request names.
pub(crate) struct Named {
    pub(crate) session: Option<PublicSessionId>,
    pub(crate) provider: Option<ProviderName>,
}

/// Has the agent answer a request that is for it.
pub(crate) fn to_agent<B>(
    agent: Arc<Agent>,
    app: &Arc<App>,
    (endpoint, named): (Endpoint, Named),
    query: String,
    parts: Parts,
    body: B,
    exchange: Exchange,
) -> Passage<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let class = Class::of(&Resolved::Agent(endpoint));
    let reader = match class {
        Class::Navigation | Class::FormPost => Reader::Person,
        Class::Fetch | Class::ProxiedFetch { .. } | Class::Provider | Class::ProxiedNone | Class::None => {
            Reader::Script
        }
    };
    let application = Arc::clone(agent.handler.application());
    let (origin, navigation): (Option<Origin>, Option<Navigation>) =
        match guard::trust(class, &head(&parts), &application) {
            Ok(trusted) => (trusted.origin().cloned(), trusted.navigation()),
            Err(error) => {
                exchange.count_agent(endpoint, Some(&error));
                return Passage::Answer(exchange.refuse(&error, reader));
            }
        };
    // behind the guard: no other site can use up a user's requests
    let shared = &exchange.snapshot.shared;
    let within = exchange.snapshot.client(&parts).and_then(|client| {
        let session = || agent.handler.shown_session(&parts.headers);
        let (limits, now) = (&app.rate_limits, shared.clock.elapsed());
        limits.check_agent(&application, endpoint, &client, &shared.peers, session, now)
    });
    if let Err(error) = within {
        exchange.count_agent(endpoint, Some(&error));
        return Passage::Answer(exchange.refuse(&error, reader));
    }
    let exchange = Arc::new(exchange);
    let app = Arc::clone(app);
    Passage::Agent(Box::pin(async move {
        let body = match read(body).await {
            Ok(body) => body,
            Err(error) => return exchange.answer(endpoint, Err(error.into()), reader),
        };
        let headers = parts.headers;
        let call = AgentCall {
            endpoint,
            headers,
            query,
            body,
            origin,
            navigation,
            session: named.session,
            provider: named.provider,
        };
        // a task of its own: it runs to its end, and is counted, even if the client hangs up
        let shared = Arc::clone(&exchange.snapshot.shared);
        let task = {
            let exchange = Arc::clone(&exchange);
            async move {
                let outcome = agent::serve(Arc::clone(&exchange.snapshot.shared), app, agent, call).await;
                exchange.answer(endpoint, outcome, reader)
            }
        };
        match shared.control.spawn(task).await {
            Ok(response) => response,
            Err(_) => exchange.answer(
                endpoint,
                Err(Error::Bug("the agent's task ended early").into()),
                reader,
            ),
        }
    }))
}

/// The agent's bodies are small; a slow one may not hold a place for ever.
async fn read<B>(body: B) -> Result<Bytes, Error>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::InvalidRequest("the body is longer than 64 kib"))
        }
        Ok(Err(_)) => Err(Error::InvalidRequest("the request body broke off")),
        Err(_) => Err(Error::InvalidRequest("the request body did not arrive in time")),
    }
}

/// The longest body of an agent call, in bytes: an authorization response fits many times.
const MAX_BODY: usize = 64 * 1024;

/// How long that body may take.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
