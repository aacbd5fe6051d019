//! Which folder may be a workspace.
//!
//! A copy of a folder goes into a container that a model controls, so a folder with a person's whole life in it is never
//! one, whatever was configured: not `/`, not the home directory, nothing that contains it. Nor is a git directory or what
//! lies in one: its configuration may hold credentials, it has every branch, and git on the host runs what is in it. A
//! folder that is to be mounted itself ([`permit_bind`]) is never one that codex-mcp keeps its own files in: the container
//! would write them.

use crate::config::Sourced;
use crate::workspace::git::directory;
use std::ffi::OsStr;
use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

/// A folder that may be a workspace: canonical, a directory when it was looked at, below a root and in no git directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceFolder(PathBuf);

impl WorkspaceFolder {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn into_path(self) -> PathBuf {
        self.0
    }
}

/// Why a folder can't be the workspace. The remedies address the operator; a calling model can only choose `cwd`.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error(
        "no folder to work on: codex-mcp was started in {}, which is not one; pass the project's folder as `cwd`, or \
         start codex-mcp with --workspace DIR, or set workspace.roots", started_in.display()
    )]
    Unspecified { started_in: PathBuf },
    #[error("can't use {} as the workspace: {error}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("can't use {} as the workspace: it is {kind}, not a directory", path.display())]
    NotADirectory { path: PathBuf, kind: &'static str },
    #[error(
        "{} is never a workspace: it is, or contains, the whole home directory; name the project's own folder",
        path.display()
    )]
    TooWide { path: PathBuf },
    #[error(
        "{} is hidden below the home directory, where credentials and settings live; if it really is a project, the \
         operator can add it to workspace.roots", path.display()
    )]
    Hidden { path: PathBuf },
    #[error(
        "{} is outside the folders that sessions may work on ({}; workspace.roots, {origin}); name a folder below them, \
         or let the operator add this one to workspace.roots", path.display(), list(roots)
    )]
    OutsideRoots {
        path: PathBuf,
        roots: Vec<PathBuf>,
        origin: String,
    },
    #[error(
        "{} leads through the symbolic link {} to {}, outside the folders that sessions may work on ({}; workspace.roots, \
         {origin}); name a folder below them, or let the operator add that one to workspace.roots",
        path.display(), link.display(), target.display(), list(roots)
    )]
    LinkOutside {
        path: PathBuf,
        link: PathBuf,
        target: PathBuf,
        roots: Vec<PathBuf>,
        origin: String,
    },
    #[error(
        "{} climbs with `..` out of {}, outside the folders that sessions may work on ({}; workspace.roots, {origin}); name \
         a folder below them without `..`", path.display(), from.display(), list(roots)
    )]
    ClimbsOutside {
        path: PathBuf,
        from: PathBuf,
        roots: Vec<PathBuf>,
        origin: String,
    },
    #[error(
        "{} can't be mounted itself: {what} ({}) would be the container's to write; name another folder, or use \
         workspace.mode = \"snapshot\"", path.display(), own.display()
    )]
    OurOwn {
        path: PathBuf,
        what: &'static str,
        own: PathBuf,
    },
    #[error(
        "{} can't be copied: {what} ({}) would come along, with other sessions in it; name another folder", path.display(), own.display()
    )]
    OurOwnCopied {
        path: PathBuf,
        what: &'static str,
        own: PathBuf,
    },
    #[error(
        "{} is never a workspace: it is, or lies in, the git directory {}, which holds all branches and may hold credentials, \
         and out of which git on the host runs hooks; name a folder with files of the repository (`git worktree add` makes \
         one of a bare repository)", path.display(), git.display()
    )]
    InsideGit { path: PathBuf, git: PathBuf },
}

/// A place where codex-mcp keeps files of its own.
#[derive(Debug, Clone, Copy)]
pub struct OwnPlace<'p> {
    /// As an error names it: "the state directory".
    pub what: &'static str,
    pub path: &'p Path,
}

