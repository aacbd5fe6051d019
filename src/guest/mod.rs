//! PID 1 inside the container: this same binary, mounted read-only and started as `codex-mcp guest`.
//!
//! It reads back where it runs and says so ([`crate::wire::contract::Ready`]) before it starts anything, then starts
//! processes on the host's request, offers the loopback model endpoint, reaps, and kills everything when its stdin
//! closes: the lifeline. It must never hand a descriptor of the pipe to a child, never trust the image (no shell, no
//! library, no file of it), and never outlive the pipe.
//!
//! - [`service`]: the handshake and the loop; works over any pipe, so that tests run it in-process.
//! - [`descriptors`]: takes the pipe away from stdin and stdout.
//! - [`readback`], [`mountinfo`], [`cgroup`]: what the kernel says about this place.
//! - [`spawn`], [`processes`], [`reaper`]: starting, signalling, ending.
//! - [`sockets`]: which sockets those may make.
//! - [`endpoint`]: the loopback ports.
//! - [`oom_score`], [`memory`]: whom the kernel shall kill for memory, and whom it did.
//! - [`figures`]: what was used.

mod cgroup;
mod descriptors;
mod endpoint;
mod figures;
mod memory;
pub(crate) mod mountinfo;
mod oom_score;
mod processes;
mod readback;
mod reaper;
mod service;
mod sockets;
mod spawn;

use crate::guest::oom_score::OomScore;
use crate::guest::reaper::Reach;
use crate::guest::service::{Ending, Signals};
use crate::guest::sockets::Sockets;
use crate::wire::mux;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::net::unix::pipe;

/// Runs the guest until its pipe closes. Must be called before the process has a second thread.
pub fn main() -> ExitCode {
    ExitCode::from(match run() {
        Ok(ending) => {
            say(format_args!("{ending}"));
            ending.exit_code()
        }
        Err(error) => {
            say(format_args!("can't start: {error}"));
            Ending::UNABLE
        }
    })
}

fn run() -> io::Result<Ending> {
    let (input, output) = descriptors::take_pipe()?;
    let oom_score = OomScore::open()?;
    // From here on no process of the same uid can open this one's descriptors or memory through /proc. Nothing
    // untrusted runs before the first spawn, so nothing can have been faster.
    nix::sys::prctl::set_dumpable(false)?;
    // One thread: a child is registered before anybody can reap it, and the pages of a guest stay few.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        mux::widen(&output);
        let reader = pipe::Receiver::from_owned_fd(input)?;
        let writer = pipe::Sender::from_owned_fd(output)?;
        Ok(service::serve(
            reader,
            writer,
            signals,
            Reach::of_this_process(),
            Some(oom_score),
            Sockets::Restricted,
        )
        .await)
    })
}

/// A line of the guest's log: stderr, which is the engine client's. Never a payload, and few of them, because a full
/// pipe would block the guest.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "codex-mcp guest: {line}");
}
