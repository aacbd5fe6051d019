//! `sessions`: what there is of them on disk, and what is done to them.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::{configure, current_dir, output, run, sessions_text, surroundings};
use crate::config::Config;
use crate::plan::identity::ContainerName;
use crate::session::asked::Asked;
use crate::session::bring_back::BringBack;
use crate::session::error::SessionError;
use crate::session::reconcile::{end_container, reconcile};
use crate::session::store::StoreError;
use crate::session::upkeep::{Doing, Upkeep, UpkeepError};
use crate::session::workspace::Applying;
use crate::workspace::apply::Consent;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct SessionsArgs {
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// A session is named by its id, its thread's id, or a beginning of either.
#[derive(Debug, clap::Subcommand)]
pub enum SessionsCommand {
    /// List all sessions, oldest first
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one: what it works on, how it was started, how it ended
    Show {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print what happened in one, oldest first
    Logs {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print what one changed, as a patch that `git apply --binary` takes
    Diff {
        /// The session's or thread's id, or a beginning of it
        session: String,
        /// Only the files, with lines added and removed
        #[arg(long)]
        stat: bool,
        /// Write the patch to this new file
        #[arg(long, value_name = "FILE", conflicts_with = "stat")]
        output: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Bring what one changed to its folder: all of it, or nothing and why not
    Apply {
        /// The session's or thread's id, or a beginning of it
        session: String,
        /// Only say what would be written
        #[arg(long)]
        dry_run: bool,
        /// Refuse unless the patch has this SHA-256, which `diff --json` prints
        #[arg(long, value_name = "SHA256")]
        expect_hash: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Run one more turn of a thread whose container is gone
    Resume {
        /// The session's or thread's id, or a beginning of it
        session: String,
        /// What Codex is to do; `-` reads it from stdin
        prompt: String,
        /// Print one JSON object a line instead
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        launch: Box<LaunchFlags>,
    },
    /// End the container of one that another codex-mcp has; its thread and workspace stay
    Stop {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove sessions for good, with what they changed
    Rm {
        /// The sessions' or threads' ids, or beginnings of them
        #[arg(required = true)]
        sessions: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove ended sessions that are too old or too much (sessions.keep, sessions.keep_size)
    Prune {
        /// Only say which
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub struct Common {
    /// Print JSON instead
    #[arg(long)]
    pub json: bool,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        SessionError::from(error).into()
    }
}

impl From<UpkeepError> for Failure {
    fn from(error: UpkeepError) -> Self {
        SessionError::from(error).into()
    }
}

pub async fn sessions(args: SessionsArgs) -> Exit {
    match args.command {
        SessionsCommand::Resume {
            session,
            prompt,
            json,
            launch,
        } => resume(&session, prompt, *launch, json).await,
        other => output::end(perform(other).await),
    }
}

async fn resume(wanted: &str, prompt: String, launch: LaunchFlags, json: bool) -> Exit {
    let thread = async {
        let config = configure(&launch.config_flags(&current_dir()?))?;
        let found = Upkeep::new(&config)?.show(wanted).await?;
        let record = found
            .record
            .map_err(|flaw| Failure::new(Exit::Internal, flaw.to_string()))?;
        let no_thread = || Failure::new(Exit::Usage, format!("session {} never came to a thread", found.session));
        Ok::<_, Failure>(record.thread.ok_or_else(no_thread)?.id)
    };
    match thread.await {
        Ok(thread) => run::resume(thread, prompt, launch, json).await,
        Err(failure) => run::refused(&failure, json),
    }
}

fn upkeep(common: &Common) -> Result<(Upkeep, Config), Failure> {
    let flags = LaunchFlags {
        config: common.config.clone(),
        ..LaunchFlags::default()
    };
    let config = configure(&flags.config_flags(&current_dir()?))?;
    Ok((Upkeep::new(&config)?, config))
}

fn bring_back(common: &Common) -> Result<BringBack, Failure> {
    let config = upkeep(common)?.1;
    Ok(BringBack::new(Arc::new(config), Arc::new(surroundings()?))?)
}

fn asked(command: &'static str) -> Asked {
    Asked::by_command_line(command, BTreeMap::new())
}

async fn diff(session: &str, stat: bool, file: Option<PathBuf>, common: &Common) -> Result<(), Failure> {
    let bring_back = bring_back(common)?;
    if common.json {
        let changes = bring_back.changes(session, asked("sessions diff")).await?;
        return output::result(&sessions_text::changes_json(&changes));
    }
    if stat {
        let compared = bring_back.compare(session).await?;
        return output::result(&sessions_text::stat(&compared.changes));
    }
    let failed = |error: std::io::Error| Failure::new(Exit::Internal, format!("can't write the patch: {error}"));
    match file {
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).open(&path);
            let refused = |error| Failure::new(Exit::Usage, format!("can't make {}: {error}", path.display()));
            bring_back
                .patch(session, file.map_err(refused)?, asked("sessions diff"))
                .await?;
            Ok(())
        }
        None => {
            let file = tempfile::tempfile().map_err(failed)?;
            let written = file.try_clone().map_err(failed)?;
            bring_back.patch(session, file, asked("sessions diff")).await?;
            output::patch(written)
        }
    }
}

async fn perform(command: SessionsCommand) -> Result<(), Failure> {
    match command {
        SessionsCommand::List { common } => {
            let found = upkeep(&common)?.0.list().await?;
            output::result(&match common.json {
                true => sessions_text::list_json(&found),
                false => sessions_text::table(&found),
            })
        }
        SessionsCommand::Show { session, common } => {
            let found = upkeep(&common)?.0.show(&session).await?;
            output::result(&match common.json {
                true => sessions_text::show_json(&found),
                false => sessions_text::show(&found),
            })
        }
        SessionsCommand::Logs { session, common } => {
            let lines = upkeep(&common)?.0.logs(&session).await?;
            lines.iter().try_for_each(|line| {
                output::result(&match common.json {
                    true => line.to_string(),
                    false => sessions_text::log_line(line),
                })
            })
        }
        SessionsCommand::Diff {
            session,
            stat,
            output: file,
            common,
        } => diff(&session, stat, file, &common).await,
        SessionsCommand::Apply {
            session,
            dry_run,
            expect_hash,
            common,
        } => {
            let applying = Applying {
                consent: Consent::Explicit,
                expect_hash: expect_hash.as_deref(),
            };
            let doing = if dry_run { Doing::Preview } else { Doing::Really };
            let brought = bring_back(&common)?
                .apply(&session, doing, applying, asked("sessions apply"))
                .await?;
            output::result(&sessions_text::brought_back(&brought, common.json))
        }
        SessionsCommand::Stop { session, common } => {
            let stopped = upkeep(&common)?.0.stop(&session).await?;
            output::result(&sessions_text::stopped(stopped, common.json))
        }
        SessionsCommand::Rm { sessions, common } => {
            let (upkeep, config) = upkeep(&common)?;
            let (config, surroundings) = (Arc::new(config), Arc::new(surroundings()?));
            // All of them are known before any of them is gone.
            let mut named = BTreeSet::new();
            for wanted in &sessions {
                named.insert(upkeep.show(wanted).await?.session);
            }
            let mut removed = Vec::new();
            let mut removing = Ok(());
            for session in &named {
                let end = async |name: &ContainerName| end_container(&config, &surroundings, name).await;
                match upkeep.remove(session.as_str(), end).await {
                    Ok(session) => removed.push(session),
                    Err(error) => removing = removing.and(Err(error)),
                }
            }
            output::result(&sessions_text::removed(&removed, common.json))?;
            Ok(removing?)
        }
        SessionsCommand::Prune { dry_run, common } => {
            let (upkeep, config) = upkeep(&common)?;
            if dry_run {
                let removed = upkeep.prunable().await?;
                return output::result(&sessions_text::pruned(&removed, Doing::Preview, common.json));
            }
            let surroundings = Arc::new(surroundings()?);
            let mut reconciled = Ok(());
            let put_in_order = async { reconciled = reconcile(&Arc::new(config), &surroundings).await };
            let removed = upkeep.prune_after(put_in_order).await?;
            output::result(&sessions_text::pruned(&removed, Doing::Really, common.json))?;
            reconciled.map_err(|error| {
                let message = format!("could not put in order what dead servers left: {error}");
                Failure::new((&error).into(), message)
            })
        }
        // It streams, and has exit codes of its own.
        SessionsCommand::Resume { .. } => Ok(()),
    }
}
