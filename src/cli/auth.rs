//! `auth status`: shows login or key, and the models that they give, before the first session needs them.

use crate::cli::exit::{Exit, Failure};
use crate::cli::{auth_text, configure, output, surroundings};
use crate::config::ConfigFlags;
use crate::config::quantity::ProviderName;
use crate::session::sign_in;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct AuthArgs {
    #[command(subcommand)]
    pub command: AuthCommand,
}

#[derive(Debug, clap::Subcommand)]
pub enum AuthCommand {
    /// Show how the model's provider is signed in to, and ask it for its models
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Name of a [providers.NAME] table
    #[arg(long, value_name = "NAME")]
    pub provider: Option<ProviderName>,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

pub async fn auth(args: AuthArgs) -> Exit {
    let AuthCommand::Status(args) = args.command;
    output::end(status(args).await)
}

async fn status(args: StatusArgs) -> Result<(), Failure> {
    let flags = ConfigFlags {
        config: args.config,
        provider: args.provider,
        ..ConfigFlags::default()
    };
    let config = configure(&flags)?;
    let sign_in = sign_in::look(&config, Arc::new(surroundings()?)).await;
    output::result(&match args.json {
        true => auth_text::json(&sign_in),
        false => auth_text::human(&sign_in),
    })?;
    match sign_in.works() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Provider,
            "the provider would not answer a session; what to do is said above",
        )),
    }
}
