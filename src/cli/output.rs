//! The one place that writes to stdout and stderr. Colours are stripped where the other end is no terminal, and where
//! `NO_COLOR` or the like says so; secrets are, everywhere.

use crate::cli::exit::{Exit, Failure};
use crate::cli::style::{ERROR, Line};
use crate::redact::Redactor;
use crate::wire::untrusted::Untrusted;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};

/// Writes part of the result to stdout.
///
/// # Errors
///
/// Where stdout can't be written; but a reader that left (`| head`) has what it wanted.
pub fn result(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    let text = Redactor::of_process().json_line(text.as_bytes()).into_owned();
    match writeln!(stdout, "{}", String::from_utf8_lossy(&text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("can't write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to stdout what was made to be shown once, secret or not: whoever asked for it has it nowhere else.
///
/// # Errors
///
/// Where stdout can't be written, also by a reader that left: then nobody has it.
pub fn shown_once(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(Exit::Internal, format!("can't write to stdout: {error}")))
}

/// Writes a patch to stdout. For a program byte by byte, since `git apply` takes nothing else; for a person as any other text.
///
/// # Errors
///
/// As [`result`].
pub fn patch(mut file: File) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Internal, format!("can't write the patch: {error}"));
    file.rewind().map_err(failed)?;
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        return result(&Untrusted::new(String::from_utf8_lossy(&bytes)).to_string());
    }
    match io::copy(&mut file, &mut stdout).and_then(|_| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Writes what happens meanwhile to stderr. A closed stderr is no reason to end what is being commented on.
pub fn comment(lines: &[Line]) {
    let mut stderr = anstream::stderr().lock();
    for line in lines {
        let line = line.to_string();
        if writeln!(stderr, "{}", Redactor::of_process().text(&line)).is_err() {
            return;
        }
    }
}

/// Tells why the program ends otherwise than asked; gives the code to end with.
pub fn failure(failure: &Failure) -> Exit {
    comment(&[Line::labelled(ERROR, "error", failure.message.as_str())]);
    failure.exit
}

/// Tells of a bug of ours.
pub fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    comment(&[Line::labelled(
        ERROR,
        "bug",
        format!("thread '{thread}' {panic}").as_str(),
    )]);
}

/// The code to end with, after telling why where something failed.
pub fn end(finished: Result<(), Failure>) -> Exit {
    match finished {
        Ok(()) => Exit::Success,
        Err(error) => failure(&error),
    }
}

/// Whether a person types the input.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}
