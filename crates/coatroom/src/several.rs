//! Several providers of one application: an agent for each, and which of them a call is for.
//!
//! Agents of one application share its cookies, keys, routes, store and limits; provider, refreshes under
//! way and their memory are each agent's own. What the core says chooses: the path that a provider
//! calls, the name that a sign-in asks for, the name under the seal of a session, a sign-in or a
//! sign-out. Never another provider than that, and nothing here is proof of anything: the chosen agent
//! checks all of it.

use std::sync::Arc;

use coatroom_core::config::{Application, Provider, ProviderName};
use coatroom_core::error::Error;
use coatroom_core::flow::{Input, Lookup, Revocation, Seen, StoreView, StoredSession};
use coatroom_core::handler::Handler;
use coatroom_core::route::Endpoint;
use coatroom_core::seal::KeyRing;
use coatroom_core::store::Record;

use crate::agent::AgentCall;
use crate::clock::Clock;
use crate::handler::{Agent, App, BuildError, Shared};

/// The agents of an application, one for each provider, and the position of the default one. `before` is
/// what was served until now.
pub(crate) fn agents(
    index: usize,
    application: &Arc<Application>,
    keys: &Arc<KeyRing>,
    memory_keys: &Arc<KeyRing>,
    before: Option<&Shared>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<Agent>>, BuildError> {
    let handlers: Vec<Handler> = match application.names_providers() {
        false => vec![Handler::new(Arc::clone(application), Arc::clone(keys))?],
        true => {
            let names = application
                .providers
                .iter()
                .filter_map(|provider| provider.name.as_ref());
            names
                .map(|name| Handler::for_provider(Arc::clone(application), name, Arc::clone(keys)))
                .collect::<Result<_, _>>()?
        }
    };
    let agents = handlers.into_iter().map(|handler| {
        let known = before.and_then(|before| before.predecessor(application, handler.provider()));
        let handler = handler.with_memory_keys(Arc::clone(memory_keys));
        Ok(Arc::new(Agent::new(index, handler, known, clock)?))
    });
    agents.collect()
}

/// The agent of the default provider.
pub(crate) fn default_of(application: &Application, agents: &[Arc<Agent>]) -> Result<Arc<Agent>, BuildError> {
    let is_it = |agent: &&Arc<Agent>| {
        let default = application.provider.as_ref();
        default.is_some_and(|default| Arc::ptr_eq(default, agent.handler.provider()))
    };
    let default = agents.iter().find(is_it).cloned();
    Ok(default.ok_or(Error::Bug("the default provider has no agent"))?)
}

impl App {
    /// The agent of a provider: of the one that this name means, and of no other.
    pub(crate) fn agent_of(&self, provider: Option<&ProviderName>) -> Option<&Arc<Agent>> {
        let mut agents = self.agents.iter();
        agents.find(|agent| agent.handler.provider().name.as_ref() == provider)
    }

    /// The agent whose session a record is, and the session.
    pub(crate) fn agent_of_record(
        &self,
        lookup: &Lookup,
        record: &Record,
    ) -> Option<(&Arc<Agent>, StoredSession)> {
        self.agents
            .iter()
            .find_map(|agent| Some((agent, agent.handler.stored(lookup, record)?)))
    }

    /// Whether the session of a record has a provider here. Where providers have no names, or this process
    /// only forwards, nobody asks.
    pub(crate) fn has_provider_of(&self, lookup: &Lookup, record: &Record) -> bool {
        let Some(agent) = self.agents.first() else {
            return true;
        };
        !self.application().names_providers() || agent.handler.stored_anywhere(lookup, record).is_some()
    }

    /// Which agent a call is for. `default` is that of the default provider.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] where a sign-in asks for a provider that there is not, or cannot be read.
    pub(crate) fn choose(
        &self,
        default: &Arc<Agent>,
        call: &AgentCall,
        view: &StoreView,
        shared: &Shared,
    ) -> Result<Arc<Agent>, Error> {
        if !self.application().names_providers() {
            return Ok(Arc::clone(default));
        }
        let (handler, now) = (&default.handler, shared.clock.now());
        let of_session = || {
            // a foreign site's navigation shows no session; a sign-out link proves which it means
            let foreign = call.endpoint != Endpoint::LogoutLink
                && call.navigation.is_some_and(|call| call.cross_site_or_unlabelled);
            let seen = Seen::with(&call.headers, view);
            match foreign {
                true => None,
                false => handler.provider_of_session(seen, now),
            }
        };
        let name = match call.endpoint {
            Endpoint::Callback
            | Endpoint::FormPost
            | Endpoint::BackchannelLogout
            | Endpoint::FrontchannelLogout => {
                let agent = self.agent_of(Some(call.provider.as_ref().ok_or(Error::NotFound)?));
                return agent.cloned().ok_or(Error::NotFound);
            }
            Endpoint::LoginStart => handler
                .requested_provider(&call.input()?, None)?
                .or_else(of_session),
            Endpoint::Login => {
                let input = Input::form(call.query.as_bytes())?;
                handler
                    .requested_provider(&input, call.navigation)?
                    .or_else(of_session)
            }
            Endpoint::LoginEnd => {
                let input = call.input()?;
                handler
                    .provider_of_sign_in(&call.headers, &input)
                    .or_else(of_session)
            }
            Endpoint::LogoutContinue | Endpoint::LogoutCallback => {
                handler.provider_of_logout(&call.headers, now)
            }
            Endpoint::Session
            | Endpoint::Refresh
            | Endpoint::Logout
            | Endpoint::Sessions
            | Endpoint::SessionEnd
            | Endpoint::User
            | Endpoint::LogoutLink => of_session(),
        };
        // what names a provider that is gone is ended by whoever sees it
        let agent = name.and_then(|name| self.agent_of(Some(&name)).cloned());
        Ok(agent.unwrap_or_else(|| Arc::clone(default)))
    }
}

impl Shared {
    /// The agent whose knowledge that of a provider takes over: the one of its name, or the same client of
    /// the same provider where providers were given names, or lost them. Refresh tokens that it redeemed
    /// are still in cookies then.
    fn predecessor(&self, application: &Application, provider: &Provider) -> Option<&Agent> {
        let mut apps = self.apps.iter();
        let app = apps.find(|app| app.application().id == application.id)?;
        let known = app.agent_of(provider.name.as_ref()).or_else(|| {
            let mut agents = app.agents.iter();
            agents.find(|agent| {
                let known = agent.handler.provider();
                (known.name.is_none() || provider.name.is_none())
                    && (&known.issuer, &known.client_id) == (&provider.issuer, &provider.client_id)
            })
        });
        known.map(Arc::as_ref)
    }

    /// The agent that may revoke a token: that of the provider which issued it. `agent` is one of the
    /// same application.
    pub(crate) fn revoker<'a>(
        &'a self,
        agent: &'a Arc<Agent>,
        revocation: &Revocation,
    ) -> Option<&'a Arc<Agent>> {
        let issued_by = revocation.issued_by();
        if agent.handler.provider().name.as_ref() == issued_by {
            return Some(agent);
        }
        let app = self.apps.get(agent.index);
        app.and_then(|app| app.agent_of(issued_by))
    }
}

impl Agent {
    /// What it is called where an application may have several: the application's id, and the provider's
    /// name where it has one.
    pub(crate) fn label(&self) -> String {
        match &self.handler.provider().name {
            None => self.id().to_owned(),
            Some(name) => format!("{}/{}", self.id(), name.as_str()),
        }
    }
}
