//! The operator's own proxy: `network.proxy` and what stands beside it, else what this process's environment names.

use super::{Stack, needed};
use crate::config::error::{BadValue, ConfigError};
use crate::config::key;
use crate::config::network::{OutgoingProxy, ProxyAddress, ProxyCredentials, ProxyException, Resolution};
use crate::config::origin::Origin;
use crate::config::proxy::{self, ProxyError, ProxySetting, UserInformation};
use crate::config::{SecretSource, Sourced};

/// The table that the three registered keys stand in.
const CREDENTIALS: &str = "network.proxy_credentials";

/// What the files come to.
enum Configured {
    Nothing,
    /// `network.proxy = "none"`.
    Off,
    Proxy(Chosen),
}

struct Chosen {
    address: Sourced<ProxyAddress>,
    credentials: Option<Sourced<ProxyCredentials>>,
}

impl Stack<'_> {
    pub(super) fn proxy(&self) -> Result<Option<OutgoingProxy>, ConfigError> {
        let listed = self.list_if_set(key::NETWORK_NO_PROXY, |v| v.no_proxy.as_ref(), |text| Ok(text.parse()?))?;
        let listed: Option<Vec<ProxyException>> =
            listed.map(|items| items.into_iter().map(|item| item.value).collect());
        let resolution = self.resolution()?;
        let (chosen, exceptions) = match self.configured_proxy()? {
            Configured::Off => return Ok(None),
            Configured::Proxy(chosen) => (chosen, listed.unwrap_or_default()),
            Configured::Nothing => match self.environments_proxy()? {
                None => return Ok(None),
                Some(chosen) => match listed {
                    Some(listed) => (chosen, listed),
                    None => (chosen, self.environments_exceptions()?),
                },
            },
        };
        Ok(Some(OutgoingProxy {
            address: chosen.address,
            credentials: chosen.credentials,
            exceptions,
            resolution,
        }))
    }

    /// As with a provider's key: credentials belong to the address they are written beside, and a layer that names another
    /// proxy does not send a weaker layer's credentials there.
    fn configured_proxy(&self) -> Result<Configured, ConfigError> {
        let mut configured = Configured::Nothing;
        for file in self.files {
            let values = &file.values.network;
            let credentials = match &values.proxy_credentials {
                None => None,
                Some(written) => {
                    let at = file.origin(written.span());
                    let source = self
                        .secret_source(written.get_ref())
                        .map_err(|reason| refused(&at, CREDENTIALS, reason))?;
                    Some(Sourced::new(source, at))
                }
            };
            if let Some(written) = &values.proxy {
                let at = file.origin(written.span());
                let setting = written.get_ref().parse();
                let setting =
                    setting.map_err(|error: ProxyError| refused(&at, key::NETWORK_PROXY.name, error.into()))?;
                configured = match setting {
                    ProxySetting::Off => Configured::Off,
                    ProxySetting::At(address) => Configured::Proxy(Chosen {
                        address: Sourced::new(address, at),
                        credentials: None,
                    }),
                };
            }
            match (credentials, &mut configured) {
                (None, _) => {}
                (Some(source), Configured::Proxy(chosen)) => chosen.credentials = Some(as_secret(source)),
                (Some(source), _) => {
                    return Err(refused(&source.origin, CREDENTIALS, BadValue::CredentialsWithoutProxy));
                }
            }
        }
        Ok(configured)
    }

    fn resolution(&self) -> Result<Resolution, ConfigError> {
        let key = key::NETWORK_PROXY_RESOLVES;
        let by_proxy = needed(key, self.value(key, |v| v.network.proxy_resolves.as_ref(), None)?)?;
        Ok(match by_proxy.value {
            true => Resolution::ByProxy,
            false => Resolution::Here,
        })
    }

    fn environments_proxy(&self) -> Result<Option<Chosen>, ConfigError> {
        let Some((variable, text)) = self.first_variable(&proxy::VARIABLES)? else {
            return Ok(None);
        };
        let origin = Origin::Environment { name: variable };
        let (address, held) =
            proxy::of_variable(text).map_err(|reason| ConfigError::ProxyVariable { variable, reason })?;
        Ok(Some(Chosen {
            address: Sourced::new(address, origin.clone()),
            credentials: match held {
                UserInformation::Present => Some(Sourced::new(ProxyCredentials::InVariable(variable), origin)),
                UserInformation::Absent => None,
            },
        }))
    }

    fn environments_exceptions(&self) -> Result<Vec<ProxyException>, ConfigError> {
        let listed = self.first_variable(&proxy::EXCEPTION_VARIABLES)?;
        Ok(listed
            .map(|(_, text)| proxy::exceptions_of_variable(text))
            .unwrap_or_default())
    }

    fn first_variable(&self, names: &[&'static str]) -> Result<Option<(&'static str, &str)>, ConfigError> {
        for &name in names {
            if let Some(text) = self.environment.text(name)? {
                return Ok(Some((name, text)));
            }
        }
        Ok(None)
    }
}

fn as_secret(source: Sourced<SecretSource>) -> Sourced<ProxyCredentials> {
    Sourced::new(ProxyCredentials::Secret(source.value), source.origin)
}

/// Shows nothing of what was written: people put passwords there.
fn refused(at: &Origin, key: &str, reason: BadValue) -> ConfigError {
    ConfigError::BadValue {
        at: at.clone(),
        key: key.to_owned(),
        written: None,
        reason,
    }
}

#[cfg(test)]
mod tests;
