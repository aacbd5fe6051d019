//! `serve`: the MCP server, for one client on this process's stdin and stdout, or for several over HTTP.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::style::{DIM, Line};
use crate::cli::{configure, current_dir, output, surroundings};
use crate::config::http::ListenAddress;
use crate::config::{Config, ConfigFlags};
use crate::mcp::{self, HttpError};
use crate::session::registry::Sessions;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// How clients reach the server
    #[arg(long, value_name = "TRANSPORT", default_value = "stdio")]
    pub transport: Transport,
    /// With `--transport http`: the address and port to listen at
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<ListenAddress>,
    #[command(flatten)]
    pub launch: LaunchFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// The one client that starts this process
    Stdio,
    /// Streamable HTTP, for several clients
    Http,
}

pub async fn serve(args: ServeArgs) -> Exit {
    output::end(until_ended(&args).await)
}

async fn until_ended(args: &ServeArgs) -> Result<(), Failure> {
    if args.transport == Transport::Stdio && args.listen.is_some() {
        let message = "--listen is for HTTP: add --transport http, or leave it out";
        return Err(Failure::new(Exit::Usage, message));
    }
    let config = Arc::new(configure(&config_flags(args)?)?);
    let sessions = Sessions::new(Arc::clone(&config), Arc::new(surroundings()?));
    match args.transport {
        Transport::Stdio => mcp::serve_stdio(sessions, &config.mcp)
            .await
            .map_err(|error| Failure::new(Exit::Internal, error.to_string())),
        Transport::Http => over_http(sessions, &config).await,
    }
}

fn config_flags(args: &ServeArgs) -> Result<ConfigFlags, Failure> {
    Ok(ConfigFlags {
        listen: args.listen,
        ..args.launch.config_flags(&current_dir()?)
    })
}

async fn over_http(sessions: Sessions, config: &Config) -> Result<(), Failure> {
    let listening = |address| {
        let line = format!("serving MCP at http://{address}{}", mcp::http::serving::ENDPOINT);
        output::comment(&[Line::new(DIM, line)]);
    };
    mcp::serve_http(sessions, &config.http, &config.mcp, listening)
        .await
        .map_err(|error| {
            let exit = match &error {
                HttpError::Configuration(_)
                | HttpError::Tokens(_)
                | HttpError::Exposed(_)
                | HttpError::Listen { .. } => Exit::Configuration,
                HttpError::Signals(_) | HttpError::NoRandom(_) => Exit::Internal,
            };
            Failure::new(exit, error.to_string())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Parser {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn parse(words: &[&str]) -> Result<ServeArgs, clap::Error> {
        use clap::Parser as _;
        Parser::try_parse_from([&["x"], words].concat()).map(|parser| parser.args)
    }

    #[test]
    fn stdio_is_the_default_and_an_address_is_checked() {
        assert_eq!(parse(&[]).unwrap().transport, Transport::Stdio);
        let args = parse(&["--transport", "http", "--listen", "127.0.0.1:1"]).unwrap();
        assert_eq!(args.transport, Transport::Http);
        let listen = config_flags(&args).unwrap().listen;
        assert_eq!(listen.unwrap().to_string(), "127.0.0.1:1");
        let error = parse(&["--listen", "localhost"]).unwrap_err().to_string();
        assert!(error.contains("such as `127.0.0.1:8931`"), "{error}");
    }
}
