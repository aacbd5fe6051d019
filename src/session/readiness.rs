//! Whether a session could be started now: is the engine there, the image, room on the disk, and can it be recorded?
//!
//! It must never start a container. What it runs are the engine's short commands; whoever asks often keeps the answer.

use crate::config::quantity::Rounded;
use crate::session::blocking::blocking;
use crate::session::directory::private_dir_all;
use crate::session::disk;
use crate::session::error::SessionError;
use crate::session::registry::Sessions;
use crate::session::store::Found;
use crate::session::upkeep::Standing;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The longest that each look may take. An engine that hangs is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Each is there, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub engine: Result<(), String>,
    pub image: Result<(), String>,
    pub disk: Result<(), String>,
    pub audit: Result<(), String>,
}

impl Readiness {
    /// By their names.
    pub fn checks(&self) -> [(&'static str, &Result<(), String>); 4] {
        [
            ("engine", &self.engine),
            ("image", &self.image),
            ("disk", &self.disk),
            ("audit", &self.audit),
        ]
    }

    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, found)| found.is_ok())
    }
}

impl Sessions {
    pub async fn readiness(&self) -> Readiness {
        let (engine, image, disk, audit) = tokio::join!(
            told(self.engine_answers()),
            told(self.image_is_there()),
            told(self.disk_has_room()),
            told(self.audit_is_writable()),
        );
        Readiness {
            engine,
            image,
            disk,
            audit,
        }
    }

    /// Every session below the state directory, by how it stands. Nothing where no engine was found yet: who has a session is
    /// told by what was found out about this machine.
    pub async fn standings(&self) -> BTreeMap<Standing, u64> {
        let Some(ground) = self.found_ground() else {
            return BTreeMap::new();
        };
        let listed = blocking(move || ground.store().listed()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the sessions can't be counted");
            Vec::new()
        });
        counted(&listed)
    }

    async fn engine_answers(&self) -> Result<(), SessionError> {
        let ground = self.ground().await?;
        ground.engine.list_ours().await?;
        Ok(())
    }

    /// The one of the name, as it is now.
    async fn image_is_there(&self) -> Result<(), SessionError> {
        let ground = self.ground().await?;
        let reference = ground.config.image.value.as_str();
        ground.engine.inspect_image(reference).await?;
        Ok(())
    }

    async fn disk_has_room(&self) -> Result<(), SessionError> {
        let config = Arc::clone(&self.0.config);
        blocking(move || {
            let path = &config.state_dir.value;
            let failed = |source| SessionError::Files {
                what: "can't see how much room there is below",
                path: path.clone(),
                source,
            };
            private_dir_all(path).map_err(failed)?;
            let room = statvfs(path).map_err(|errno| failed(errno.into()))?;
            let free = disk::free(&room);
            let wanted = config.workspace.free.value;
            match free >= wanted.bytes() {
                true => Ok(()),
                false => Err(failed(io::Error::other(format!(
                    "{} is free, and {wanted} is to stay free (workspace.free)",
                    Rounded(free)
                )))),
            }
        })
        .await
    }

    async fn audit_is_writable(&self) -> Result<(), SessionError> {
        let audit = self.audit().await?;
        Ok(blocking(move || audit.check()).await?)
    }
}

fn counted(listed: &[Found]) -> BTreeMap<Standing, u64> {
    let mut counts: BTreeMap<Standing, u64> = Standing::ALL.into_iter().map(|standing| (standing, 0)).collect();
    for found in listed {
        *counts.entry(Standing::of(found)).or_default() += 1;
    }
    counts
}

async fn told(look: impl Future<Output = Result<(), SessionError>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(looked) => looked.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_there_is_enough() {
        let ready = Readiness {
            engine: Ok(()),
            image: Ok(()),
            disk: Ok(()),
            audit: Ok(()),
        };
        assert!(ready.is_ready());
        let not = Readiness {
            disk: Err("full".into()),
            ..ready
        };
        assert!(!not.is_ready());
    }
}
