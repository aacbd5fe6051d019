//! One kill, the next start, and a look at all that could be left.

use crate::chaos::dice::Dice;
use crate::chaos::folder::{self, Tree};
use crate::chaos::victims::{self, Process};
use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::rest::mounts_below;
use crate::support::world::World;
use codex_mcp::session::store::hold::Holder;
use codex_mcp::session::store::record::RecordFlaw;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What goes on when something dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Copying, create, start, handshake, and the begin of the first turn.
    Launch,
    Turn,
    /// `sessions apply`, by a process of its own.
    Apply,
    /// The apply that ends a turn.
    ApplyOfTurn,
    /// The container is given back.
    Parking,
    /// A launch on what there is.
    Resume,
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// Or the command that applies.
    Server,
    /// Whoever speaks MCP with the server: both pipes are closed at once.
    Client,
    /// PID 1 of the container.
    Guest,
    EngineClient,
    /// Conmon, or docker's shim.
    Keeper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Kill,
    /// Hangs for so long, and is killed then.
    StopThenKill(Duration),
}

/// What was thrown.
#[derive(Debug)]
pub struct Round {
    nth: u32,
    pub phase: Phase,
    pub victim: Victim,
    how: How,
    /// The moment, in thousandths of what the phase takes.
    at: u32,
    /// The moment counts from when there is such a victim, and not from the phase's begin.
    from_its_birth: bool,
    /// What lives on is killed before the next start, and not asked to end.
    then_kill: bool,
}

impl Round {
    pub fn thrown(dice: &mut Dice, nth: u32) -> Self {
        use Phase::{Apply, ApplyOfTurn, Launch, Parking, Resume, Turn};
        use Victim::{Client, EngineClient, Guest, Keeper, Server};
        let phase = *dice.one_of(&[Launch, Launch, Launch, Turn, Apply, ApplyOfTurn, Parking, Resume]);
        let victim = match phase {
            Apply => Server,
            _ => *dice.one_of(&[Server, Server, Client, Guest, EngineClient, Keeper]),
        };
        let how = match dice.below(3) {
            0 => How::StopThenKill(Duration::from_millis(200 + dice.below(1300))),
            _ => How::Kill,
        };
        Self {
            nth,
            phase,
            victim,
            how,
            at: u32::try_from(dice.below(1100)).unwrap(),
            from_its_birth: dice.coin(),
            then_kill: dice.coin(),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            phase, victim, how, at, ..
        } = self;
        let from = if self.from_its_birth { "of its own" } else { "of it" };
        write!(f, "{phase:?}, {victim:?}, {how:?}, at {at} ‰ {from}")
    }
}

/// The longest that a phase took when nothing was killed.
struct Spans {
    launch: Duration,
    turn: Duration,
    apply: Duration,
    parking: Duration,
}

/// A world that sees kill after kill.
pub struct Scene {
    world: World,
    /// Where secrets are staged.
    memory: tempfile::TempDir,
    /// Threads that a client was told of.
    known: Vec<String>,
    /// The folder as it has to be.
    folder: Tree,
    /// Containers that there may have been.
    names: BTreeSet<String>,
    /// Processes that owned them.
    owners: BTreeSet<u32>,
    spans: Spans,
}

/// What is under way.
struct UnderWay {
    client: Option<McpClient>,
    call: Option<u64>,
    command: Option<Child>,
    /// The folder, once what is applied is applied.
    applied: Option<Tree>,
    span: Duration,
}

const TOKEN: &str = "chaos-token-5d0f";

