//! What `plan` prints: for a person, and as JSON. Pure.

mod network;

use crate::config::auth::AuthMode;
use crate::config::quantity::{ByteSize, Period};
use crate::config::{Config, Origin, QuotaSettings, SecretSource, Sourced};
use crate::plan::launch::{ContainerUser, LaunchPlan, Mount, MountAccess, UserMapping};
use crate::plan::request::WorkspaceMode;
use crate::plan::secrets::PlannedSecret;
use crate::supervise::command::CommandLine;
use serde_json::json;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// One table a subject, columns aligned, the command line last and whole, ready to be pasted.
pub fn human(config: &Config, plan: &LaunchPlan, command: &CommandLine) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_all(&mut text, config, plan, command);
    text.truncate(text.trim_end().len());
    text
}

fn write_all(text: &mut String, config: &Config, plan: &LaunchPlan, command: &CommandLine) -> fmt::Result {
    write_table(text, "launch", &launch_rows(config, plan))?;
    write_table(text, "limits", &limit_rows(config, plan))?;
    for missing in &plan.unenforced {
        writeln!(
            text,
            "  unenforced: {}: {}. {}",
            missing.limit.as_str(),
            missing.reason,
            missing.remedy
        )?;
    }
    if !plan.unenforced.is_empty() {
        writeln!(text)?;
    }
    write_table(text, "quotas", &quota_rows(&config.quota))?;
    write_table(text, "mounts", &plan.mounts.iter().map(mount_row).collect::<Vec<_>>())?;
    if !plan.secrets.is_empty() {
        write_table(
            text,
            "secrets (staged in memory, mounted read-only)",
            &plan.secrets.iter().map(secret_row).collect::<Vec<_>>(),
        )?;
    }
    write_table(text, "scratch", &scratch_rows(plan))?;
    write_table(
        text,
        "network (over the container's stdin and stdout)",
        &network::rows(config, &plan.network),
    )?;
    writeln!(text, "command\n  {command}")
}

/// What to print in each column.
type Row = [String; 3];

fn launch_rows(config: &Config, plan: &LaunchPlan) -> Vec<Row> {
    let engine = &plan.engine;
    let rootless = if engine.rootless { "rootless" } else { "rootful" };
    let oci = engine
        .oci_runtime
        .as_ref()
        .map(|runtime| format!(", --runtime {runtime}"))
        .unwrap_or_default();
    let described = format!(
        "{} {} {rootless}, {}{oci}",
        engine.kind, engine.version, engine.graph_driver
    );
    let codex = &config.codex;
    let provider = config.providers.get(&codex.provider.value);
    let address = match (config.auth.mode.value, provider) {
        (AuthMode::ChatGpt, _) => format!(" ({}, with the ChatGPT login)", config.auth.chatgpt_base_url.value),
        (AuthMode::Key, Some(provider)) => format!(" ({})", provider.base_url.value),
        (AuthMode::Key, None) => String::new(),
    };
    let mut rows = vec![
        row("engine", described, from(&config.runtime.origin)),
        row("client", engine.program.display(), ""),
        row("image", &plan.image.reference, from(&config.image.origin)),
        row("", &plan.image.id, ""),
        row("container", &plan.name, ""),
        row("user", user(&plan.user), ""),
        row("workspace", &plan.workspace_inside, workspace(plan.workspace_mode)),
        row(
            "provider",
            format!("{}{address}", codex.provider.value),
            from(&codex.provider.origin),
        ),
    ];
    match &codex.model {
        Some(model) => rows.push(row("model", &model.value, from(&model.origin))),
        None => rows.push(row("model", "Codex's choice", "")),
    }
    if let Some(effort) = &codex.effort {
        rows.push(row("effort", effort.value, from(&effort.origin)));
    }
    rows
}

fn workspace(mode: WorkspaceMode) -> &'static str {
    match mode {
        WorkspaceMode::Snapshot => "the session's copy",
        WorkspaceMode::Bind => "the folder itself",
        WorkspaceMode::Scratch => "an empty directory of the session",
    }
}

fn user(user: &ContainerUser) -> String {
    let inside = format!("{}:{}", user.uid, user.gid);
    let host = format!("{}:{}", user.host_uid, user.host_gid);
    match user.mapping {
        UserMapping::None => format!("{inside}, the same on the host"),
        UserMapping::KeepId => format!("{inside} inside, {host} on the host (keep-id)"),
        UserMapping::Range { first, count } => {
            format!("{inside} inside, {host} on the host ({count} ids from {first})")
        }
    }
}

