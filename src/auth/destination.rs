//! Where a session's model requests go, and with what: the provider that the operator configured, or the ChatGPT backend.

use crate::auth::chatgpt::ChatGptLogin;
use crate::auth::credential::Credential;
use crate::config::Provider;
use crate::config::auth::{AuthMode, AuthSettings, CHATGPT_PROVIDER};
use crate::config::provider::ExtraHeader;
use crate::config::quantity::{BaseUrl, ProviderName};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Destination {
    pub base_url: BaseUrl,
    pub headers: Vec<ExtraHeader>,
    pub credential: Credential,
}

impl Destination {
    pub fn of_provider(provider: &Provider) -> Self {
        Self {
            base_url: provider.base_url.value.clone(),
            headers: provider.headers.iter().map(|header| header.value.clone()).collect(),
            credential: Credential::of(provider),
        }
    }

    /// The backend differs from a provider by its address and the account's headers only; the operator's own headers are
    /// another place's.
    pub fn chatgpt(auth: &AuthSettings, login: ChatGptLogin) -> Self {
        Self {
            base_url: auth.chatgpt_base_url.value.clone(),
            headers: Vec::new(),
            credential: Credential::ChatGpt(login),
        }
    }

    /// All that a session may name.
    pub fn all(
        providers: &BTreeMap<ProviderName, Provider>,
        auth: &AuthSettings,
        login: Option<ChatGptLogin>,
    ) -> BTreeMap<ProviderName, Self> {
        let by_key = |(name, provider): (&ProviderName, &Provider)| (name.clone(), Self::of_provider(provider));
        let mut destinations: BTreeMap<_, _> = providers.iter().map(by_key).collect();
        if auth.mode.value == AuthMode::ChatGpt {
            // Whoever wants the login must not come to the key where there is none.
            destinations.retain(|name, _| name.as_str() != CHATGPT_PROVIDER);
            let name = CHATGPT_PROVIDER.parse().ok();
            destinations.extend(name.zip(login.map(|login| Self::chatgpt(auth, login))));
        }
        destinations
    }
}
