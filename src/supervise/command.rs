//! A command line as data: what would run, printable, comparable, not yet run.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Where it runs; an absolute path.
    pub directory: PathBuf,
}

impl CommandLine {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            directory: PathBuf::from("/"),
        }
    }

    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// Shell-quoted, so that a person can paste it.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shell_quoted(self.program.as_os_str()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", shell_quoted(arg)))
    }
}

/// One word as a POSIX shell reads it back.
pub fn shell_quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=:,./@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn shown(args: &[&str]) -> String {
        CommandLine::new("/usr/bin/podman")
            .args(args.iter().copied())
            .to_string()
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(
            shown(&["run", "--tmpfs", "/tmp:exec,size=64m", "-v", "/a:/b:ro"]),
            "/usr/bin/podman run --tmpfs /tmp:exec,size=64m -v /a:/b:ro"
        );
    }

    #[test]
    fn an_empty_word_is_still_a_word() {
        assert_eq!(shown(&["--detach-keys", ""]), "/usr/bin/podman --detach-keys ''");
    }

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        assert_eq!(shown(&["a b"]), "/usr/bin/podman 'a b'");
        assert_eq!(shown(&["$HOME"]), "/usr/bin/podman '$HOME'");
        assert_eq!(shown(&["it's"]), r"/usr/bin/podman 'it'\''s'");
        assert_eq!(shown(&["~/x", "*", "é"]), "/usr/bin/podman '~/x' '*' 'é'");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words = ["", "a b", "it's", "$(id)", "\\", "new\nline", "\"", "!x", "#c", "-e"];
        let command = words
            .iter()
            .fold(CommandLine::new("printf").arg("%s\\0"), |c, w| c.arg(*w));
        #[expect(clippy::disallowed_methods, reason = "the shell is the judge of the quoting")]
        let output = std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command.to_string())
            .output()
            .unwrap();
        let expected: String = words.iter().map(|w| format!("{w}\0")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn bytes_that_are_no_utf8_do_not_hide() {
        let command = CommandLine::new("/x").arg(OsStr::from_bytes(b"a\xff"));
        assert_eq!(command.to_string(), "/x 'a\u{fffd}'");
    }
}
