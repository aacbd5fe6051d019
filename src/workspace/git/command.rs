//! How git is spelled: as data, whole, and pure.
//!
//! Every command gets the same head (no pager, no hooks, no file system monitor, no network) and an environment of its own.
//! The user's repository can only be asked what [`SourceQuestion`] has; ours are worked on with any plumbing command,
//! and none of the user's configuration.

use crate::supervise::command::CommandLine;
use crate::supervise::environment::Environment;
use crate::workspace::fast_import::quoted;
use crate::workspace::git::ObjectId;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a question that reads an index, a reference, a tree or the names in a folder may take. Listing 200,000 files takes
/// 1.5 s from a cold disk; but a FIFO in the place of a `.gitignore` keeps git waiting for ever.
const QUICK: Duration = Duration::from_secs(120);
/// What reading or writing many objects may take.
const LONG: Duration = Duration::from_secs(30 * 60);

/// The git of this machine, and what of our environment it may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// Absolute.
    pub program: PathBuf,
    /// PATH, for the programs of its own that git starts.
    pub search_path: OsString,
    /// HOME and XDG_CONFIG_HOME: where the user's own list of ignored files is. Only [`SourceQuestion::Untracked`] and
    /// [`SourceQuestion::Ignored`] see them.
    pub home: Option<OsString>,
    pub config_home: Option<OsString>,
}

/// One run of git, not yet run.
#[derive(Debug, Clone)]
pub struct GitCommand {
    pub command: CommandLine,
    pub environment: Environment,
    /// Wall-clock time.
    pub limit: Duration,
    /// For errors: `git ls-files`.
    pub name: String,
}

/// The user's own repository, and the folder in it that a session works on. It is only ever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRepository {
    /// Absolute; of a worktree, its own below the common one.
    pub git_dir: PathBuf,
    /// The repository's top level.
    pub work_tree: PathBuf,
    /// Where questions about files are asked: the top level or a directory below it.
    pub folder: PathBuf,
}

/// What the user's repository may be asked. None of these runs a hook, a filter, a diff driver or a helper that the
/// repository's configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceQuestion<'q> {
    /// The index below the folder: `MODE ID STAGE\tPATH\0`, paths relative to the folder.
    Tracked,
    /// Files that are neither in the index nor ignored: `PATH\0`; nested repositories as `PATH/\0`.
    Untracked,
    /// Nothing; fails with 1 where the folder itself is not ignored.
    Ignored,
    /// The commit that HEAD is; fails where there is none yet.
    Head,
    /// The branch that HEAD names; fails where it names none.
    Branch,
    /// Whether history is cut, and the object format; a line each.
    Format,
    CommonDirectory,
    /// Every commit that HEAD reaches, its parents behind it on the line.
    Commits,
    /// A pack of what stdin names, into a repository of ours.
    Pack {
        into: &'q OwnRepository,
        /// The source's own directory of objects.
        objects: &'q Path,
        cut: HistoryCut,
    },
}

/// Whether a pack ends where the repository's own history does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryCut {
    /// Where the repository ends.
    AsItIs,
    /// At the commits that stdin names on `--shallow` lines, whatever the repository says.
    ByStdin,
}

/// A git directory of ours, which no container can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRepository {
    /// Absolute.
    pub git_dir: PathBuf,
}

impl Git {
    /// Asks which repository a folder belongs to: top level, then git directory, by git's own search upwards.
    pub fn discover(&self, folder: &Path, what: Discovery) -> GitCommand {
        let flag = match what {
            Discovery::TopLevel => "--show-toplevel",
            Discovery::GitDirectory => "--absolute-git-dir",
            Discovery::CommonDirectory => "--git-common-dir",
        };
        self.spell(&[], "rev-parse", os(&[flag]), folder, QUICK, Reads::Nothing)
    }

