//! `token`: who may use the HTTP transport. The token itself is printed once, by `add`, and is nowhere afterwards.

use crate::access::file::Listed;
use crate::access::{TokenStore, TokensError};
use crate::cli::exit::{Exit, Failure};
use crate::cli::style::{DIM, Line};
use crate::cli::table::columns;
use crate::cli::{configure, output};
use crate::config::identity::IdentityName;
use crate::config::moment::rfc3339;
use crate::config::{Config, ConfigFlags};
use crate::session::store::now;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token of that name and print it, once
    Add { name: IdentityName },
    /// List the names of the tokens, and how each begins its digest
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back; a server that runs refuses it from its next request on
    Revoke { name: IdentityName },
}

pub async fn token(args: TokenArgs) -> Exit {
    let flags = ConfigFlags {
        config: args.config,
        ..ConfigFlags::default()
    };
    output::end(match configure(&flags) {
        Ok(config) => in_file(args.command, &config),
        Err(failure) => Err(failure),
    })
}

fn in_file(command: TokenCommand, config: &Config) -> Result<(), Failure> {
    let file = config.http.tokens_file()?.value.clone();
    perform(command, &TokenStore::new(file))
}

fn perform(command: TokenCommand, store: &TokenStore) -> Result<(), Failure> {
    match command {
        TokenCommand::Add { name } => add(&name, store),
        TokenCommand::List { json } => list(json, store),
        TokenCommand::Revoke { name } => Ok(store.revoke(&name)?),
    }
}

fn add(name: &IdentityName, store: &TokenStore) -> Result<(), Failure> {
    let token = store.add(name.clone(), now().0)?;
    let shown = output::shown_once(token.reveal());
    if shown.is_err() {
        // A token that nobody has is of no use to anybody, and in the way of the next try.
        store.revoke(name)?;
    }
    shown?;
    output::comment(&[Line::new(
        DIM,
        format!(
            "this is shown once; clients send it as `Authorization: Bearer …`. Take it back: codex-mcp token revoke {name}"
        ),
    )]);
    Ok(())
}

fn list(json: bool, store: &TokenStore) -> Result<(), Failure> {
    let list = store.read()?.map(|(_, list)| list);
    let tokens = list.as_ref().map_or(&[][..], |list| list.tokens());
    let text = match json {
        true => {
            let row =
                |token: &Listed| json!({"name": token.name, "sha256": token.sha256, "created": rfc3339(token.created)});
            format!("{:#}", json!(tokens.iter().map(row).collect::<Vec<_>>()))
        }
        false if tokens.is_empty() => nothing(list.is_some()).to_owned(),
        false => table(tokens),
    };
    output::result(&text)
}

fn nothing(is_there: bool) -> &'static str {
    match is_there {
        true => "no token is left: nobody is served over HTTP. Add one: codex-mcp token add NAME",
        false => "no token yet: on loopback everybody is served over HTTP. Add one: codex-mcp token add NAME",
    }
}

fn table(tokens: &[Listed]) -> String {
    let heading = ["NAME", "SHA-256", "CREATED"].map(str::to_owned);
    let rows = tokens
        .iter()
        .map(|token| [token.name.to_string(), token.sha256.to_string(), rfc3339(token.created)]);
    columns(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Self {
        let exit = match error {
            TokensError::Taken(_) | TokensError::Unknown(_) => Exit::Usage,
            TokensError::Random(_) | TokensError::Busy { .. } => Exit::Internal,
            TokensError::Io { .. }
            | TokensError::TooLong { .. }
            | TokensError::Damaged { .. }
            | TokensError::Writable { .. }
            | TokensError::NotOurs { .. } => Exit::Configuration,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_names_and_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path().join("t"));
        let token = store.add("ci".parse().unwrap(), 0).unwrap();
        let (_, list) = store.read().unwrap().unwrap();
        let table = table(list.tokens());
        assert!(table.starts_with("NAME  SHA-256       CREATED\nci    "), "{table}");
        assert!(table.ends_with("1970-01-01T00:00:00Z") && !table.contains(token.reveal()));
    }
}
