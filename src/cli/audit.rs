//! `audit`: shows what was recorded, or checks that all of it is still there.

use crate::audit::Anchor;
use crate::audit::files;
use crate::audit::reader::{self, Line as StoredLine};
use crate::audit::verify::{Unreadable, verify};
use crate::cli::audit_text::{self, Wanted};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{configure, output};
use crate::config::ConfigFlags;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: AuditCommand,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Print the records, oldest server first
    Show {
        /// Only those of this session, or of this thread's
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Print each record as it is stored, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check that no record was changed, taken out or put in, and print each chain's anchor
    Verify {
        /// An anchor that was printed before: all up to it must still be there; may be given several times
        #[arg(long = "anchor", value_name = "CHAIN:SEQUENCE:HASH")]
        anchors: Vec<Anchor>,
    },
}

pub async fn audit(args: AuditArgs) -> Exit {
    let flags = ConfigFlags {
        config: args.config,
        ..ConfigFlags::default()
    };
    output::end(match configure(&flags) {
        Ok(config) => perform(args.command, &config.state_dir.value),
        Err(failure) => Err(failure),
    })
}

fn perform(command: AuditCommand, state_dir: &Path) -> Result<(), Failure> {
    match command {
        AuditCommand::Show { session, json } => show(state_dir, session.as_deref(), json),
        AuditCommand::Verify { anchors } => {
            let report = verify(state_dir, &anchors)?;
            output::result(&audit_text::report(&report, state_dir))?;
            match report.is_whole() {
                true => Ok(()),
                false => Err(Failure::new(
                    Exit::AuditBroken,
                    "the audit is not as it was written; what stands above says where. Keep the files as they are \
                     for whoever looks into it",
                )),
            }
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::new(Exit::Internal, error.to_string())
    }
}

/// Prints record by record: there may be more than fits in memory.
fn show(state_dir: &Path, session: Option<&str>, json: bool) -> Result<(), Failure> {
    let wanted = match session {
        None => Wanted::All,
        Some(id) => {
            let mut sessions = BTreeSet::from([id.to_owned()]);
            each_line(state_dir, |_, line| {
                if let StoredLine::Whole(line) = line {
                    sessions.extend(audit_text::session_of_thread(line, id));
                }
                Ok(())
            })?;
            Wanted::Of(sessions)
        }
    };
    let mut shown: u64 = 0;
    each_line(state_dir, |place, line| {
        let text = match json {
            true => audit_text::stored(line, &wanted),
            false => audit_text::human(line, place, &wanted),
        };
        shown += u64::from(text.is_some());
        text.map_or(Ok(()), |text| output::result(&text))
    })?;
    if shown == 0 && !json {
        output::comment(&audit_text::nothing(session, &files::directory(state_dir)));
    }
    Ok(())
}

/// Hands on every line of every chain, with where it stands.
fn each_line(state_dir: &Path, mut take: impl FnMut(&str, &StoredLine) -> Result<(), Failure>) -> Result<(), Failure> {
    let directory = files::directory(state_dir);
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Unreadable { path, source }
    };
    for chain in files::list(&directory).map_err(unreadable(&directory))? {
        for part in &chain.files {
            let path = chain.path_of(part.number);
            for (number, line) in (1..).zip(reader::open(&path).map_err(unreadable(&path))?) {
                let line = line.map_err(unreadable(&path))?;
                let place = format!("{}/{}:{number}", chain.chain, files::name(part.number));
                take(&place, &line)?;
            }
        }
    }
    Ok(())
}