    pub fn ask(&self, source: &SourceRepository, question: SourceQuestion<'_>) -> GitCommand {
        let mut head = vec![OsString::from("--git-dir"), source.git_dir.clone().into()];
        let mut reads = Reads::Nothing;
        let mut limit = QUICK;
        let mut objects: Vec<(OsString, OsString)> = Vec::new();
        let args: Vec<OsString> = match question {
            SourceQuestion::Tracked | SourceQuestion::Untracked => {
                head.extend(["--work-tree".into(), source.work_tree.clone().into()]);
                if question == SourceQuestion::Tracked {
                    os(&["-z", "--cached", "--stage"])
                } else {
                    reads = Reads::UsersIgnoredFiles;
                    os(&["-z", "--others", "--exclude-standard"])
                }
            }
            SourceQuestion::Ignored => {
                // It knows no literal paths, and takes an absolute one for nothing else.
                head.extend([
                    "--work-tree".into(),
                    source.work_tree.clone().into(),
                    "--no-literal-pathspecs".into(),
                ]);
                reads = Reads::UsersIgnoredFiles;
                let mut args = os(&["--quiet", "--no-index", "--"]);
                args.push(source.folder.clone().into());
                args
            }
            SourceQuestion::Head => os(&["--verify", "--quiet", "HEAD"]),
            SourceQuestion::Branch => os(&["--quiet", "HEAD"]),
            SourceQuestion::Format => os(&["--is-shallow-repository", "--show-object-format=storage"]),
            SourceQuestion::CommonDirectory => os(&["--git-common-dir"]),
            SourceQuestion::Commits => {
                limit = LONG;
                os(&["--parents", "HEAD"])
            }
            SourceQuestion::Pack {
                into,
                objects: source,
                cut,
            } => {
                limit = LONG;
                // A pack is written where the objects are, and then renamed. So ours is where they are, and the source's are only
                // looked up: it may lie on another file system, and is not ours to write to in any case.
                let ours = into.git_dir.join("objects");
                let source = OsString::from_vec(quoted(source.as_os_str().as_bytes()));
                objects.push(("GIT_ALTERNATE_OBJECT_DIRECTORIES".into(), source));
                objects.push(("GIT_OBJECT_DIRECTORY".into(), ours.clone().into()));
                // Deltas are taken over as they are and none is looked for: that is what takes time.
                let mut args = os(&["--revs", "--window=0", "--delta-base-offset", "--quiet"]);
                if cut == HistoryCut::ByStdin {
                    head.extend(["--shallow-file".into(), "".into()]);
                    args.push("--shallow".into());
                }
                // It appends `-ID.pack`.
                args.push(ours.join("pack/pack").into());
                args
            }
        };
        let verb = match question {
            SourceQuestion::Tracked | SourceQuestion::Untracked => "ls-files",
            SourceQuestion::Ignored => "check-ignore",
            SourceQuestion::Branch => "symbolic-ref",
            SourceQuestion::Commits => "rev-list",
            SourceQuestion::Pack { .. } => "pack-objects",
            SourceQuestion::Head | SourceQuestion::Format | SourceQuestion::CommonDirectory => "rev-parse",
        };
        let mut command = self.spell(&head, verb, args, &source.folder, limit, reads);
        if !objects.is_empty() {
            let fixed = command.environment.iter();
            let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
            command.environment = fixed.chain(objects).collect();
        }
        command
    }

    /// The directory that git would run hooks from in this folder, as every layer of the user's configuration together says;
    /// fails where none says anything. Nothing but configuration is read, and our own setting is left out: it would
    /// be the answer.
    pub fn effective_hooks(&self, folder: &Path) -> GitCommand {
        let question = [
            "--no-pager",
            "-c",
            "safe.directory=*",
            "config",
            "--null",
            "--type=path",
            "--get",
        ];
        GitCommand {
            command: CommandLine::new(&self.program)
                .in_directory(folder)
                .args(question)
                .arg("core.hooksPath"),
            environment: self.environment(Reads::UsersConfiguration),
            limit: QUICK,
            name: "git config".to_owned(),
        }
    }

    /// A plumbing command in a repository of ours.
    pub fn work(&self, own: &OwnRepository, verb: &str, args: &[&str]) -> GitCommand {
        let head = [OsString::from("--git-dir"), own.git_dir.clone().into()];
        self.spell(&head, verb, os(args), &own.git_dir, LONG, Reads::Nothing)
    }