impl Scene {
    /// `None` where this machine has no such lane.
    pub fn new(lane: Lane) -> Option<Self> {
        let memory = tempfile::Builder::new()
            .prefix("codex-mcp-chaos-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let config = format!(
            "secrets_dir = \"{}\"\n[secrets.token]\nfrom = {{ env = \"CHAOS_TOKEN\" }}\n[sessions]\nrestarts = 100\n",
            memory.path().display()
        );
        let world = World::with_config(lane, &config)?;
        fs::set_permissions(memory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        world.give_to_user(memory.path());
        folder::fill(&world);
        let unknown = Duration::ZERO;
        let mut scene = Self {
            folder: folder::tree(&world.workspace()),
            world,
            memory,
            known: Vec::new(),
            names: BTreeSet::new(),
            owners: BTreeSet::new(),
            spans: Spans {
                launch: unknown,
                turn: unknown,
                apply: unknown,
                parking: unknown,
            },
        };
        scene.measure();
        Some(scene)
    }

    /// Everything once, and nothing dies.
    fn measure(&mut self) {
        let mut client = self.server(&[]);
        self.told(&client.tool("codex", json!({"prompt": "#text warm"})));
        let start = Instant::now();
        let thread = self
            .told(&client.tool("codex", json!({"prompt": "#text warm"})))
            .unwrap();
        self.spans.launch = start.elapsed();
        let start = Instant::now();
        let prompt = format!("#shell {}", folder::change(1_000_000));
        let turned = client.tool("codex-reply", json!({"threadId": thread, "prompt": prompt}));
        let changes = turned["structuredContent"]["changes"]["files"].as_array();
        assert!(changes.is_some_and(|files| files.len() > 100), "{turned:#}");
        self.spans.turn = start.elapsed();
        let start = Instant::now();
        assert!(self.command(&["sessions", "stop", &thread]).status().unwrap().success());
        self.spans.parking = start.elapsed();
        let start = Instant::now();
        assert!(
            self.command(&["sessions", "apply", &thread])
                .status()
                .unwrap()
                .success()
        );
        self.spans.apply = start.elapsed();
        self.folder = folder::changed(&self.folder, 1_000_000);
        client.close_stdin();
        assert!(client.wait().success());
        self.check(&[]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.codex_mcp(args);
        command
            .env("CHAOS_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn server(&mut self, args: &[&str]) -> McpClient {
        let client = McpClient::start_in(&self.world, |command| {
            command.args(args).env("CHAOS_TOKEN", TOKEN).stderr(Stdio::null());
        });
        self.owners.insert(client.child.id());
        client
    }

    /// Remembers the thread that a result names.
    fn told(&mut self, result: &Value) -> Option<String> {
        let thread = result["structuredContent"]["threadId"].as_str()?.to_owned();
        self.know(thread.clone());
        Some(thread)
    }

    fn know(&mut self, thread: String) {
        if !self.known.contains(&thread) {
            self.known.push(thread);
        }
    }

    /// Plays a round, and says what it hit.
    pub fn play(&mut self, round: &Round, dice: &mut Dice) -> String {
        // Those of earlier rounds were looked for.
        self.names.clear();
        self.owners.clear();
        let mut under_way = self.begin(round, dice);
        let hit = self.strike(round, &mut under_way);
        let applied = under_way.applied.take();
        self.over(round, under_way);
        self.next_start(round, dice);
        self.check(applied.as_slice());
        self.make_room();
        hit
    }

    fn begin(&mut self, round: &Round, dice: &mut Dice) -> UnderWay {
        let mut applied = None;
        let change = format!("#shell {}", folder::change(round.nth));
        let (mut client, span) = match round.phase {
            Phase::Apply => {
                let mut client = self.server(&[]);
                let thread = self.told(&client.tool("codex", json!({"prompt": change})));
                client.close_stdin();
                assert!(client.wait().success());
                let command = self.command(&["sessions", "apply", &thread.unwrap()]).spawn().unwrap();
                return UnderWay {
                    client: None,
                    call: None,
                    command: Some(command),
                    applied: Some(folder::changed(&self.folder, round.nth)),
                    span: self.spans.apply,
                };
            }
            Phase::ApplyOfTurn => {
                applied = Some(folder::changed(&self.folder, round.nth));
                (self.server(&["--apply"]), self.spans.turn + self.spans.apply)
            }
            Phase::Turn => (self.server(&[]), self.spans.turn),
            Phase::Parking => (self.server(&[]), self.spans.parking),
            Phase::Launch | Phase::Resume => (self.server(&[]), self.spans.launch),
        };
        let (mut call, mut command) = (None, None);
        match round.phase {
            Phase::Launch => {
                call = Some(client.begin_tool("codex", json!({"prompt": "#shell echo begun > begun; sleep 0.2"})));
            }
            Phase::Resume => {
                let thread = dice.one_of(&self.known).clone();
                let arguments = json!({"threadId": thread, "prompt": "#text again"});
                call = Some(client.begin_tool("codex-reply", arguments));
            }
            Phase::Turn | Phase::ApplyOfTurn | Phase::Parking | Phase::Apply => {
                let started = client.tool("codex", json!({"prompt": "#text ready"}));
                let thread = self.told(&started).unwrap_or_else(|| panic!("no thread: {started:#}"));
                if round.phase == Phase::Parking {
                    command = Some(self.command(&["sessions", "stop", &thread]).spawn().unwrap());
                } else {
                    call = Some(client.begin_tool("codex-reply", json!({"threadId": thread, "prompt": change})));
                }
            }
        }
        UnderWay {
            client: Some(client),
            call,
            command,
            applied,
            span,
        }
    }

    /// Waits for the moment, and kills.
    fn strike(&mut self, round: &Round, under_way: &mut UnderWay) -> String {
        let moment = under_way.span * round.at / 1000;
        if !round.from_its_birth {
            std::thread::sleep(moment);
        }
        // A server that was just started takes longer than a warm one, and a machine with other work longer yet.
        let deadline = Instant::now() + 3 * under_way.span + Duration::from_secs(5);
        let found = loop {
            let found = self.victim(round.victim, under_way);
            if !found.is_empty() || Instant::now() > deadline || round.victim == Victim::Client {
                break found;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if round.from_its_birth {
            std::thread::sleep(moment);
        }
        self.names.extend(self.world.container_names());
        if round.victim == Victim::Client
            && let Some(client) = &mut under_way.client
        {
            if let How::StopThenKill(hang) = round.how {
                std::thread::sleep(hang);
            }
            client.vanish();
            return "the client".to_owned();
        }
        if let How::StopThenKill(hang) = round.how {
            found.iter().for_each(|one| _ = one.signal(Signal::SIGSTOP));
            std::thread::sleep(hang);
        }
        let hit = found.iter().filter(|one| one.signal(Signal::SIGKILL)).count();
        match found.first() {
            Some(one) if hit > 0 => format!("{} {}", one.name, one.pid),
            // The rest of the round is a round all the same.
            _ => "nobody there".to_owned(),
        }
    }

    fn victim(&self, victim: Victim, under_way: &UnderWay) -> Vec<Process> {
        let lane = self.world.lane;
        let server = match (&under_way.client, &under_way.command) {
            (Some(client), _) => client.child.id(),
            (None, Some(command)) => command.id(),
            (None, None) => return Vec::new(),
        };
        let marker = self.marker();
        match victim {
            Victim::Client => Vec::new(),
            Victim::Server => victims::one(server).into_iter().collect(),
            Victim::EngineClient => victims::engine_clients(lane, server),
            Victim::Guest => victims::guests(&marker),
            Victim::Keeper => victims::keepers(lane, &marker, &self.world.container_names()),
        }
    }

    /// In every path of this world, and in no other.
    fn marker(&self) -> String {
        self.world.root().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Waits for what is still under way, and ends what still lives.
    fn over(&mut self, round: &Round, under_way: UnderWay) {
        let UnderWay {
            client, call, command, ..
        } = under_way;
        if let Some(mut client) = client {
            let is_gone = matches!(round.victim, Victim::Server | Victim::Client);
            if let Some(call) = call.filter(|_| !is_gone) {
                let answer = client.answer(call);
                self.told(&answer["result"]);
            }
            match is_gone {
                true => {}
                false if round.then_kill => client.signal(Signal::SIGKILL),
                false => client.close_stdin(),
            }
            client.wait();
            for thread in client.threads_told() {
                self.know(thread);
            }
            // One that was made after the strike.
            self.names.extend(self.world.container_names());
        }
        if let Some(mut command) = command {
            command.wait().unwrap();
        }
    }

    /// A server that starts one session or takes one up, and what a person does to tidy up.
    fn next_start(&mut self, round: &Round, dice: &mut Dice) {
        let mut client = self.server(&[]);
        let result = match round.nth.is_multiple_of(2) {
            true => client.tool("codex", json!({"prompt": "#text after"})),
            false => {
                let thread = dice.one_of(&self.known).clone();
                client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text after"}))
            }
        };
        self.names.extend(self.world.container_names());
        let said = result["structuredContent"]["content"].as_str();
        assert_eq!(said, Some("after"), "{round}: the next start: {result:#}");
        self.told(&result);
        let pruned = self.world.codex_mcp(&["sessions", "prune", "--json"]).output().unwrap();
        assert!(
            pruned.status.success(),
            "{round}: {}",
            String::from_utf8_lossy(&pruned.stderr)
        );
        client.close_stdin();
        assert!(client.wait().success(), "{round}");
    }

    /// What must hold; `or` is what the folder may also be.
    fn check(&mut self, or: &[Tree]) {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let mut left = self.world.lane.all_containers();
        left.retain(|name| names.contains(name));
        left.extend(
            self.owners
                .iter()
                .flat_map(|owner| self.world.lane.containers_of(*owner)),
        );
        assert!(left.is_empty(), "containers are left: {left:?}");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = victims::left(&self.marker(), &names);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "processes are left: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(mounts_below(self.world.root()), [""; 0], "something is mounted");
        let staged: Vec<_> = fs::read_dir(self.memory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(staged.is_empty(), "secrets are left: {staged:?}");
        self.check_records();
        self.check_folder(or);
    }

    fn check_records(&self) {
        let mut threads = Vec::new();
        for found in self.world.sessions() {
            let at = found.path.display();
            assert_eq!(found.holder, Holder::Nobody, "{at}: its lock is held");
            let record = match found.record {
                Ok(record) => record,
                // Its maker died within the moment of making it; it is nobody's, and goes when it is a minute old.
                Err(RecordFlaw::Missing) => {
                    let entries: Vec<_> = fs::read_dir(&found.path)
                        .unwrap()
                        .map(|entry| entry.unwrap().file_name())
                        .collect();
                    let only_ours = entries.iter().all(|name| name == "lock" || name == "record.json.new");
                    let made = found
                        .path
                        .metadata()
                        .unwrap()
                        .modified()
                        .unwrap()
                        .elapsed()
                        .unwrap_or_default();
                    assert!(
                        only_ours && made < Duration::from_secs(90),
                        "{at}: {entries:?}, {made:?} old"
                    );
                    continue;
                }
                Err(flaw) => panic!("{at}: {flaw}"),
            };
            assert!(record.end().is_some(), "{at}: {record:#?}");
            let thread = record
                .thread
                .as_ref()
                .unwrap_or_else(|| panic!("{at}: half-made: {record:#?}"));
            threads.push(thread.id.to_string());
        }
        let lost: Vec<_> = self.known.iter().filter(|thread| !threads.contains(thread)).collect();
        assert!(lost.is_empty(), "threads are lost: {lost:?}; there are {threads:?}");
        assert!(!self.world.path("state/damaged").exists(), "a record was damaged");
    }

    fn check_folder(&mut self, or: &[Tree]) {
        let now = folder::tree(&self.world.workspace());
        let candidates: Vec<&Tree> = std::iter::once(&self.folder).chain(or).collect();
        let differs: Vec<_> = candidates.iter().map(|tree| folder::differences(&now, tree)).collect();
        assert!(
            candidates.contains(&&now),
            "the folder is neither before nor after: {differs:?}, {:?}",
            now.first_key_value()
        );
        self.folder = now;
        let Ok(kept) = fs::read_dir(self.world.path("state/apply")) else {
            return;
        };
        let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let unfinished: Vec<_> = kept.filter(|name| !name.ends_with(".lock")).collect();
        assert!(unfinished.is_empty(), "an apply is unfinished: {unfinished:?}");
    }

    /// So that neither disk nor list grow with the rounds.
    fn make_room(&mut self) {
        while self.known.len() > 4 {
            let thread = self.known.remove(0);
            let removed = self.world.codex_mcp(&["sessions", "rm", &thread]).output().unwrap();
            assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of this failure: {}", self.world.root().display());
        }
    }
}