/// What is done with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderUse {
    Mounted,
    Copied,
}

/// Whether a folder may be used so: none of our own places may lie in it, nor it in one of them. Looks at the file system to make
/// those canonical.
pub fn permit_use(folder: &WorkspaceFolder, how: FolderUse, own: &[OwnPlace<'_>]) -> Result<(), RootError> {
    let path = folder.path();
    for OwnPlace { what, path: own } in own {
        // One that is not there yet is where its name says, below what is there.
        let there = own.ancestors().find_map(|above| {
            let rest = own.strip_prefix(above).ok()?;
            Some(above.canonicalize().ok()?.join(rest))
        });
        let own = there.unwrap_or_else(|| own.to_path_buf());
        if own.starts_with(path) || path.starts_with(&own) {
            let path = path.to_owned();
            return Err(match how {
                FolderUse::Mounted => RootError::OurOwn { path, what, own },
                FolderUse::Copied => RootError::OurOwnCopied { path, what, own },
            });
        }
    }
    Ok(())
}

fn list(roots: &[PathBuf]) -> String {
    let names: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    if names.is_empty() {
        "none exists".to_owned()
    } else {
        names.join(", ")
    }
}

/// Decides on the folder that was asked for, or the one that the program was started in. `asked` may be relative to
/// `started_in`. Looks at the file system to make paths canonical and to
/// find git directories; all else is [`permit`].
pub fn choose(
    asked: Option<&Path>,
    started_in: &Path,
    home: Option<&Path>,
    roots: &Sourced<Vec<PathBuf>>,
) -> Result<WorkspaceFolder, RootError> {
    let started_in = canonical(started_in)?;
    let wanted = match asked {
        Some(asked) => canonical(&started_in.join(asked))?,
        None => started_in.clone(),
    };
    // A root that is not there permits nothing; it must not keep the others from working.
    let existing = |path: &PathBuf| canonical(path).ok();
    let roots = Sourced::new(
        Roots {
            configured: !roots.value.is_empty(),
            existing: roots.value.iter().filter_map(existing).collect(),
        },
        roots.origin.clone(),
    );
    let home = home.and_then(|home| canonical(home).ok());
    let permitted = permit(asked.is_some(), wanted, &started_in, home.as_deref(), &roots);
    let WorkspaceFolder(path) = permitted.map_err(|error| match asked {
        Some(asked) => explain(error, asked, &started_in),
        None => error,
    })?;
    match directory::above(&path) {
        Some(git) => Err(RootError::InsideGit { path, git }),
        None => Ok(WorkspaceFolder(path)),
    }
}

/// Says which link or `..` of what was asked for led outside, where one did: the path by itself looks like one below a root.
fn explain(error: RootError, asked: &Path, started_in: &Path) -> RootError {
    let RootError::OutsideRoots { path, roots, origin } = error else {
        return error;
    };
    let inside = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let mut walked = PathBuf::from("/");
    for component in started_in.join(asked).components() {
        let here = walked.join(component);
        let Ok(next) = here.canonicalize() else { break };
        if inside(&walked) && !inside(&next) {
            let path = asked.to_owned();
            return match component {
                Component::ParentDir => RootError::ClimbsOutside {
                    path,
                    from: walked,
                    roots,
                    origin,
                },
                _ => RootError::LinkOutside {
                    path,
                    link: here,
                    target: next,
                    roots,
                    origin,
                },
            };
        }
        walked = next;
    }
    RootError::OutsideRoots { path, roots, origin }
}

fn canonical(path: &Path) -> Result<PathBuf, RootError> {
    let unusable = |error| RootError::Unusable {
        path: path.to_owned(),
        error,
    };
    let canonical = path.canonicalize().map_err(unusable)?;
    let file_type = canonical.metadata().map_err(unusable)?.file_type();
    if !file_type.is_dir() {
        return Err(RootError::NotADirectory {
            path: canonical,
            kind: kind(file_type),
        });
    }
    Ok(canonical)
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        kind if kind.is_socket() => "a socket",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "a file",
    }
}