    fn spell(
        &self,
        head: &[OsString],
        verb: &str,
        args: Vec<OsString>,
        directory: &Path,
        limit: Duration,
        reads: Reads,
    ) -> GitCommand {
        let mut command = CommandLine::new(&self.program)
            .in_directory(directory)
            .args([
                "--no-pager",
                "--no-optional-locks",
                "--no-replace-objects",
                "--literal-pathspecs",
            ])
            .args(head.iter().cloned());
        for setting in SETTINGS {
            command = command.arg("-c").arg(*setting);
        }
        GitCommand {
            command: command.arg(verb).args(args),
            environment: self.environment(reads),
            limit,
            name: format!("git {verb}"),
        }
    }

    fn environment(&self, reads: Reads) -> Environment {
        let mut variables: Vec<(OsString, OsString)> = vec![("PATH".into(), self.search_path.clone())];
        let fixed = ENVIRONMENT
            .iter()
            .filter(|(name, _)| reads != Reads::UsersConfiguration || *name != "GIT_CONFIG_NOSYSTEM");
        variables.extend(fixed.map(|(name, value)| (name.into(), value.into())));
        match reads {
            Reads::Nothing => variables.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into())),
            Reads::UsersIgnoredFiles | Reads::UsersConfiguration => {
                variables.extend(self.home.iter().map(|home| ("HOME".into(), home.clone())));
                let config_home = self.config_home.iter();
                variables.extend(config_home.map(|home| ("XDG_CONFIG_HOME".into(), home.clone())));
            }
        }
        variables.into_iter().collect()
    }
}

/// What is asked about a folder before its repository is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    TopLevel,
    GitDirectory,
    /// What the worktrees of a repository share; may be relative to the folder.
    CommonDirectory,
}

/// What of the user's own configuration a command may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Nothing,
    UsersIgnoredFiles,
    /// The system's as well: what git itself would go by.
    UsersConfiguration,
}

fn os(args: &[&str]) -> Vec<OsString> {
    args.iter().map(OsString::from).collect()
}