/// Planned figures, with the origins of the configuration they came from.
fn limit_rows(config: &Config, plan: &LaunchPlan) -> Vec<Row> {
    let (set, planned) = (&config.limits, &plan.limits);
    vec![
        row("memory", planned.memory, from(&set.memory.origin)),
        row("cpus", planned.cpus, from(&set.cpus.origin)),
        row("pids", planned.pids, from(&set.pids.origin)),
        sourced("tmp", &set.tmp),
        sourced("workspace", &set.workspace),
        row("turn", Period::from(set.turn.value), from(&set.turn.origin)),
        row("idle", Period::from(set.idle.value), from(&set.idle.origin)),
        row("wall", Period::from(planned.wall), from(&set.wall.origin)),
        row(
            "open files",
            format!("{} (hard {})", plan.nofile.soft, plan.nofile.hard),
            "",
        ),
        sourced("enforcement", &set.enforcement),
    ]
}

/// What is bounded; a day's bounds are those of all sessions together.
fn quota_rows(quota: &QuotaSettings) -> Vec<Row> {
    let (session, day) = (&quota.session, &quota.day.spendable);
    let count = |name: &str, bound: &Option<Sourced<u64>>| bound.as_ref().map(|bound| sourced(name, bound));
    let size = |name: &str, bound: &Option<Sourced<ByteSize>>| bound.as_ref().map(|bound| sourced(name, bound));
    let time = |name: &str, bound: &Option<Sourced<Duration>>| {
        let bound = bound.as_ref()?;
        Some(row(name, Period::from(bound.value), from(&bound.origin)))
    };
    let bounds = [
        Some(sourced("sessions at once", &quota.sessions)),
        count("turns a session", &session.turns),
        count("tokens a session", &session.tokens),
        count("requests a session", &session.requests),
        time("wall a session", &session.wall),
        size("egress a session", &session.egress),
        count("sessions a day", &quota.day.sessions),
        count("turns a day", &day.turns),
        count("tokens a day", &day.tokens),
        count("requests a day", &day.requests),
        time("wall a day", &day.wall),
        size("egress a day", &day.egress),
    ];
    bounds.into_iter().flatten().collect()
}

fn sourced<T: Display>(name: &str, value: &Sourced<T>) -> Row {
    row(name, &value.value, from(&value.origin))
}

fn mount_row(mount: &Mount) -> Row {
    let access = match mount.access {
        MountAccess::ReadOnly => "read-only",
        MountAccess::ReadWrite => "writable",
    };
    row(&mount.target, access, mount.source.display())
}

/// Where it is seen and where it comes from: a value is not even read for this.
fn secret_row(secret: &PlannedSecret) -> Row {
    let from = match &secret.from.value {
        SecretSource::Env(name) => format!("environment variable {name}"),
        SecretSource::File(path) => format!("file {}", path.display()),
        SecretSource::Command(argv) => format!("command {}", argv.first().map_or("", String::as_str)),
    };
    row(&secret.target, from, &secret.from.origin)
}

fn scratch_rows(plan: &LaunchPlan) -> Vec<Row> {
    let tmpfs = plan.tmpfs.iter().map(|tmpfs| row(&tmpfs.target, tmpfs.size, ""));
    tmpfs.chain([row("/dev/shm", plan.shm, "")]).collect()
}

fn from(origin: &Origin) -> String {
    origin.to_string()
}

fn row(first: impl Display, second: impl Display, third: impl Display) -> Row {
    [first.to_string(), second.to_string(), third.to_string()]
}

fn write_table(text: &mut String, title: &str, rows: &[Row]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    writeln!(text, "{title}")?;
    for [a, b, c] in rows {
        let line = format!("  {a:first$}  {b:second$}  {c}");
        writeln!(text, "{}", line.trim_end())?;
    }
    writeln!(text)
}

