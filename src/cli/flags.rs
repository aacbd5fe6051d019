//! The flags that `serve`, `run` and `plan` share.

use crate::config::ConfigFlags;
use crate::config::name::{Effort, ImageReference, LogFilter};
use crate::config::quantity::{ByteSize, CpuShare, ModelId, Period, PidsLimit, ProviderName};
use crate::config::rule::AllowList;
use crate::config::{ApplyWhen, Enforcement, RuntimeChoice};
use std::path::{Path, PathBuf};

/// What to launch and how. Each overrides its configuration key; `codex-mcp plan` shows what came out.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LaunchFlags {
    /// Container engine: auto, podman or docker
    #[arg(long, value_name = "ENGINE")]
    pub runtime: Option<RuntimeChoice>,
    /// Folder to work on; Codex gets a copy of it [default: the current folder]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Bring changes to the folder after each completed turn, instead of when somebody asks for it
    #[arg(long)]
    pub apply: bool,
    /// Memory of a session's container, such as 4g
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub memory: Option<ByteSize>,
    /// Processor time in CPUs, such as 2 or 0.5
    #[arg(long, value_name = "CPUS", help_heading = "Limits")]
    pub cpus: Option<CpuShare>,
    /// Processes and threads at once
    #[arg(long, value_name = "COUNT", help_heading = "Limits")]
    pub pids: Option<PidsLimit>,
    /// Size of each scratch file system, such as 1g
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub tmp: Option<ByteSize>,
    /// The longest that one turn may take, such as 30m
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub turn: Option<Period>,
    /// The longest that a session's container may live, such as 8h
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub wall: Option<Period>,
    /// Where this machine can't enforce a limit: required (refuse) or best-effort (start and say so)
    #[arg(long, value_name = "MODE", help_heading = "Limits")]
    pub enforcement: Option<Enforcement>,
    /// What commands may reach: rules such as api.example.com, *.example.org:8443 or 192.0.2.7:80, or none; repeatable
    #[arg(long, value_name = "RULE,…")]
    pub network: Vec<AllowList>,
    /// Image that sessions run in
    #[arg(long, value_name = "REFERENCE")]
    pub image: Option<ImageReference>,
    /// Name of a [providers.NAME] table
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub provider: Option<ProviderName>,
    /// Model id at the provider
    #[arg(long, value_name = "ID", help_heading = "Model")]
    pub model: Option<ModelId>,
    /// Reasoning effort: none, minimal, low, medium, high, xhigh, max or ultra
    #[arg(long, value_name = "EFFORT", help_heading = "Model")]
    pub effort: Option<Effort>,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged to stderr, such as info or warn,codex_mcp::session=debug
    #[arg(long, value_name = "FILTER")]
    pub log: Option<LogFilter>,
}

impl LaunchFlags {
    /// As configuration sees them. `current_dir` is what a relative workspace is relative to.
    pub fn config_flags(&self, current_dir: &Path) -> ConfigFlags {
        ConfigFlags {
            config: self.config.clone(),
            runtime: self.runtime,
            image: self.image.clone(),
            workspace: self.workspace.as_ref().map(|workspace| current_dir.join(workspace)),
            apply: self.apply.then_some(ApplyWhen::Turn),
            memory: self.memory,
            cpus: self.cpus,
            pids: self.pids,
            tmp: self.tmp,
            turn: self.turn,
            wall: self.wall,
            enforcement: self.enforcement,
            provider: self.provider.clone(),
            model: self.model.clone(),
            effort: self.effort,
            network: self.network(),
            // `serve` alone has it.
            listen: None,
            log: self.log.clone(),
        }
    }

    /// The rules of all occurrences together.
    fn network(&self) -> Option<AllowList> {
        let rules = self.network.iter().flat_map(|list| list.0.iter().cloned());
        (!self.network.is_empty()).then(|| AllowList(rules.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key;
    use clap::CommandFactory;

    #[derive(clap::Parser)]
    struct Parser {
        #[command(flatten)]
        flags: LaunchFlags,
    }

    fn parse(words: &[&str]) -> Result<LaunchFlags, clap::Error> {
        use clap::Parser as _;
        Parser::try_parse_from([&["x"], words].concat()).map(|parser| parser.flags)
    }

    #[test]
    fn every_flag_of_the_registry_exists_and_no_other() {
        let command = Parser::command();
        let mut flags: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        let mut registered: Vec<_> = key::REGISTRY.iter().filter_map(|key| key.flag).collect();
        // `serve` alone has it; its own test looks there.
        registered.retain(|flag| *flag != "--listen");
        registered.push("--config");
        flags.sort_unstable();
        registered.sort_unstable();
        assert_eq!(
            flags.iter().map(|flag| format!("--{flag}")).collect::<Vec<_>>(),
            registered
        );
    }

    #[test]
    fn values_are_parsed_and_a_bad_one_teaches() {
        let flags = parse(&["--memory", "4g", "--turn", "90s", "--workspace", "sub", "--apply"]).unwrap();
        let flags = flags.config_flags(Path::new("/here"));
        assert_eq!(flags.apply, Some(ApplyWhen::Turn));
        let none = parse(&[]).unwrap().config_flags(Path::new("/here"));
        assert_eq!(none.apply, None);
        assert_eq!(flags.memory, Some(ByteSize::from_mib(4096)));
        assert_eq!(flags.turn.map(|turn| turn.duration().as_secs()), Some(90));
        assert_eq!(flags.workspace.as_deref(), Some(Path::new("/here/sub")));
        assert_eq!(flags.network, None);
        let error = parse(&["--memory", "4GB"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("write `MiB`, `GiB`"), "{error}");
    }
    #[test]
    fn rules_of_all_occurrences_are_one_list() {
        let network = |words: &[&str]| {
            let flags = parse(words).unwrap().config_flags(Path::new("/"));
            flags
                .network
                .unwrap()
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            network(&["--network", "a.example,b.example:80", "--network=*.c.example"]),
            ["a.example:443", "b.example:80", "*.c.example:443"]
        );
        assert_eq!(network(&["--network", "none"]), Vec::<String>::new());
        let error = parse(&["--network", "https://a.example/"]).unwrap_err();
        assert!(error.to_string().contains("no scheme, path or user"), "{error}");
    }
}
