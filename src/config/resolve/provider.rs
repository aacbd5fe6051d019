//! `[providers.NAME]`: layers → settings, and the sources of secrets.

use super::{Stack, bad_value};
use crate::config::error::{BadValue, ConfigError};
use crate::config::interpolate::is_variable_name;
use crate::config::layer::{FileLayer, KeyValues, ProviderValues};
use crate::config::origin::{Origin, Sourced};
use crate::config::provider::{ExtraHeader, HeaderError, KeyHeader, Provider};
use crate::config::quantity::{BaseUrl, ProviderName};
use crate::config::secret_source::SecretSource;
use std::collections::BTreeMap;
use std::str::FromStr;

impl Stack<'_> {
    /// Tables of one name are merged key by key, but that key and headers belong to the address they were written beside:
    /// a layer that moves a provider elsewhere must not take a weaker layer's credential there without saying so.
    pub(super) fn providers(&self) -> Result<BTreeMap<ProviderName, Provider>, ConfigError> {
        let mut merged: BTreeMap<ProviderName, Provider> = BTreeMap::new();
        for file in self.files {
            for (written_name, table) in &file.values.providers {
                let section = format!("providers.{}", written_name.get_ref());
                let name: ProviderName =
                    (written_name.get_ref().parse()).map_err(|error: <ProviderName as FromStr>::Err| {
                        bad_value(file, &section, written_name.span(), error)
                    })?;
                let base_url = base_url(file, table, &section)?;
                let key = self.key(file, table, &section)?;
                let key_header = key_header(file, table, &section)?;
                let headers = headers(file, table, &section)?;
                match (base_url, merged.get_mut(&name)) {
                    (Some(base_url), _) => {
                        let provider = Provider {
                            base_url,
                            key,
                            key_header: key_header.unwrap_or(Sourced::new(KeyHeader::Bearer, Origin::Default)),
                            headers: headers.unwrap_or_default(),
                        };
                        merged.insert(name, provider);
                    }
                    (None, Some(provider)) => {
                        provider.key = key.or_else(|| provider.key.take());
                        if let Some(key_header) = key_header {
                            provider.key_header = key_header;
                        }
                        if let Some(headers) = headers {
                            provider.headers = headers;
                        }
                    }
                    (None, None) => {
                        return Err(ConfigError::Missing {
                            key: format!("{section}.base_url"),
                        });
                    }
                }
            }
        }
        Ok(merged)
    }

    fn key(
        &self,
        file: &FileLayer,
        table: &ProviderValues,
        section: &str,
    ) -> Result<Option<Sourced<SecretSource>>, ConfigError> {
        let Some(key) = &table.key else { return Ok(None) };
        let source = self
            .secret_source(key.get_ref())
            .map_err(|reason| ConfigError::BadValue {
                at: file.origin(key.span()),
                key: format!("{section}.key"),
                written: None,
                reason,
            })?;
        Ok(Some(Sourced::new(source, file.origin(key.span()))))
    }

    pub(super) fn secret_source(&self, key: &KeyValues) -> Result<SecretSource, BadValue> {
        match key {
            KeyValues {
                env: Some(name),
                file: None,
                command: None,
            } => is_variable_name(name)
                .then(|| SecretSource::Env(name.clone()))
                .ok_or(BadValue::NotAVariable),
            KeyValues {
                env: None,
                file: Some(path),
                command: None,
            } => self.path(path).map(SecretSource::File),
            KeyValues {
                env: None,
                file: None,
                command: Some(argv),
            } => {
                let program_named = argv.first().is_some_and(|program| !program.is_empty());
                let fits = program_named && !argv.iter().any(|word| word.contains('\0'));
                fits.then(|| SecretSource::Command(argv.clone()))
                    .ok_or(BadValue::NotACommand)
            }
            _ => Err(BadValue::KeySource),
        }
    }
}

fn base_url(file: &FileLayer, table: &ProviderValues, section: &str) -> Result<Option<Sourced<BaseUrl>>, ConfigError> {
    let Some(url) = &table.base_url else { return Ok(None) };
    let parsed: Result<BaseUrl, _> = url.get_ref().parse();
    let value = parsed.map_err(|error| ConfigError::BadValue {
        at: file.origin(url.span()),
        key: format!("{section}.base_url"),
        written: None,
        reason: error.into(),
    })?;
    Ok(Some(Sourced::new(value, file.origin(url.span()))))
}

fn key_header(
    file: &FileLayer,
    table: &ProviderValues,
    section: &str,
) -> Result<Option<Sourced<KeyHeader>>, ConfigError> {
    let Some(written) = &table.key_header else {
        return Ok(None);
    };
    let header: Result<KeyHeader, HeaderError> = written.get_ref().parse();
    let header = header.map_err(|error| bad_value(file, &format!("{section}.key_header"), written.span(), error))?;
    Ok(Some(Sourced::new(header, file.origin(written.span()))))
}

/// The table as a whole is one layer's.
fn headers(
    file: &FileLayer,
    table: &ProviderValues,
    section: &str,
) -> Result<Option<Vec<Sourced<ExtraHeader>>>, ConfigError> {
    let Some(written) = &table.headers else {
        return Ok(None);
    };
    let header = |(name, value): (&toml::Spanned<String>, &toml::Spanned<String>)| {
        let at = file.origin(value.span());
        let parsed = ExtraHeader::parse(name.get_ref(), value.get_ref()).map_err(|error| ConfigError::BadValue {
            at: at.clone(),
            key: format!("{section}.headers.{}", name.get_ref()),
            written: None,
            reason: error.into(),
        })?;
        Ok(Sourced::new(parsed, at))
    };
    written.iter().map(header).collect::<Result<_, _>>().map(Some)
}