/// `command` is the whole argv, program first. An argument that is not UTF-8 is shown with replacement characters.
pub fn json(config: &Config, plan: &LaunchPlan, command: &CommandLine) -> String {
    let arguments = command
        .args
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned());
    let argv: Vec<String> = std::iter::once(command.program.to_string_lossy().into_owned())
        .chain(arguments)
        .collect();
    let value = json!({ "config": config, "plan": plan, "command": argv });
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;
    use crate::config::network::{OutgoingProxy, PackageClient, ProxyAddress, ProxyException, Reach, Resolution};
    use crate::config::resolve::{ConfigFlags, Layers, resolve};
    use crate::host::facts::{EngineFacts, EngineKind};
    use crate::host::packages::PackageSource;
    use crate::plan::identity::SessionId;
    use crate::plan::launch::{
        FileLimit, LimitName, MountSharing, PinnedImage, PlannedLimits, SelinuxRelabel, Tmpfs, Unenforced,
    };
    use crate::supervise::owner::Owner;
    use crate::wire::contract::{CONTRACT, GuestSpec, ProcessNumber, SpawnRequest, StderrTo};
    use std::collections::BTreeMap;

    fn config() -> Config {
        let environment = Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_CPUS", "1.5")]);
        let flags = ConfigFlags {
            memory: Some("512m".parse().unwrap()),
            model: Some("gpt-5.5".parse().unwrap()),
            ..ConfigFlags::default()
        };
        resolve(Layers::default(), &environment, &flags).unwrap()
    }

    fn plan(config: &Config) -> LaunchPlan {
        let session = SessionId::from_random([0xab; 10]);
        let mount = |source: &str, target: &str, access, sharing| Mount {
            source: source.into(),
            target: target.into(),
            access,
            sharing,
        };
        LaunchPlan {
            enforcement: crate::config::Enforcement::Required,
            name: session.container_name(),
            owner: Owner {
                pid: 42,
                start_ticks: 7,
                boot_id: "b".into(),
            },
            engine: EngineFacts {
                kind: EngineKind::Podman,
                program: "/usr/bin/podman".into(),
                version: "4.3.1".into(),
                rootless: true,
                graph_driver: "overlay".into(),
                oci_runtime: Some("runc".into()),
            },
            image: PinnedImage {
                reference: config.image.value.to_string(),
                id: "sha256:00ff".into(),
            },
            user: ContainerUser {
                uid: 1000,
                gid: 1000,
                mapping: UserMapping::KeepId,
                host_uid: 1000,
                host_gid: 1000,
            },
            limits: PlannedLimits {
                memory: config.limits.memory.value,
                cpus: config.limits.cpus.value,
                pids: config.limits.pids.value,
                scratch: config.limits.tmp.value,
                workspace: config.limits.workspace.value,
                turn: config.limits.turn.value,
                idle: config.limits.idle.value,
                wall: config.limits.wall.value,
            },
            nofile: FileLimit {
                soft: 1024,
                hard: 20000,
            },
            nproc: None,
            network: crate::plan::network::network(&config.network, &[], None),
            mounts: vec![
                mount("/s/guest", "/run/guest", MountAccess::ReadOnly, MountSharing::Shared),
                mount(
                    "/s/ab/work",
                    "/home/u/project",
                    MountAccess::ReadWrite,
                    MountSharing::Private,
                ),
            ],
            secrets: Vec::new(),
            tmpfs: vec![Tmpfs {
                target: "/tmp".into(),
                size: config.limits.tmp.value,
            }],
            shm: "64m".parse().unwrap(),
            selinux: SelinuxRelabel::NotNeeded,
            guest_program: "/run/guest".into(),
            guest: GuestSpec {
                contract: CONTRACT,
                session: session.to_string(),
                model_port: 8080,
                proxy_port: 8081,
                wall_seconds: 28800,
                sized_mounts: vec!["/tmp".into()],
            },
            codex: SpawnRequest {
                process: ProcessNumber(1),
                argv: vec!["/opt/codex/bin/codex".into(), "app-server".into()],
                env: [("HOME".to_owned(), "/home".to_owned())].into(),
                cwd: "/home/u/project".into(),
                stderr: StderrTo::Log,
            },
            workspace_mode: WorkspaceMode::Snapshot,
            workspace_inside: "/home/u/project".into(),
            unenforced: vec![Unenforced {
                limit: LimitName::Memory,
                reason: "the memory controller is not delegated".into(),
                remedy: "Delegate it".into(),
            }],
            session,
        }
    }

    /// Everything that `[network]` can say.
    fn open(config: &mut Config) -> Vec<PackageSource> {
        let file = |line| Origin::File {
            path: "/home/u/.config/codex-mcp/config.toml".into(),
            line,
        };
        let network = &mut config.network;
        network.allow = vec![
            Sourced::new("api.example.com".parse().unwrap(), file(3)),
            Sourced::new("*.example.org:8443".parse().unwrap(), file(3)),
        ];
        network.deny = vec![Sourced::new("bad.example.org".parse().unwrap(), file(4))];
        network.private = vec![Sourced::new("10.0.0.0/8".parse().unwrap(), file(5))];
        network.reach = Sourced::new(Reach::Unrestricted, file(6));
        network.from = vec![Sourced::new(PackageClient::Npm, file(11))];
        network.nameservers = vec![Sourced::new("10.0.0.53:53".parse().unwrap(), file(7))];
        network.proxy = Some(OutgoingProxy {
            address: Sourced::new(
                ProxyAddress {
                    host: "proxy.example".parse().unwrap(),
                    port: "3128".parse().unwrap(),
                },
                file(8),
            ),
            credentials: None,
            exceptions: vec![
                ProxyException::Host("internal.example".parse().unwrap()),
                ProxyException::Addresses("10.0.0.0/8".parse().unwrap()),
            ],
            resolution: Resolution::ByProxy,
        });
        network.ca_bundle = Some(Sourced::new("/etc/company.pem".into(), file(9)));
        network.limits.bytes_per_second = Some(Sourced::new("10m".parse().unwrap(), file(10)));
        vec![PackageSource {
            client: PackageClient::Npm,
            program: "/usr/bin/npm".into(),
            rules: vec!["mirror.example".parse().unwrap()],
            environment: BTreeMap::new(),
            cargo_config: None,
        }]
    }

    #[test]
    fn a_person_sees_what_may_be_reached_and_who_says_so() {
        let mut config = config();
        let sources = open(&mut config);
        let plan = LaunchPlan {
            network: crate::plan::network::network(&config.network, &sources, None),
            ..plan(&config)
        };
        let text = human(&config, &plan, &command());
        let (_, network) = text.split_once("\nnetwork").unwrap();
        insta::assert_snapshot!(network.split_once("\n\n").unwrap().0);

        let value: serde_json::Value = serde_json::from_str(&json(&config, &plan, &command())).unwrap();
        let network = &value["plan"]["network"];
        assert_eq!(network["policy"]["allow"][0]["value"], "api.example.com:443");
        assert_eq!(
            network["policy"]["allow"][2],
            json!({ "value": "mirror.example:443", "origin": { "client": { "name": "npm" } } })
        );
        assert_eq!(network["policy"]["deny"][0]["value"], "bad.example.org");
        assert_eq!(network["policy"]["private"][0]["value"], "10.0.0.0/8");
        assert_eq!(network["sources"][0]["program"], "/usr/bin/npm");
        assert_eq!(network["ca_bundle"], "/etc/company.pem");
        assert_eq!(value["config"]["network"]["reach"]["value"], "unrestricted");
        assert_eq!(value["config"]["network"]["nameservers"][0]["value"], "10.0.0.53:53");
        assert_eq!(
            value["config"]["network"]["proxy"]["address"]["value"],
            "http://proxy.example:3128"
        );
    }

    #[test]
    fn a_person_sees_where_secrets_come_from_and_nothing_is_read() {
        let config = config();
        let secret = |name: &str, target: &str, value| PlannedSecret {
            name: name.parse().unwrap(),
            from: Sourced::new(value, Origin::Default),
            staged: format!("/run/user/1000/codex-mcp/secrets/ab/{name}").into(),
            target: target.into(),
        };
        let argv = ["pass", "show", "x"].map(str::to_owned).to_vec();
        let secrets = vec![
            secret("a", "/run/secrets/a", SecretSource::Env("NPM_TOKEN".into())),
            secret("b", "/home/codex/.netrc", SecretSource::File("/etc/b".into())),
            secret("c", "/run/secrets/c", SecretSource::Command(argv)),
        ];
        let plan = LaunchPlan {
            secrets,
            ..plan(&config)
        };
        let text = human(&config, &plan, &command());
        let (_, secrets) = text.split_once("\nsecrets").unwrap();
        insta::assert_snapshot!(secrets.split_once("\n\n").unwrap().0);
    }

    fn command() -> CommandLine {
        CommandLine::new("/usr/bin/podman").args(["run", "--label", "a b", "sha256:00ff", "guest"])
    }

    #[test]
    fn a_person_sees_each_limit_and_where_it_came_from() {
        let config = config();
        insta::assert_snapshot!(human(&config, &plan(&config), &command()));
    }

    #[test]
    fn a_person_sees_each_quota_that_is_set() {
        let mut config = config();
        let day = Origin::File {
            path: "/etc/codex-mcp/config.toml".into(),
            line: 4,
        };
        config.quota.session.wall = Some(Sourced::new(Duration::from_secs(5400), Origin::Default));
        config.quota.day.spendable.turns = Some(Sourced::new(50, day.clone()));
        config.quota.day.spendable.egress = Some(Sourced::new("5g".parse().unwrap(), day));
        let text = human(&config, &plan(&config), &command());
        let (_, quotas) = text.split_once("\nquotas").unwrap();
        insta::assert_snapshot!(quotas.split_once("\n\n").unwrap().0);
    }

    #[test]
    fn json_has_the_whole_command_line() {
        let config = config();
        let text = json(&config, &plan(&config), &command());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["command"],
            json!(["/usr/bin/podman", "run", "--label", "a b", "sha256:00ff", "guest"])
        );
        assert_eq!(
            value["config"]["limits"]["memory"]["origin"],
            json!({ "flag": { "name": "--memory" } })
        );
        assert_eq!(value["plan"]["image"]["id"], "sha256:00ff");
    }
}
