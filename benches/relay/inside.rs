//! A session's container without Codex in it, and processes that are started there over its link.

use crate::support::session;
use codex_mcp::auth::broker::passage::Endpoint;
use codex_mcp::auth::broker::{SessionTerms, witness as broker};
use codex_mcp::config::Sourced;
use codex_mcp::config::quantity::ProviderName;
use codex_mcp::config::rule::Rule;
use codex_mcp::config::target::Target;
use codex_mcp::egress::{Denial, Unwitnessed, Witness};
use codex_mcp::plan::launch::LaunchPlan;
use codex_mcp::session::container::Container;
use codex_mcp::session::directory::SessionDirectory;
use codex_mcp::session::registry::Sessions;
use codex_mcp::wire::contract::{ProcessEnd, ProcessNumber, SpawnRequest, StderrTo};
use codex_mcp::wire::link::{Ending, GuestLink};
use codex_mcp::wire::mux::MuxStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};

/// No audit: what is measured is the relay.
#[derive(Debug)]
struct Nobody;

impl broker::Witness for Nobody {
    fn credential_used(&self, _: &ProviderName, _: Endpoint) -> Result<(), broker::Unwitnessed> {
        Ok(())
    }
}

impl Witness for Nobody {
    fn allowed(&self, _: &Target, _: &Sourced<Rule>) -> Result<(), Unwitnessed> {
        Ok(())
    }

    fn denied(&self, _: &Denial) {}
}

pub struct Inside {
    container: Container,
    directory: SessionDirectory,
    link: GuestLink,
    plan: LaunchPlan,
    started: AtomicU32,
}

impl Inside {
    pub async fn start(sessions: &Sessions) -> Self {
        let (ground, decided) = sessions.decide(&session::request()).await.unwrap();
        let directory = session::prepare(&ground, &decided);
        let plan = decided.plan;
        let broker = ground
            .broker
            .for_session(SessionTerms::of(&ground.config, Arc::new(Nobody)))
            .await
            .unwrap();
        let network = &plan.network;
        let egress = ground
            .egress
            .for_session(network.policy.clone(), network.limits.clone(), Arc::new(Nobody));
        let mut container = Container::start(ground, plan.clone(), directory.root()).await.unwrap();
        let (link, _) = container.prove(&broker, &egress).await.unwrap();
        Self {
            container,
            directory,
            link,
            plan,
            started: AtomicU32::new(1),
        }
    }

    pub fn proxy(&self) -> String {
        format!("127.0.0.1:{}", self.plan.guest.proxy_port)
    }

    /// This program, as the container's client of the traffic.
    pub fn client(&self, arguments: &[&str]) -> Vec<String> {
        let program = format!("{}/relay", self.plan.workspace_inside);
        [&[program.as_str(), "client"], arguments]
            .concat()
            .iter()
            .map(|&word| word.to_owned())
            .collect()
    }

    pub async fn spawn(&self, argv: &[String]) -> Process {
        let number = ProcessNumber(self.started.fetch_add(1, Ordering::Relaxed));
        self.start_process(SpawnRequest {
            process: number,
            argv: argv.to_vec(),
            env: self.plan.codex.env.clone(),
            cwd: self.plan.workspace_inside.clone(),
            stderr: StderrTo::Stdout,
        })
        .await
    }

    /// Codex, as the plan has it.
    pub async fn codex(&self) -> Process {
        self.start_process(self.plan.codex.clone()).await
    }

    async fn start_process(&self, request: SpawnRequest) -> Process {
        let spawned = self.link.spawn(&request).await.unwrap();
        Process {
            stream: BufStream::new(spawned.stream),
            end: spawned.end,
        }
    }

    /// Runs it to its end and returns what it printed.
    pub async fn run(&self, argv: &[String]) -> String {
        let mut process = self.spawn(argv).await;
        process.close().await;
        let mut printed = String::new();
        process.stream.read_to_string(&mut printed).await.unwrap();
        let end = process.end.wait().await.unwrap();
        assert!(end == ProcessEnd::Code(0), "{argv:?} ended with {end:?}: {printed}");
        printed
    }

    pub async fn stop(mut self) {
        drop(self.link);
        self.container.stop(std::future::pending()).await;
        self.directory.remove().unwrap();
    }
}

/// A process inside, by its stdin and stdout.
pub struct Process {
    stream: BufStream<MuxStream>,
    end: Ending,
}

impl Process {
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn read(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).await.unwrap();
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line.truncate(line.trim_end().len());
        line
    }

    /// Ends its stdin.
    pub async fn close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub async fn wait(mut self) {
        assert_eq!(self.end.wait().await.unwrap(), ProcessEnd::Code(0));
    }
}
