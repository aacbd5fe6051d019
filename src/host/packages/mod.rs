//! Which hosts this machine's package clients are configured for (`network.from`): asked of the clients themselves, because
//! only they know their default index and where its downloads come from. No host is ever written down here.
//!
//! Each client is asked about its configuration, and watched while it fetches one small package ([`recorder`]): what it
//! connects to then is what it needs in a session too. It must never take a project's configuration for the user's, run a
//! package's code, or keep a password.
//!
//! - [`client_run`]: starts a client in an empty directory. [`environment`]: what it sees of ours.
//! - [`cargo`], [`npm`], [`pip`], [`go`]: what is asked of each, and how its answer is read.
//! - [`mirror`]: hosts and URLs. [`recorder`]: the proxy that writes down hosts.
//! - [`cache`]: what was found out, kept for a day. [`error`]: why it could not be.

mod cache;
mod cargo;
mod client_run;
mod environment;
mod error;
mod go;
mod mirror;
mod npm;
mod pip;
mod recorder;

pub use error::PackagesError;

use crate::config::network::PackageClient;
use crate::config::rule::Rule;
use crate::config::target::Target;
use crate::dial::Dialer;
use crate::supervise::environment::Environment;
use cache::{Key, Memory};
use client_run::Asking;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// What one client said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageSource {
    pub client: PackageClient,
    /// The program that was asked.
    pub program: PathBuf,
    /// The hosts that it talked to or is configured for.
    pub rules: Vec<Rule>,
    /// What makes the same client inside use the same mirrors: variables of commands. No credentials.
    pub environment: BTreeMap<String, String>,
    /// Cargo takes mirrors from a file only: `/.cargo/config.toml` inside.
    pub cargo_config: Option<String>,
}

/// What clients are asked with.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// This process's own. Clients are looked for on its `PATH`, and see a part of it.
    pub environment: &'a BTreeMap<OsString, OsString>,
    /// Answers are kept below, and clients asked in directories of their own there.
    pub cache_dir: &'a Path,
    /// How the relay of sessions connects, and therefore how a client is connected while it is watched.
    pub dialer: &'a Dialer,
}

/// One at a time: whoever asks second finds what the first one remembered.
static TURN: Mutex<()> = Mutex::const_new(());

/// Asks all of `clients`, each once and at the same time; at most a few seconds, and a few milliseconds where the answers
/// are remembered. In the order of `clients`.
///
/// # Errors
///
/// The first client's that is missing or could not be asked. What the others said is remembered nevertheless.
pub async fn ask(clients: &[PackageClient], with: Ask<'_>) -> Result<Vec<PackageSource>, PackagesError> {
    if clients.is_empty() {
        return Ok(Vec::new());
    }
    let _turn = TURN.lock().await;
    let memory = Memory::open(with.cache_dir)?;
    client_run::sweep(memory.directory());
    let mut seen = BTreeSet::new();
    let each = clients.iter().filter(|client| seen.insert(**client));
    let asked = each.map(|client| source(*client, with, &memory));
    futures_util::future::join_all(asked).await.into_iter().collect()
}

async fn source(client: PackageClient, with: Ask<'_>, memory: &Memory) -> Result<PackageSource, PackagesError> {
    let environment = environment::of_client(client, with.environment);
    let program = program(client, &environment).ok_or(PackagesError::Missing { client })?;
    let key = Key::new(client, &program, &environment);
    if let Some(source) = memory.recall(client, &program, &key) {
        return Ok(source);
    }
    let asking = Asking::new(client, &program, &environment, with.dialer, memory.directory())?;
    let answer = answer(&asking).await?;
    if answer.targets.is_empty() {
        return Err(PackagesError::NoHosts { client });
    }
    let files = answer.files.clone();
    let source = answer.into_source(client, program);
    if let Err(error) = memory.remember(&source, key, files) {
        tracing::warn!(%error, client = client.as_str(), "what a package client said can't be kept; it is asked again next time");
    }
    Ok(source)
}

async fn answer(asking: &Asking<'_>) -> Result<Answer, PackagesError> {
    match asking.client {
        PackageClient::Cargo => cargo::ask(asking).await,
        PackageClient::Npm => npm::ask(asking).await,
        PackageClient::Pip => pip::ask(asking).await,
        PackageClient::Go => go::ask(asking).await,
    }
}

/// What was found out about a client.
#[derive(Debug, Default)]
struct Answer {
    targets: BTreeSet<Target>,
    environment: BTreeMap<String, String>,
    cargo_config: Option<String>,
    /// What its configuration was read from, whether it is there or not: the answer holds for as long as these do.
    files: Vec<PathBuf>,
}

impl Answer {
    fn of(targets: BTreeSet<Target>) -> Self {
        Self {
            targets,
            ..Self::default()
        }
    }

    fn into_source(self, client: PackageClient, program: PathBuf) -> PackageSource {
        PackageSource {
            client,
            program,
            rules: self.targets.iter().map(Rule::from).collect(),
            environment: self.environment,
            cargo_config: self.cargo_config,
        }
    }
}

/// Whether `name` is a variable that a source of this client may set for commands.
fn may_set(client: PackageClient, name: &str) -> bool {
    match client {
        PackageClient::Cargo => cargo::sets_an_index(name),
        PackageClient::Npm => npm::sets_a_registry(name),
        PackageClient::Pip => pip::sets_a_source(name),
        PackageClient::Go => go::sets_a_proxy(name),
    }
}

/// The first one on PATH. Relative entries are not followed: what lies in the current folder may be anybody's.
fn program(client: PackageClient, environment: &Environment) -> Option<PathBuf> {
    let names: &[&str] = match client {
        PackageClient::Cargo => &["cargo"],
        PackageClient::Npm => &["npm"],
        PackageClient::Pip => &["pip", "pip3"],
        PackageClient::Go => &["go"],
    };
    let entries = std::env::split_paths(environment.get("PATH")?);
    let absolute = std::env::join_paths(entries.filter(|entry| entry.is_absolute())).ok()?;
    names
        .iter()
        .find_map(|name| which::which_in(name, Some(&absolute), "/").ok())
}

#[cfg(test)]
mod tests;
