//! Runs npm, mmdebstrap and the engine for this room, and the work that would block a runtime thread.

use super::commands::Engine;
use super::environment;
use super::error::ImageError;
use super::progress::SharedProgress;
use crate::supervise::command::CommandLine;
use crate::supervise::environment::Environment;
use crate::supervise::tool::{self, StdoutUse, ToolEnd, ToolRun};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For questions that an engine answers from its own store.
pub const SHORT: Duration = Duration::from_secs(60);
/// For downloads, builds and imports.
pub const LONG: Duration = Duration::from_secs(60 * 60);

/// Everything that the effects of this room have in common.
#[derive(Clone)]
pub struct Tools {
    environment: Environment,
    progress: SharedProgress,
    cancel: CancellationToken,
}

impl Tools {
    /// `environment`: this process's own; what tools get of it is decided by [`environment::for_tools`].
    /// Work stops soon after `cancel` fires, with [`ImageError::Cancelled`], and leaves nothing half-made.
    pub fn new(
        environment: &BTreeMap<OsString, OsString>,
        progress: SharedProgress,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            environment: environment::for_tools(environment),
            progress,
            cancel,
        }
    }

    pub fn progress(&self) -> &SharedProgress {
        &self.progress
    }

    /// The program on PATH.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        let path = self.environment.get("PATH")?;
        which::which_in(program, Some(path), "/").ok()
    }

    /// Runs a tool and shows what it says.
    pub(super) async fn watch(&self, command: CommandLine) -> Result<ToolEnd, ImageError> {
        let run = ToolRun {
            command,
            environment: self.environment.clone(),
            limit: LONG,
            stdout: StdoutUse::Lines,
        };
        let end = tool::run(&run, &self.cancel, &mut |line| self.progress.line(line)).await?;
        Ok(end)
    }

    /// Runs a tool for its answer on stdout; what it says on stderr is kept for errors only.
    pub(super) async fn ask(&self, command: CommandLine, limit: Duration) -> Result<ToolEnd, ImageError> {
        let run = ToolRun {
            command,
            environment: self.environment.clone(),
            limit,
            stdout: StdoutUse::Capture,
        };
        Ok(tool::run(&run, &self.cancel, &mut |_| ()).await?)
    }

    /// [`Self::ask`], where anything but success is an error.
    pub(super) async fn ask_engine(
        &self,
        engine: &Engine,
        task: &'static str,
        command: CommandLine,
        limit: Duration,
    ) -> Result<Vec<u8>, ImageError> {
        let shown = command.to_string();
        let end = self.ask(command, limit).await?;
        Ok(engine_success(engine, task, shown, end)?.stdout)
    }

    /// [`Self::watch`], where anything but success is an error.
    pub(super) async fn watch_engine(
        &self,
        engine: &Engine,
        task: &'static str,
        command: CommandLine,
    ) -> Result<ToolEnd, ImageError> {
        let shown = command.to_string();
        let end = self.watch(command).await?;
        engine_success(engine, task, shown, end)
    }

    /// The same tools for the clean-up of cancelled work, which must not be cancelled itself.
    pub(super) fn for_cleanup(&self) -> Self {
        Self {
            cancel: CancellationToken::new(),
            ..self.clone()
        }
    }

    /// Hashing, unpacking and packing, on a thread where they may block. It ends early when the work is cancelled
    /// or this future is dropped.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Watch) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let stopped = self.cancel.child_token();
        let _stop_when_dropped = stopped.clone().drop_guard();
        let watch = Watch {
            progress: self.progress.clone(),
            stopped,
        };
        tokio::task::spawn_blocking(move || {
            let result = work(&watch);
            // A reader that was stopped reports an I/O error of some file; the reason is the cancellation.
            if watch.stopped.is_cancelled() {
                Err(ImageError::Cancelled)
            } else {
                result
            }
        })
        .await
        .map_err(|error| ImageError::Worker(error.to_string()))?
    }
}

fn engine_success(engine: &Engine, task: &'static str, command: String, end: ToolEnd) -> Result<ToolEnd, ImageError> {
    if end.status.success() {
        return Ok(end);
    }
    Err(ImageError::EngineFailed {
        engine: engine.kind(),
        task,
        command,
        status: end.status,
        said: end.tail.join("\n"),
    })
}

/// What blocking work reports to and is stopped by.
pub struct Watch {
    progress: SharedProgress,
    stopped: CancellationToken,
}

impl Watch {
    /// `inner`, its progress reported against `total` bytes, failing once the work is stopped.
    pub(super) fn reader<R: Read>(&self, inner: R, total: u64) -> WatchedReader<'_, R> {
        WatchedReader {
            inner,
            watch: self,
            done: 0,
            told: 0,
            total,
        }
    }
}

pub struct WatchedReader<'a, R> {
    inner: R,
    watch: &'a Watch,
    done: u64,
    told: u64,
    total: u64,
}

/// Bytes between two reports of progress.
const REPORT_EVERY: u64 = 1 << 20;

impl<R: Read> Read for WatchedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.stopped.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.done >= self.told + REPORT_EVERY || (count == 0 && self.told < self.done) {
            self.told = self.done;
            self.watch.progress.bytes(self.done, self.total.max(self.done));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Silent;
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    #[tokio::test]
    async fn blocking_work_stops_when_cancelled() {
        let cancel = CancellationToken::new();
        let tools = Tools::new(&BTreeMap::new(), Arc::new(Silent), cancel.clone());
        let result = tools
            .blocking(move |watch| {
                let mut endless = watch.reader(io::repeat(0), 0);
                cancel.cancel();
                io::copy(&mut endless, &mut io::sink()).map_err(ImageError::file("read", Path::new("endless")))
            })
            .await;
        assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
    }
}