/// Stronger than any file: what a repository's configuration may say, it says in vain.
const SETTINGS: &[&str] = &[
    // Each of these names a program to run.
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.gitProxy=false",
    "core.askPass=false",
    "core.alternateRefsCommand=false",
    "credential.helper=",
    "diff.external=",
    // A missing object is an error, not a reason to fetch it. Older versions don't know GIT_NO_LAZY_FETCH.
    "protocol.allow=never",
    // Attributes name filters and drivers.
    "core.attributesFile=/dev/null",
    // The user named this folder; whose it is, is not git's to judge, and nothing of it is run.
    "safe.directory=*",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.untrackedCache=false",
    "core.quotePath=true",
    "core.precomposeUnicode=false",
    "pack.packSizeLimit=0",
    "pack.writeBitmaps=false",
    "transfer.fsckObjects=false",
    // What comes is stored as it is, quickly: it is thrown away with the session.
    "core.compression=1",
    "pack.compression=1",
    "core.looseCompression=1",
    // A file of any size is read in pieces beyond this, and shown as binary.
    "core.bigFileThreshold=2m",
    "fastimport.unpackLimit=0",
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_GRAFT_FILE", "/dev/null"),
    ("GIT_ALLOW_PROTOCOL", "none"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_ASKPASS", "false"),
    ("GIT_SSH_COMMAND", "false"),
    ("GIT_PAGER", "cat"),
];

/// What `pack-objects --revs` reads to pack all that a commit reaches, up to the commits where history is cut.
pub fn revisions(head: &ObjectId, cut_at: &[ObjectId]) -> Vec<u8> {
    let mut lines: String = cut_at.iter().map(|id| format!("--shallow {id}\n")).collect();
    lines.push_str(&format!("{head}\n"));
    lines.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn git() -> Git {
        Git {
            program: "/usr/bin/git".into(),
            search_path: "/usr/bin:/bin".into(),
            home: Some("/home/user".into()),
            config_home: None,
        }
    }

    fn source() -> SourceRepository {
        SourceRepository {
            git_dir: "/src/.git".into(),
            work_tree: "/src".into(),
            folder: "/src/sub".into(),
        }
    }

    fn own() -> OwnRepository {
        OwnRepository {
            git_dir: "/shadow".into(),
        }
    }

    fn shown(command: &GitCommand) -> String {
        let variables: Vec<String> = command
            .environment
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        let directory = command.command.directory.display();
        format!("{}\nin {directory}\n{}\n", command.command, variables.join("\n"))
    }

    #[test]
    fn a_command_is_spelled_whole() {
        insta::assert_snapshot!(shown(&git().ask(&source(), SourceQuestion::Untracked)));
    }

    #[test]
    fn a_pack_is_written_among_our_objects() {
        let (own, objects) = (own(), Path::new("/src/\"a\":/objects"));
        let command = git().ask(
            &source(),
            SourceQuestion::Pack {
                into: &own,
                objects,
                cut: HistoryCut::AsItIs,
            },
        );
        let value = |name| command.environment.get(name).map(OsStr::to_owned);
        assert_eq!(value("GIT_OBJECT_DIRECTORY"), Some("/shadow/objects".into()));
        let alternates = value("GIT_ALTERNATE_OBJECT_DIRECTORIES");
        assert_eq!(alternates, Some(r#""/src/\"a\":/objects""#.into()));
        assert_eq!(value("GIT_CONFIG_GLOBAL"), Some("/dev/null".into()));
    }

    #[test]
    fn only_what_is_about_ignored_files_knows_the_users_home() {
        let (own, objects) = (own(), Path::new("/src/.git/objects"));
        let pack = SourceQuestion::Pack {
            into: &own,
            objects,
            cut: HistoryCut::ByStdin,
        };
        let commands = [
            git().ask(&source(), SourceQuestion::Tracked),
            git().ask(&source(), SourceQuestion::Head),
            git().ask(&source(), pack),
            git().discover(Path::new("/src"), Discovery::TopLevel),
            git().work(&own, "fast-import", &[]),
        ];
        for command in commands {
            assert_eq!(command.environment.get("HOME"), None, "{}", command.command);
            assert_eq!(
                command.environment.get("GIT_CONFIG_GLOBAL"),
                Some(OsStr::new("/dev/null")),
                "{}",
                command.command
            );
        }
    }

    #[test]
    fn what_could_wait_for_ever_gives_up_soon() {
        for question in [
            SourceQuestion::Tracked,
            SourceQuestion::Untracked,
            SourceQuestion::Ignored,
        ] {
            assert_eq!(git().ask(&source(), question).limit, QUICK, "{question:?}");
        }
    }

    #[test]
    fn what_follows_the_head_is_what_was_asked() {
        let (own, objects) = (own(), Path::new("/src/.git/objects"));
        let tail = |command: &GitCommand| {
            let words: Vec<String> = command
                .command
                .args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            let start = words.iter().rposition(|word| word == "-c").map_or(0, |at| at + 2);
            words.get(start..).unwrap_or_default().join(" ")
        };
        let questions = [
            SourceQuestion::Tracked,
            SourceQuestion::Untracked,
            SourceQuestion::Ignored,
            SourceQuestion::Head,
            SourceQuestion::Branch,
            SourceQuestion::Format,
            SourceQuestion::CommonDirectory,
            SourceQuestion::Commits,
            SourceQuestion::Pack {
                into: &own,
                objects,
                cut: HistoryCut::AsItIs,
            },
            SourceQuestion::Pack {
                into: &own,
                objects,
                cut: HistoryCut::ByStdin,
            },
        ];
        let lines: Vec<String> = questions
            .iter()
            .map(|question| tail(&git().ask(&source(), *question)))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn revisions_name_the_cuts_first() {
        let id = |digit: u8| ObjectId::from_digest(&[digit; 20]);
        let text = String::from_utf8(revisions(&id(1), &[id(2)])).unwrap();
        assert_eq!(text, format!("--shallow {}\n{}\n", id(2), id(1)));
    }
}
