//! `serve`: the MCP server on this process's stdin and stdout.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::{configure, current_dir, output, surroundings};
use crate::mcp;
use crate::session::registry::Sessions;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub launch: LaunchFlags,
}

pub async fn serve(args: ServeArgs) -> Exit {
    output::end(until_ended(&args).await)
}

async fn until_ended(args: &ServeArgs) -> Result<(), Failure> {
    let config = configure(&args.launch.config_flags(&current_dir()?))?;
    let config = Arc::new(config);
    let sessions = Sessions::new(Arc::clone(&config), Arc::new(surroundings()?));
    mcp::serve_stdio(sessions, &config.mcp)
        .await
        .map_err(|error| Failure::new(Exit::Internal, error.to_string()))
}
