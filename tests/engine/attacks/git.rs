//! Repositories that want git on the host to run something: the user's own folder, one nested in it, and what Codex plants. Each
//! trap is sprung by hand at the end, so that "nothing ran" means something.

use super::{Bystander, completed, content, leaves_nothing, picture, sessions, sessions_json, start, thread_of};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs git as the tester, who trusts every folder and has no configuration.
fn git(folder: &Path, args: &[&str]) -> std::process::Output {
    Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "safe.directory=*", "-c", "user.name=a", "-c", "user.email=a@b"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap()
}

#[track_caller]
fn git_works(folder: &Path, args: &[&str]) {
    let output = git(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with one commit of what is in the folder.
pub(super) fn make_repository(folder: &Path) {
    git_works(folder, &["init", "-q"]);
    git_works(folder, &["add", "-A"]);
    git_works(folder, &["commit", "-q", "--allow-empty", "-m", "first"]);
}

/// Whatever runs here leaves a file.
struct Trap {
    marks: PathBuf,
}

impl Trap {
    fn in_world(world: &World) -> Self {
        let marks = world.path("marks");
        fs::create_dir(&marks).unwrap();
        fs::set_permissions(&marks, fs::Permissions::from_mode(0o777)).unwrap();
        Self { marks }
    }

    fn command(&self, name: &str) -> String {
        format!("touch {}/{name}", self.marks.display())
    }

    /// Everything in a repository that git runs something for. `[include]` brings one of them from a file beside it.
    fn set_in(&self, repository: &Path) {
        let git_dir = repository.join(".git");
        let config = format!(
            "[core]\n\tfsmonitor = \"{}; false\"\n\tpager = \"{}\"\n\tsshCommand = \"{}\"\n\teditor = \"{}\"\n\
             [diff]\n\texternal = \"{}\"\n[diff \"evil\"]\n\ttextconv = \"{}\"\n\tcommand = \"{}\"\n\
             [filter \"evil\"]\n\tclean = \"{}; cat\"\n\tsmudge = \"{}; cat\"\n\tprocess = \"{}\"\n\trequired = false\n\
             [merge \"evil\"]\n\tdriver = \"{}\"\n[gpg]\n\tprogram = \"{}\"\n[credential]\n\thelper = \"!{}\"\n\
             [uploadpack]\n\tpackObjectsHook = \"{}\"\n[include]\n\tpath = included\n",
            self.command("fsmonitor"),
            self.command("pager"),
            self.command("ssh"),
            self.command("editor"),
            self.command("external"),
            self.command("textconv"),
            self.command("diff-command"),
            self.command("clean"),
            self.command("smudge"),
            self.command("process"),
            self.command("merge"),
            self.command("gpg"),
            self.command("credential"),
            self.command("pack-hook"),
        );
        let mut whole = fs::read_to_string(git_dir.join("config")).unwrap();
        whole.push_str(&config);
        fs::write(git_dir.join("config"), whole).unwrap();
        fs::write(
            git_dir.join("included"),
            format!(
                "[alias]\n\tdiff-tree = \"!{0}\"\n\tls-files = \"!{0}\"\n",
                self.command("alias")
            ),
        )
        .unwrap();
        fs::create_dir_all(git_dir.join("info")).unwrap();
        fs::write(git_dir.join("info/attributes"), "* filter=evil diff=evil merge=evil\n").unwrap();
        for hook in [
            "pre-commit",
            "post-checkout",
            "post-index-change",
            "reference-transaction",
            "post-commit",
            "pre-auto-gc",
        ] {
            self.hook(&git_dir.join("hooks"), hook);
        }
    }

    fn hook(&self, hooks: &Path, name: &str) {
        fs::create_dir_all(hooks).unwrap();
        let path = hooks.join(name);
        fs::write(&path, format!("#!/bin/sh\n{}\n", self.command(name))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn sprung(&self) -> Vec<String> {
        let names = fs::read_dir(&self.marks).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[track_caller]
    fn nothing_ran(&self) {
        assert_eq!(self.sprung(), [""; 0], "ran on the host");
    }

    /// What a person's `git status` would have run: the trap is one.
    #[track_caller]
    fn is_a_trap(&self, repository: &Path) {
        drop(git(repository, &["status"]));
        let sprung = self.sprung();
        assert!(
            sprung.iter().any(|name| name == "fsmonitor"),
            "{}: {sprung:?}",
            repository.display()
        );
    }
}

fn a_hostile_repository_of_the_host(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let trap = Trap::in_world(&world);
    let (outer, nested) = (world.workspace(), world.workspace().join("nested"));
    fs::create_dir(&nested).unwrap();
    fs::write(nested.join("inner.txt"), "inner\n").unwrap();
    make_repository(&nested);
    fs::write(outer.join("text.txt"), "one\n").unwrap();
    make_repository(&outer);
    fs::write(outer.join("text.txt"), "one\nmodified\n").unwrap();
    trap.set_in(&outer);
    trap.set_in(&nested);
    world.give_to_user(&outer);
    let git_dirs = [picture(&outer.join(".git")), picture(&nested.join(".git"))];
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let result = start(
        &mut client,
        "#shell git log --format=%s; git status --short; ls -A nested; echo two >> text.txt; echo three > nested/new; git config -l | grep -c evil",
    );
    completed(&result);
    let text = content(&result);
    assert!(text.contains("first"), "the history is there: {result:#}");
    let thread = thread_of(&result);
    bystander.works(&mut client);
    trap.nothing_ran();
    client.close_stdin();
    client.wait();
    let changes = sessions_json(&world, &["diff", &thread]);
    assert!(changes["files"].to_string().contains("text.txt"), "{changes:#}");
    trap.nothing_ran();
    sessions_json(&world, &["apply", &thread, "--dry-run"]);
    let applied = sessions(&world, &["apply", &thread]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    assert_eq!(
        fs::read_to_string(outer.join("text.txt")).unwrap(),
        "one\nmodified\ntwo\n"
    );
    trap.nothing_ran();
    assert_eq!([picture(&outer.join(".git")), picture(&nested.join(".git"))], git_dirs);
    leaves_nothing(&world, McpClient::start(&world));
    trap.nothing_ran();
    trap.is_a_trap(&outer);
}

/// In its own copy, where git of a later turn may run it, and in a repository of its own making.
fn what_codex_plants_in_its_copy(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let trap = Trap::in_world(&world);
    make_repository(&world.workspace());
    // Beside the folder, where a command inside can't look: it is shown as a patch for it to write.
    world.give_to_user(&world.workspace());
    let git_dir = picture(&world.workspace().join(".git"));
    let mut client = McpClient::start(&world);
    let mut bystander = Bystander::arrive(&mut client);
    let marks = trap.marks.display();
    let plant = format!(
        "#shell plant() {{ printf '[core]\\n\\tfsmonitor = \"touch {marks}/fsmonitor; false\"\\n[diff]\\n\\texternal = touch {marks}/external\\n\
         [filter \"evil\"]\\n\\tclean = touch {marks}/clean\\n\\tsmudge = touch {marks}/smudge\\n' >> $1/config; mkdir -p $1/hooks $1/info; \
         echo '* filter=evil diff=evil' > $1/info/attributes; \
         for h in pre-commit post-checkout post-index-change reference-transaction post-applypatch; do printf '#!/bin/sh\\ntouch {marks}/hook\\n' > $1/hooks/$h; \
         chmod +x $1/hooks/$h; done; }}; plant .git; git init -q sub 2>/dev/null || mkdir -p sub/.git; plant sub/.git; echo in-sub > sub/file; \
         mkdir bare; git init -q --bare bare; plant bare; echo more >> hello.txt; \
         echo '* filter=evil diff=evil' > .gitattributes; echo planted''-all"
    );
    let result = start(&mut client, &plant);
    completed(&result);
    assert!(content(&result).contains("planted-all"), "{result:#}");
    let thread = thread_of(&result);
    bystander.works(&mut client);
    // The trap is one: in the copy as it lies on the host, git would run it.
    client.close_stdin();
    client.wait();
    trap.nothing_ran();
    let changes = sessions_json(&world, &["diff", &thread]);
    assert!(changes["withheld"].to_string().contains("sub/.git"), "{changes:#}");
    assert!(!changes["files"].to_string().contains(".git/"), "{changes:#}");
    trap.nothing_ran();
    let preview = sessions_json(&world, &["apply", &thread, "--dry-run"]);
    eprintln!("{}: {preview:#}", lane.name());
    trap.nothing_ran();
    let applied = sessions(&world, &["apply", &thread]);
    trap.nothing_ran();
    eprintln!("{}", String::from_utf8_lossy(&applied.stderr));
    assert_eq!(
        picture(&world.workspace().join(".git")),
        git_dir,
        "the repository is as it was"
    );
    assert!(!world.workspace().join("sub/.git").exists());
    // A person's next commit.
    drop(git(&world.workspace(), &["status"]));
    drop(git(&world.workspace(), &["commit", "-q", "-a", "-m", "x"]));
    trap.nothing_ran();
    let copies: Vec<PathBuf> = world
        .session_directories()
        .iter()
        .map(|directory| directory.join("workspace"))
        .collect();
    let planted = copies.iter().find(|copy| copy.join("sub").exists()).unwrap();
    trap.is_a_trap(planted);
    leaves_nothing(&world, McpClient::start(&world));
}

/// A session of root's on a folder of the host runs as the folder's owner, who must not be root.
fn give_to_somebody(world: &World) {
    world.give_to_user(&world.workspace());
    if world.lane.user().is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let given = Command::new("chown")
        .args(["-R", "--no-dereference", "4242:4242"])
        .arg(world.workspace())
        .status();
    assert!(given.unwrap().success());
}

/// On the folder itself: nothing that git runs can be written, and what can be written git does not run.
fn what_codex_plants_in_the_folder_itself(lane: Lane) {
    let Some(world) = World::with_config(lane, "[workspace]\nmode = \"bind\"\n") else {
        return;
    };
    let trap = Trap::in_world(&world);
    make_repository(&world.workspace());
    give_to_somebody(&world);
    let git_dir = picture(&world.workspace().join(".git"));
    let mut client = McpClient::start(&world);
    let marks = trap.marks.display();
    let plant = format!(
        "#shell (printf '[core]\\n\\tfsmonitor = \"touch {marks}/fsmonitor; false\"\\n' >> .git/config) 2>&1 | tail -1; \
         (printf '#!/bin/sh\\ntouch {marks}/hook\\n' > .git/hooks/pre-commit) 2>&1 | tail -1; mv .git away 2>&1 | tail -1; find .git -delete 2>&1 | tail -1; \
         git config core.hooksPath $PWD 2>&1 | tail -1; printf '#!/bin/sh\\ntouch {marks}/hook\\n' > pre-commit; chmod +x pre-commit; \
         echo more >> hello.txt; echo planted''-all"
    );
    let result = start(&mut client, &plant);
    completed(&result);
    let text = content(&result);
    assert!(text.contains("planted-all"), "{result:#}");
    assert!(
        text.contains("Read-only file system"),
        "the refusal has its reason: {result:#}"
    );
    let mut bystander = Bystander::arrive(&mut client);
    bystander.works(&mut client);
    assert_eq!(
        fs::read_to_string(world.workspace().join("hello.txt")).unwrap(),
        "hello\nmore\n",
        "it worked on the folder"
    );
    assert_eq!(picture(&world.workspace().join(".git")), git_dir);
    drop(git(&world.workspace(), &["status"]));
    drop(git(&world.workspace(), &["commit", "-q", "-a", "-m", "x"]));
    trap.nothing_ran();
    trap.set_in(&world.workspace());
    leaves_nothing(&world, client);
    trap.nothing_ran();
    trap.is_a_trap(&world.workspace());
}

on_every_lane!(
    a_hostile_repository_of_the_host,
    what_codex_plants_in_its_copy,
    what_codex_plants_in_the_folder_itself,
);