#[derive(Debug)]
struct Roots {
    configured: bool,
    existing: Vec<PathBuf>,
}

/// The rules, over canonical paths.
fn permit(
    asked: bool,
    wanted: PathBuf,
    started_in: &Path,
    home: Option<&Path>,
    roots: &Sourced<Roots>,
) -> Result<WorkspaceFolder, RootError> {
    if is_too_wide(&wanted, home) {
        return Err(if asked {
            RootError::TooWide { path: wanted }
        } else {
            RootError::Unspecified { started_in: wanted }
        });
    }
    let outside =
        |path: PathBuf, roots: Vec<PathBuf>, origin: String| Err(RootError::OutsideRoots { path, roots, origin });
    if roots.value.configured {
        if roots.value.existing.iter().any(|root| wanted.starts_with(root)) {
            return Ok(WorkspaceFolder(wanted));
        }
        return outside(wanted, roots.value.existing.clone(), roots.origin.to_string());
    }
    if !is_too_wide(started_in, home) {
        if wanted.starts_with(started_in) {
            return Ok(WorkspaceFolder(wanted));
        }
        return outside(
            wanted,
            vec![started_in.to_owned()],
            "unset: the folder codex-mcp was started in".to_owned(),
        );
    }
    // Desktop clients start their servers in `/` or in the home directory, which says nothing about the project: any
    // visible folder of the user's own may then be named.
    let Some(home) = home else {
        return outside(wanted, Vec::new(), "unset, and there is no home directory".to_owned());
    };
    match wanted
        .strip_prefix(home)
        .ok()
        .and_then(|below| below.components().next())
    {
        Some(Component::Normal(first)) if is_hidden(first) => Err(RootError::Hidden { path: wanted }),
        Some(_) => Ok(WorkspaceFolder(wanted)),
        None => outside(wanted, vec![home.to_owned()], "unset: the home directory".to_owned()),
    }
}

