//! Takes the pipe away from where children would find it. Runs once, before any thread, runtime or child.
#![expect(
    clippy::disallowed_methods,
    reason = "opens /dev/null and lists this process's own descriptors"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// Moves stdin and stdout to descriptors that no child inherits, and leaves `/dev/null` in their place. Closes what
/// else the engine's runtime may have left open (a leaked directory of the host is CVE-2024-21626).
///
/// Returns (what was stdin, what was stdout).
pub fn take_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    close_inherited()?;
    // Both duplicates are close-on-exec.
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let null: File = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok((input, output))
}

fn close_inherited() -> io::Result<()> {
    // The list is complete before anything is closed; it includes the directory's own descriptor, closed by then.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // Nothing in this process has opened a descriptor yet, so none of these has an owner.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
