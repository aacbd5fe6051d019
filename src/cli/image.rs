//! `image`: build, list or verify the image that sessions run in.

use crate::cli::exit::{Exit, Failure};
use crate::cli::style::{DIM, Line};
use crate::cli::{configure, image_text, output, progress, surroundings};
use crate::config::name::ImageReference;
use crate::config::{Config, ConfigFlags, RuntimeChoice};
use crate::host::HostFacts;
use crate::host::client_environment;
use crate::host::probe::{Probe, probe};
use crate::image::build::{BuildOptions, BuildOutcome, BuiltImage, Rebuild};
use crate::image::recipe::{DEFAULT_BASE, RecipeError};
use crate::image::tools::Tools;
use crate::image::{self, ImageError};
use crate::session::surroundings::Surroundings;
use crate::supervise::spawner::Spawner;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub command: ImageCommand,
    /// Container engine: auto, podman or docker
    #[arg(long, value_name = "ENGINE", global = true)]
    pub runtime: Option<RuntimeChoice>,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Build the image, with Codex fetched as its npm package and checked
    Build(BuildArgs),
    /// List the images that codex-mcp built
    List {
        /// Print JSON, with each image's whole id
        #[arg(long)]
        json: bool,
    },
    /// Run an image once, and check what is in it
    Verify {
        /// The image [default: the configured one]
        reference: Option<ImageReference>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// What to build on: an image of a registry, or `bootstrap` for a Debian made here without any registry
    #[arg(long, value_name = "REF|bootstrap")]
    pub base: Option<String>,
    /// A Debian package to add; may be given several times
    #[arg(long = "package", value_name = "NAME")]
    pub packages: Vec<String>,
    /// Build again, even where an image of the same recipe exists
    #[arg(long)]
    pub rebuild: bool,
}

pub async fn image(args: ImageArgs) -> Exit {
    let flags = ConfigFlags {
        config: args.config,
        runtime: args.runtime,
        ..ConfigFlags::default()
    };
    output::end(match configure(&flags) {
        Ok(config) => perform(args.command, &config).await,
        Err(failure) => Err(failure),
    })
}

async fn perform(command: ImageCommand, config: &Config) -> Result<(), Failure> {
    let surroundings = surroundings()?;
    let host = probe_host(config, &surroundings).await?;
    let cancel = cancelled_by_signals()?;
    let tools = Tools::new(&surroundings.environment, progress::for_stderr(), cancel.clone());
    let performed = match command {
        ImageCommand::Build(args) => build(args, config, &host, tools).await,
        ImageCommand::List { json } => list(json, &host, tools).await,
        ImageCommand::Verify { reference, json } => {
            verify(reference.as_ref().unwrap_or(&config.image.value), json, &host, tools).await
        }
    };
    if cancel.is_cancelled() {
        return Err(Failure::new(
            Exit::Interrupted,
            "interrupted; nothing half-made was left",
        ));
    }
    performed
}

async fn build(args: BuildArgs, config: &Config, host: &HostFacts, tools: Tools) -> Result<(), Failure> {
    let usage = |error: RecipeError| Failure::new(Exit::Usage, error.to_string());
    let base = args.base.as_deref().unwrap_or(DEFAULT_BASE).parse().map_err(usage)?;
    let packages = args
        .packages
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()
        .map_err(usage)?;
    let options = BuildOptions {
        base,
        packages,
        reference: Some(config.image.value.clone()),
        rebuild: if args.rebuild {
            Rebuild::Always
        } else {
            Rebuild::IfChanged
        },
    };
    let built = image::build::build(&options, host, &config.cache_dir.value, &tools).await;
    // Before anything is printed: a progress bar owns the terminal's last line.
    drop(tools);
    let BuiltImage {
        reference,
        id,
        size,
        outcome,
    } = built?;
    let what = match outcome {
        BuildOutcome::Built => "built",
        BuildOutcome::AlreadyThere => "already there, from the same recipe (--rebuild builds it anew)",
    };
    output::comment(&[Line::new(DIM, format!("{reference}: {what}, {} MB", size / 1_000_000))]);
    output::result(&id)
}

async fn list(json: bool, host: &HostFacts, tools: Tools) -> Result<(), Failure> {
    let listed = image::list::list(host, &tools).await;
    drop(tools);
    let images = listed?;
    output::result(&if json {
        image_text::list_json(&images)
    } else {
        image_text::table(&images)
    })
}

async fn verify(reference: &ImageReference, json: bool, host: &HostFacts, tools: Tools) -> Result<(), Failure> {
    let verified = image::verify::verify(reference.as_str(), host, &tools).await;
    drop(tools);
    let verification = verified?;
    output::result(&if json {
        image_text::checks_json(&verification)
    } else {
        image_text::checks(&verification)
    })?;
    if verification.passed() {
        return Ok(());
    }
    let message = format!("{reference} is not fit to run sessions in; build it anew: codex-mcp image build --rebuild");
    Err(Failure::new(Exit::Image, message))
}

async fn probe_host(config: &Config, surroundings: &Surroundings) -> Result<HostFacts, Failure> {
    let engine_trouble = |error: &dyn std::error::Error| Failure::new(Exit::Engine, error.to_string());
    let spawner = Spawner::new().map_err(|error| engine_trouble(&error))?;
    let env = client_environment::of_client(surroundings.environment.clone());
    let with = Probe {
        spawner: &spawner,
        env: &env,
        state_dir: &config.state_dir.value,
        static_binary: &surroundings.executable,
    };
    probe(config.runtime.value, with)
        .await
        .map_err(|error| engine_trouble(&error))
}

/// SIGINT and SIGTERM end what runs, and what is half-made is removed.
fn cancelled_by_signals() -> Result<CancellationToken, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(Exit::Internal, format!("can't listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let cancel = CancellationToken::new();
    let fired = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        fired.cancel();
    });
    Ok(cancel)
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::new(Exit::Image, error.to_string())
    }
}