/// True for `/`, the home directory, and everything that contains it.
fn is_too_wide(path: &Path, home: Option<&Path>) -> bool {
    path.parent().is_none() || home.is_some_and(|home| home.starts_with(path))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().first() == Some(&b'.')
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files")]
mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::workspace::fixtures::Scene;

    fn decide(asked: Option<&str>, started_in: &str, roots: &[&str]) -> Result<String, String> {
        let roots = Sourced::new(
            Roots {
                configured: !roots.is_empty(),
                existing: roots.iter().map(PathBuf::from).collect(),
            },
            Origin::Flag { name: "--root" },
        );
        let wanted = PathBuf::from(asked.unwrap_or(started_in));
        let home = Some(Path::new("/home/me"));
        match permit(asked.is_some(), wanted, Path::new(started_in), home, &roots) {
            Ok(folder) => Ok(folder.path().display().to_string()),
            Err(error) => Err(format!("{error:?}").split([' ', '{']).next().unwrap().to_owned()),
        }
    }

    #[test]
    fn the_default_root_is_the_folder_started_in() {
        let start = "/home/me/p";
        assert_eq!(decide(None, start, &[]).unwrap(), start);
        assert_eq!(decide(Some("/home/me/p/sub"), start, &[]).unwrap(), "/home/me/p/sub");
        for outside in ["/home/me/q", "/home/me/p2", "/etc"] {
            assert_eq!(
                decide(Some(outside), start, &[]).unwrap_err(),
                "OutsideRoots",
                "{outside}"
            );
        }
    }

    #[test]
    fn too_wide_a_folder_is_refused_whatever_the_roots() {
        for wide in ["/", "/home", "/home/me"] {
            assert_eq!(decide(Some(wide), "/home/me/p", &[]).unwrap_err(), "TooWide");
            assert_eq!(decide(Some(wide), "/srv", &["/"]).unwrap_err(), "TooWide");
            assert_eq!(decide(None, wide, &[]).unwrap_err(), "Unspecified");
        }
    }

    #[test]
    fn started_in_the_home_directory_any_visible_folder_of_it_may_be_named() {
        for start in ["/", "/home/me"] {
            assert_eq!(decide(Some("/home/me/p/.x"), start, &[]).unwrap(), "/home/me/p/.x");
            assert_eq!(decide(Some("/home/me/.ssh"), start, &[]).unwrap_err(), "Hidden");
            assert_eq!(decide(Some("/home/me/.config/x"), start, &[]).unwrap_err(), "Hidden");
            assert_eq!(decide(Some("/etc"), start, &[]).unwrap_err(), "OutsideRoots");
            assert_eq!(decide(Some("/home/other"), start, &[]).unwrap_err(), "OutsideRoots");
        }
    }

    #[test]
    fn configured_roots_replace_the_default() {
        assert_eq!(decide(Some("/srv/a/b"), "/", &["/srv/a"]).unwrap(), "/srv/a/b");
        assert_eq!(decide(Some("/srv/ab"), "/", &["/srv/a"]).unwrap_err(), "OutsideRoots");
        assert_eq!(
            decide(Some("/home/me/p"), "/home/me/p", &["/srv/a"]).unwrap_err(),
            "OutsideRoots"
        );
        assert_eq!(
            decide(Some("/home/me/.dotfiles"), "/", &["/home/me/.dotfiles"]).unwrap(),
            "/home/me/.dotfiles"
        );
    }

    #[test]
    fn links_are_followed_before_the_rules_apply() {
        let outer = tempfile::tempdir().unwrap();
        let project = outer.path().join("project");
        std::fs::create_dir(&project).unwrap();
        std::fs::write(project.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", project.join("escape")).unwrap();
        let roots = Sourced::new(Vec::new(), Origin::Default);
        let ask = |asked: &str| choose(Some(Path::new(asked)), &project, None, &roots);
        std::os::unix::fs::symlink(".", project.join("here")).unwrap();
        std::fs::create_dir_all(project.join("sub/deep")).unwrap();
        assert!(ask(".").is_ok());
        for inside in ["here", "here/here/sub", "sub/../sub/deep"] {
            assert!(ask(inside).is_ok(), "{inside}");
        }
        let real = project.canonicalize().unwrap();
        for through in ["escape", "escape/ssl", "here/sub/../escape"] {
            let Err(RootError::LinkOutside { link, target, .. }) = ask(through) else {
                panic!("{through}")
            };
            assert_eq!((link, target), (real.join("escape"), "/etc".into()), "{through}");
        }
        for climbing in ["..", "sub/../..", "sub/deep/../../.."] {
            let Err(RootError::ClimbsOutside { from, .. }) = ask(climbing) else {
                panic!("{climbing}")
            };
            assert_eq!(from, real, "{climbing}");
        }
        assert!(matches!(ask("/etc").unwrap_err(), RootError::OutsideRoots { .. }));
        assert!(matches!(ask("gone").unwrap_err(), RootError::Unusable { .. }));
    }

    #[test]
    fn what_is_no_directory_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Sourced::new(Vec::new(), Origin::Default);
        let ask = |asked: &str| choose(Some(Path::new(asked)), folder.path(), None, &roots);
        std::fs::write(folder.path().join("file"), "").unwrap();
        let _listening = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (asked, expected) in [
            ("file", "a file"),
            ("socket", "a socket"),
            ("fifo", "a FIFO"),
            ("/dev/null", "a device"),
        ] {
            let Err(RootError::NotADirectory { kind, .. }) = ask(asked) else {
                panic!("{asked}")
            };
            assert_eq!(kind, expected);
        }
    }

    /// In any mode: a copy has the credentials, and in the folder itself the hooks could be written.
    #[test]
    fn what_is_gits_is_never_a_workspace() {
        let scene = Scene::repository();
        scene.write("p/file", "x");
        scene.commit("one");
        scene.run(&["clone", "-q", "--bare", ".", "mirror.git"]);
        scene.run(&["init", "-q", "p"]);
        let ask = |asked: &str| {
            let roots = Sourced::new(Vec::new(), Origin::Default);
            choose(Some(Path::new(asked)), &scene.folder, None, &roots)
        };
        for gits in [".git", "p/.git", "p/.git/hooks", "mirror.git", "mirror.git/hooks"] {
            assert!(matches!(ask(gits).unwrap_err(), RootError::InsideGit { .. }), "{gits}");
        }
        let error = ask("mirror.git/hooks").unwrap_err().to_string();
        let error = error.replace(scene.folder.to_str().unwrap(), "F");
        insta::assert_snapshot!(error, @"F/mirror.git/hooks is never a workspace: it is, or lies in, the git directory F/mirror.git, which holds all branches and may hold credentials, and out of which git on the host runs hooks; name a folder with files of the repository (`git worktree add` makes one of a bare repository)");
        assert_eq!(ask("p").unwrap().path(), scene.at("p"));
    }

    #[test]
    fn what_is_ours_is_never_mounted_itself_nor_copied() {
        let outer = tempfile::tempdir().unwrap();
        let outer = outer.path().canonicalize().unwrap();
        std::fs::create_dir_all(outer.join("real/state")).unwrap();
        std::os::unix::fs::symlink(outer.join("real"), outer.join("link")).unwrap();
        // Named through a link, and not there yet.
        let own = outer.join("link/state/codex-mcp");
        let ask = |folder: &str, how| {
            let own = [OwnPlace {
                what: "the state directory",
                path: &own,
            }];
            permit_use(&WorkspaceFolder(outer.join(folder)), how, &own)
        };
        for ours in [
            "",
            "real",
            "real/state",
            "real/state/codex-mcp",
            "real/state/codex-mcp/sessions/S",
        ] {
            let mounted = ask(ours, FolderUse::Mounted).unwrap_err();
            assert!(matches!(mounted, RootError::OurOwn { .. }), "{ours}");
            let copied = ask(ours, FolderUse::Copied).unwrap_err();
            assert!(matches!(copied, RootError::OurOwnCopied { .. }), "{ours}");
        }
        for other in ["real/statement", "p", "real/state/codex-mcp2", "p/.github"] {
            assert!(ask(other, FolderUse::Mounted).is_ok(), "{other}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = RootError::LinkOutside {
            path: "sub/x".into(),
            link: "/a/sub/x".into(),
            target: "/etc".into(),
            roots: vec!["/a".into()],
            origin: "default".into(),
        };
        insta::assert_snapshot!(error, @"sub/x leads through the symbolic link /a/sub/x to /etc, outside the folders that sessions may work on (/a; workspace.roots, default); name a folder below them, or let the operator add that one to workspace.roots");
        let error = RootError::OurOwn {
            path: "/srv".into(),
            what: "the state directory",
            own: "/srv/state".into(),
        };
        insta::assert_snapshot!(error, @r#"/srv can't be mounted itself: the state directory (/srv/state) would be the container's to write; name another folder, or use workspace.mode = "snapshot""#);
        let error = RootError::Unspecified { started_in: "/".into() };
        insta::assert_snapshot!(error, @"no folder to work on: codex-mcp was started in /, which is not one; pass the project's folder as `cwd`, or start codex-mcp with --workspace DIR, or set workspace.roots");
        let roots = vec!["/a".into(), "/b".into()];
        let error = RootError::OutsideRoots {
            path: "/x".into(),
            roots,
            origin: "flag --root".into(),
        };
        insta::assert_snapshot!(error, @"/x is outside the folders that sessions may work on (/a, /b; workspace.roots, flag --root); name a folder below them, or let the operator add this one to workspace.roots");
    }
}
