//! The guest's life: handshake, then one loop until the pipe closes or something else ends it, then everything dies.
//!
//! Works over any two halves of a pipe. One thread runs all of it, which is what makes starting and reaping free of
//! races: nothing is reaped between a start and its registration.

use crate::guest::endpoint::Endpoint;
use crate::guest::figures::Meter;
use crate::guest::memory::{self, MemoryWatch};
use crate::guest::oom_score::OomScore;
use crate::guest::processes::Processes;
use crate::guest::reaper::{Reach, group_lives};
use crate::guest::sockets::Sockets;
use crate::guest::spawn::{self, SpawnError};
use crate::guest::{readback, say};
use crate::wire::contract::{
    CONTRACT, Figures, FromGuest, GuestSpec, GuestStream, HostStream, LimitReading, MAX_FRAME, ProcessEnd,
    ProcessNumber, Ready, SpawnReply, SpawnRequest, ToGuest,
};
use crate::wire::frame::{self, ReadError};
use crate::wire::mux::{self, Incoming, MuxEnd, MuxStream};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nix::sys::signal::{Signal, killpg};
use serde::Deserialize;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Reports that wait for the host to read. The tasks that report ends wait here; nothing is lost.
const REPORTS: usize = 64;

/// How long a refusal waits for the host to read it and close the pipe.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the guest ended. Its `Display` is the last line of the guest's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Pipe(MuxEnd),
    /// The host's control stream ended or held something that is no order.
    Control(String),
    Refused(String),
    Shutdown,
    WallClock,
    Terminated,
}

impl Ending {
    /// EX_SOFTWARE of sysexits.h: the guest could not do its work.
    pub const UNABLE: u8 = 70;

    /// The container's exit code; the host takes none of it for proof.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pipe(MuxEnd::Closed | MuxEnd::LetGo) | Self::Shutdown => 0,
            Self::Pipe(_) | Self::Control(_) | Self::Refused(_) => Self::UNABLE,
            // As timeout(1) has it.
            Self::WallClock => 124,
            // 128 + SIGTERM
            Self::Terminated => 143,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(end) => write!(f, "ended: {end}"),
            Self::Control(what) => write!(f, "ended: the control stream: {what}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Shutdown => f.write_str("ended: the host asked for it"),
            Self::WallClock => f.write_str("ended: the session's wall-clock limit is over"),
            Self::Terminated => f.write_str("ended: terminated by a signal"),
        }
    }
}

/// The signals that concern the guest. PID 1 must handle each by name: the kernel drops those it does not.
#[derive(Debug)]
pub struct Signals {
    child: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Within a runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            child: unix::signal(SignalKind::child())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }
}

/// Serves one host over its pipe, then kills everything within `reach`. Without `oom_score`, children keep this process's.
pub async fn serve<R, W>(
    reader: R,
    writer: W,
    mut signals: Signals,
    reach: Reach,
    oom_score: Option<OomScore>,
    sockets: Sockets,
) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (openers, mut incoming, driver) = mux::guest(reader, writer);
    let mut driver = pin!(driver);
    let welcome = tokio::select! {
        biased;
        end = &mut driver => return Ending::Pipe(end),
        () = asked_to_end(&mut signals) => return Ending::Terminated,
        welcome = handshake(&mut incoming, sockets) => welcome,
    };
    let Welcome {
        control,
        spec,
        endpoints: Endpoints { model, proxy },
        gauges,
    } = match welcome {
        Ok(welcome) => welcome,
        Err(ending) => {
            // The refusal is on its way: the driver still has to bring it there.
            drop((incoming, openers));
            let _ = timeout(FAREWELL, driver).await;
            return ending;
        }
    };
    let (reader, writer) = tokio::io::split(control);
    let (reports, outbox) = mpsc::channel(REPORTS);
    let (figures, latest) = watch::channel(Measured::default());
    let mut guest = Guest {
        reach,
        oom_score,
        processes: Processes::default(),
        gauges,
        reports,
        figures,
    };
    let ending = tokio::select! {
        biased;
        end = driver => Ending::Pipe(end),
        ending = guest.live(signals, orders(reader), incoming, Duration::from_secs(spec.wall_seconds)) => ending,
        ending = report(writer, outbox, latest) => ending,
        () = model.serve(openers.model) => Ending::Pipe(MuxEnd::Closed),
        () = proxy.serve(openers.proxy) => Ending::Pipe(MuxEnd::Closed),
    };
    reach.kill(guest.processes.groups());
    ending
}

struct Welcome {
    control: MuxStream,
    spec: GuestSpec,
    endpoints: Endpoints,
    gauges: Gauges,
}

/// What the kernel counts about this container.
struct Gauges {
    kills: Option<MemoryWatch>,
    meter: Meter,
}

/// Figures, and the number of the question that was the last before them.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    figures: Figures,
    answers: u64,
}

struct Endpoints {
    model: Endpoint,
    proxy: Endpoint,
}

async fn handshake(incoming: &mut Incoming, sockets: Sockets) -> Result<Welcome, Ending> {
    let Some(mut control) = incoming.next().await else {
        return Err(Ending::Pipe(MuxEnd::Closed));
    };
    let body = frame::read_body(&mut control, MAX_FRAME)
        .await
        .map_err(|error| unreadable(&error))?;
    match prepare(&body, sockets).await {
        Ok((spec, ready, endpoints, gauges)) => {
            send(&mut control, &FromGuest::Ready(Box::new(ready))).await?;
            Ok(Welcome {
                control,
                spec,
                endpoints,
                gauges,
            })
        }
        Err(reason) => {
            send(&mut control, &FromGuest::Refused { reason: reason.clone() }).await?;
            // Else it were reset when it is dropped, and the reason lost with it.
            let _ = control.shutdown().await;
            Err(Ending::Refused(reason))
        }
    }
}

/// All that can be refused, in the words in which it is.
async fn prepare(body: &[u8], sockets: Sockets) -> Result<(GuestSpec, Ready, Endpoints, Gauges), String> {
    /// As much of the spec as every version has.
    #[derive(Deserialize)]
    struct Version {
        contract: u32,
    }
    let text = |error: &dyn fmt::Display| error.to_string();
    // The version first: another version's spec need not have our shape.
    let Version { contract } = serde_json::from_slice(body).map_err(|error| text(&error))?;
    if contract != CONTRACT {
        return Err(format!(
            "this guest speaks contract {CONTRACT}, the host speaks {contract}"
        ));
    }
    let spec: GuestSpec = frame::parse(body).map_err(|error| text(&error))?;
    let bind = async |what: &str, port, kind| {
        let bound = Endpoint::bind(port, kind).await;
        bound.map_err(|error| format!("can't bind {what}, port {port}: {error}"))
    };
    let endpoints = Endpoints {
        model: bind("the model endpoint", spec.model_port, GuestStream::Model).await?,
        proxy: bind("the proxy", spec.proxy_port, GuestStream::Proxy).await?,
    };
    let ready = readback::read(&spec.sized_mounts).map_err(|error| text(&error))?;
    // After the engine's own filter was read back, so that this one can't stand in for it.
    sockets
        .apply()
        .map_err(|error| format!("can't restrict which sockets are made: {error}"))?;
    let cgroup = readback::own_cgroup().map_err(|error| text(&error))?;
    let gauges = Gauges {
        // Without a limit of its own, this cgroup may be the host's: its kills are not ours to report.
        kills: match ready.cgroup.memory {
            LimitReading::Limited(_) => cgroup.memory_events().map(MemoryWatch::new),
            LimitReading::Unlimited | LimitReading::Unknown(_) => None,
        },
        meter: Meter::new(cgroup.counts(&ready.cgroup, Path::exists)),
    };
    Ok((spec, ready, endpoints, gauges))
}

async fn send(control: &mut MuxStream, message: &FromGuest) -> Result<(), Ending> {
    frame::write(control, message)
        .await
        .map_err(|error| Ending::Control(error.to_string()))
}

fn unreadable(error: &ReadError) -> Ending {
    Ending::Control(error.to_string())
}

/// The host's orders. A task of its own, because a frame must not be abandoned half-read.
fn orders(mut control: ReadHalf<MuxStream>) -> mpsc::Receiver<Result<ToGuest, ReadError>> {
    let (orders, inbox) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let order = frame::read(&mut control, MAX_FRAME).await;
            let last = order.is_err();
            if orders.send(order).await.is_err() || last {
                return;
            }
        }
    });
    inbox
}

/// Brings the host what there is to say. Of figures only the latest are worth it, so those that a slow host did not read
/// are overtaken and never queue. They go first: whoever hears of a kill, or of an end, knows them by then. An answer goes last:
/// whoever asked has heard of all that there was to say.
async fn report(
    mut control: WriteHalf<MuxStream>,
    mut outbox: mpsc::Receiver<FromGuest>,
    mut latest: watch::Receiver<Measured>,
) -> Ending {
    let mut answered = 0;
    loop {
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            Ok(()) = latest.changed() => {
                let Measured { figures, answers } = *latest.borrow_and_update();
                if answers > answered {
                    messages.push(FromGuest::Figures { figures, answers: answered });
                    messages.extend((0..outbox.len()).map_while(|_| outbox.try_recv().ok()));
                    answered = answers;
                }
                messages.push(FromGuest::Figures { figures, answers });
            }
            Some(message) = outbox.recv() => messages.push(message),
            // The guest holds both senders as long as it lives.
            else => std::future::pending().await,
        }
        for message in messages {
            if let Err(error) = frame::write(&mut control, &message).await {
                return Ending::Control(error.to_string());
            }
        }
    }
}

async fn asked_to_end(signals: &mut Signals) {
    tokio::select! {
        _ = signals.terminate.recv() => {}
        _ = signals.interrupt.recv() => {}
    }
}

struct Guest {
    reach: Reach,
    oom_score: Option<OomScore>,
    processes: Processes,
    gauges: Gauges,
    reports: mpsc::Sender<FromGuest>,
    figures: watch::Sender<Measured>,
}

impl Guest {
    async fn live(
        &mut self,
        mut signals: Signals,
        mut orders: mpsc::Receiver<Result<ToGuest, ReadError>>,
        mut incoming: Incoming,
        wall: Duration,
    ) -> Ending {
        let mut wall = pin!(sleep(wall));
        let mut openings = FuturesUnordered::new();
        let mut look = interval(memory::INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset_at(Instant::now() + memory::INTERVAL);
        loop {
            tokio::select! {
                _ = signals.child.recv() => self.reap(),
                _ = signals.terminate.recv() => return Ending::Terminated,
                _ = signals.interrupt.recv() => return Ending::Terminated,
                () = &mut wall => return Ending::WallClock,
                Some(order) = orders.recv() => match order {
                    Ok(ToGuest::Signal { process, signal }) => self.signal(process, signal),
                    Ok(ToGuest::Measure { question }) => self.measure(question),
                    Ok(ToGuest::Shutdown) => return Ending::Shutdown,
                    Err(error) => return unreadable(&error),
                },
                Some(stream) = incoming.next() => openings.push(opening(stream)),
                Some(opened) = openings.next() => match opened {
                    Ok((HostStream::Spawn(request), stream)) => self.spawn(&request, stream),
                    // One that the host reset before it said anything.
                    Err(ReadError::Io(_)) => {}
                    Err(error) => return unreadable(&error),
                },
                _ = look.tick() => {
                    self.look_at_memory();
                    self.look_at_figures();
                }
            }
        }
    }

    /// No `await` between the start and the registration: that is what keeps the reaper away.
    fn spawn(&mut self, request: &SpawnRequest, stream: MuxStream) {
        let started = match self.processes.group(request.process) {
            Some(_) => Err(SpawnError::NumberTaken(request.process.0)),
            None => match &self.oom_score {
                Some(score) => score.for_child(|| spawn::start(request)),
                None => spawn::start(request),
            },
        };
        match started {
            Ok(child) => {
                let end = self.processes.started(request.process, child.pid);
                tokio::spawn(accompany(child, stream, request.process, end, self.reports.clone()));
            }
            Err(error) => {
                let reply = SpawnReply::Failed {
                    reason: error.to_string(),
                };
                tokio::spawn(refuse(stream, reply));
            }
        }
    }

    fn reap(&mut self) {
        let ends = self.reach.reap(&self.processes.running());
        if ends
            .iter()
            .any(|(_, end)| *end == ProcessEnd::Signal(Signal::SIGKILL as i32))
        {
            // The cause before its effect: the host hears of the kill, then of the end.
            self.look_at_memory();
        }
        for (pid, end) in ends {
            self.processes.ended(pid, end);
        }
        self.processes.forget_groups(group_lives);
    }

    fn signal(&self, process: ProcessNumber, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else {
            return say(format_args!("asked for signal {signal}, which is none"));
        };
        if let Some(group) = self.processes.group(process) {
            // It may have ended a moment ago.
            let _ = killpg(group, signal);
        }
    }

    fn look_at_memory(&mut self) {
        let Some(watch) = &mut self.gauges.kills else { return };
        let kills = watch.fresh();
        if kills == 0 {
            return;
        }
        let figures = self.gauges.meter.read();
        self.figures.send_modify(|last| last.figures = figures);
        // A host that does not read gets the sum with the next look.
        if self.reports.try_send(FromGuest::OutOfMemory { kills }).is_ok() {
            watch.report(kills);
        }
    }

    fn look_at_figures(&mut self) {
        if let Some(figures) = self.gauges.meter.news() {
            self.figures.send_modify(|last| last.figures = figures);
        }
    }

    fn measure(&mut self, question: u64) {
        self.look_at_memory();
        let figures = self.gauges.meter.read();
        self.figures.send_replace(Measured {
            figures,
            answers: question,
        });
    }
}

async fn opening(mut stream: MuxStream) -> Result<(HostStream, MuxStream), ReadError> {
    let opening = frame::read(&mut stream, MAX_FRAME).await?;
    Ok((opening, stream))
}

async fn refuse(mut stream: MuxStream, reply: SpawnReply) {
    // The host may have lost interest.
    let _ = frame::write(&mut stream, &reply).await;
    let _ = stream.shutdown().await;
}

/// A process from its start to the report of its end.
async fn accompany(
    child: spawn::Child,
    mut stream: MuxStream,
    process: ProcessNumber,
    end: oneshot::Receiver<ProcessEnd>,
    reports: mpsc::Sender<FromGuest>,
) {
    let reply = SpawnReply::Started {
        pid: child.pid.as_raw().unsigned_abs(),
    };
    // Where the host has lost interest, the pump ends at once and the child's pipes with it.
    let _ = frame::write(&mut stream, &reply).await;
    let (drained, output_ended) = oneshot::channel();
    tokio::spawn(spawn::pump(child, stream, drained));
    if let Some(end) = spawn::settled(end, output_ended).await {
        let _ = reports.send(FromGuest::Exited { process, end }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::contract::{GuestStream, StderrTo};
    use crate::wire::link::{self, Connected, GuestLink, GuestStreams, LinkEnd, LinkError, Spawned};
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    fn spec() -> GuestSpec {
        GuestSpec {
            contract: CONTRACT,
            session: "test".into(),
            model_port: free_port(),
            proxy_port: free_port(),
            wall_seconds: 600,
            sized_mounts: vec!["/dev/shm".into()],
        }
    }

    fn guest(oom_score: Option<OomScore>) -> (DuplexStream, JoinHandle<Ending>) {
        let (near, far) = duplex(64 << 10);
        let (reader, writer) = split(far);
        let signals = Signals::listen().unwrap();
        (
            near,
            tokio::spawn(serve(
                reader,
                writer,
                signals,
                Reach::Own,
                oom_score,
                Sockets::AsTheyAre,
            )),
        )
    }

    async fn connect(spec: &GuestSpec) -> (GuestLink, GuestStreams, JoinHandle<Ending>) {
        let (pipe, guest) = guest(None);
        let (reader, writer) = split(pipe);
        let Connected { link, streams, .. } = link::connect(reader, writer, spec).await.unwrap();
        (link, streams, guest)
    }

    fn request(number: u32, argv: &[&str]) -> SpawnRequest {
        SpawnRequest {
            process: ProcessNumber(number),
            argv: argv.iter().map(|&word| word.into()).collect(),
            env: BTreeMap::from([("GREETING".into(), "good day".into())]),
            cwd: "/".into(),
            stderr: StderrTo::Stdout,
        }
    }

    fn shell(number: u32, script: &str) -> SpawnRequest {
        request(number, &["/bin/sh", "-c", script])
    }

    async fn output(spawned: &mut Spawned) -> String {
        let mut heard = String::new();
        spawned.stream.read_to_string(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn ready_comes_with_what_was_read_back() {
        let (pipe, _guest) = guest(None);
        let (reader, writer) = split(pipe);
        let connected = link::connect(reader, writer, &spec()).await.unwrap();
        assert_eq!(connected.ready.contract, CONTRACT);
        assert_eq!(connected.ready.version, env!("CARGO_PKG_VERSION"));
        let uid = nix::unistd::getuid().as_raw();
        assert_eq!(connected.ready.identity.uids[0], uid);
    }

    #[tokio::test]
    async fn cat_gives_back_what_it_gets_and_ends_with_its_input() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let Spawned { stream, mut end, pid } = link.spawn(&request(1, &["/bin/cat"])).await.unwrap();
        assert!(pid > 1);
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let (mut reader, mut writer) = split(stream);
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        writing.await.unwrap();
        assert_eq!(end.wait().await, Ok(ProcessEnd::Code(0)));
        assert_eq!(end.wait().await, Ok(ProcessEnd::Code(0)));
    }

    #[tokio::test]
    async fn a_child_gets_the_requests_environment_directory_and_streams_only() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let mut env = request(1, &["/usr/bin/env"]);
        env.cwd = "/proc".into();
        assert_eq!(
            output(&mut link.spawn(&env).await.unwrap()).await,
            "GREETING=good day\n"
        );
        let mut there = shell(2, "pwd; echo complaint >&2");
        there.cwd = "/usr".into();
        assert_eq!(
            output(&mut link.spawn(&there).await.unwrap()).await,
            "/usr\ncomplaint\n"
        );
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a child that the guest had no part in, to compare with"
    )]
    async fn a_child_inherits_none_of_the_guests_descriptors() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let ls = ["/bin/ls", "/proc/self/fd"];
        let _other = link.spawn(&request(1, &["/bin/cat"])).await.unwrap();
        let inside = output(&mut link.spawn(&request(2, &ls)).await.unwrap()).await;
        let plain = std::process::Command::new(ls[0]).arg(ls[1]).output().unwrap();
        assert_eq!(inside, String::from_utf8(plain.stdout).unwrap());
    }

    #[tokio::test]
    async fn a_child_leads_a_group_of_its_own() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let mut spawned = link
            .spawn(&shell(1, "cut -d' ' -f5 /proc/self/stat; echo $$"))
            .await
            .unwrap();
        let pid = spawned.pid;
        assert_eq!(output(&mut spawned).await, format!("{pid}\n{pid}\n"));
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel's word on this process, to compare with"
    )]
    async fn a_child_goes_before_the_guest_when_memory_ends() {
        let mine = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = mine();
        let (pipe, _guest) = guest(Some(OomScore::open().unwrap()));
        let (reader, writer) = split(pipe);
        let link = link::connect(reader, writer, &spec()).await.unwrap().link;
        let mut spawned = link
            .spawn(&request(1, &["/bin/cat", "/proc/self/oom_score_adj"]))
            .await
            .unwrap();
        assert_eq!(output(&mut spawned).await, "500\n");
        assert_eq!(mine(), before);
    }

    /// What there is to measure is this test's own cgroup and may be nothing; that it is answered is what counts here.
    #[tokio::test]
    async fn a_question_is_answered_while_something_runs() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let _busy = link.spawn(&request(1, &["/bin/cat"])).await.unwrap();
        let long = Duration::from_secs(600);
        for _ in 0..3 {
            timeout(Duration::from_secs(60), link.measure(long)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn figures_overtake_one_another_and_an_answer_comes_after_all_there_was_to_say() {
        let (host, guest) = duplex(1 << 16);
        let (host_reader, host_writer) = split(host);
        let (reader, writer) = split(guest);
        let (opener, _streams, driver) = mux::host(host_reader, host_writer);
        tokio::spawn(driver);
        let (_openers, mut incoming, driver) = mux::guest(reader, writer);
        tokio::spawn(driver);
        let mut control = opener.open().await.unwrap();
        frame::write(&mut control, &ToGuest::Shutdown).await.unwrap();
        let (_orders, writer) = split(incoming.next().await.unwrap());
        let (reports, outbox) = mpsc::channel(1);
        let (figures, latest) = watch::channel(Measured::default());
        reports.try_send(FromGuest::OutOfMemory { kills: 1 }).unwrap();
        for answers in 1..100 {
            figures.send_modify(|last| last.answers = answers);
        }
        tokio::spawn(report(writer, outbox, latest));
        let mut told: Vec<FromGuest> = Vec::new();
        for _ in 0..3 {
            told.push(frame::read(&mut control, MAX_FRAME).await.unwrap());
        }
        let [before, answer] = [0, 99].map(|answers| FromGuest::Figures {
            figures: Figures::default(),
            answers,
        });
        assert_eq!(told, [before, FromGuest::OutOfMemory { kills: 1 }, answer]);
    }

    #[tokio::test]
    async fn every_way_to_end_is_reported() {
        let (link, _streams, _guest) = connect(&spec()).await;
        for (number, script, end) in [
            (1, "exit 7", ProcessEnd::Code(7)),
            (2, "kill -TERM $$", ProcessEnd::Signal(15)),
            // nix has no name for real-time signals and would lose this one.
            (3, "kill -s 40 $$", ProcessEnd::Signal(40)),
        ] {
            let mut spawned = link.spawn(&shell(number, script)).await.unwrap();
            assert_eq!(spawned.end.wait().await, Ok(end), "{script}");
        }
    }

    #[tokio::test]
    async fn signals_reach_the_whole_group_even_after_its_leader() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let mut spawned = link.spawn(&shell(1, "sleep 1000 & echo up; exit 3")).await.unwrap();
        let mut up = [0; 3];
        spawned.stream.read_exact(&mut up).await.unwrap();
        // The grandchild keeps the output open: the end is told nevertheless.
        assert_eq!(spawned.end.wait().await, Ok(ProcessEnd::Code(3)));
        link.signal(ProcessNumber(1), 15).await.unwrap();
        assert_eq!(output(&mut spawned).await, "");
    }

    #[tokio::test]
    async fn output_that_comes_after_the_end_is_not_lost() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let mut spawned = link
            .spawn(&shell(1, "(read line; echo late) & exec true"))
            .await
            .unwrap();
        assert_eq!(spawned.end.wait().await, Ok(ProcessEnd::Code(0)));
        // A background job of a shell has /dev/null for input, so its `read` ends by itself.
        assert_eq!(output(&mut spawned).await, "late\n");
    }

    #[tokio::test]
    async fn input_that_nobody_reads_does_not_block_the_host() {
        let (link, streams, guest) = connect(&spec()).await;
        let script = "exec <&-; echo closed; exec sleep 1000";
        let mut spawned = link.spawn(&shell(1, script)).await.unwrap();
        let mut closed = [0; 7];
        spawned.stream.read_exact(&mut closed).await.unwrap();
        // More than the windows of the stream and the pipe together.
        spawned.stream.write_all(&vec![0; 1 << 20]).await.unwrap();
        // The end of the guest takes `sleep` along.
        drop((link, streams, spawned));
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why_and_the_link_goes_on() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let mut nowhere = shell(3, "true");
        nowhere.cwd = "/nonexistent".into();
        for (bad, part) in [
            (request(1, &["/nonexistent/program"]), "/nonexistent/program"),
            (request(2, &["relative"]), "absolute"),
            (request(2, &[]), "absolute"),
            (nowhere, "in /nonexistent"),
        ] {
            match link.spawn(&bad).await {
                Err(LinkError::Spawn(reason)) => assert!(reason.as_str().contains(part), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        // A number that failed is free again.
        let mut spawned = link.spawn(&shell(3, "echo fine")).await.unwrap();
        assert_eq!(output(&mut spawned).await, "fine\n");
    }

    #[tokio::test]
    async fn a_number_is_not_given_twice() {
        let (link, _streams, _guest) = connect(&spec()).await;
        let _first = link.spawn(&request(1, &["/bin/cat"])).await.unwrap();
        assert!(matches!(
            link.spawn(&request(1, &["/bin/cat"])).await,
            Err(LinkError::NumberTaken(_))
        ));
    }

    #[tokio::test]
    async fn the_end_of_the_pipe_kills_what_runs() {
        let (link, streams, guest) = connect(&spec()).await;
        let mut spawned = link
            .spawn(&shell(1, "trap '' TERM HUP; echo up; while :; do sleep 1000; done"))
            .await
            .unwrap();
        let mut up = [0; 3];
        spawned.stream.read_exact(&mut up).await.unwrap();
        let group = nix::unistd::Pid::from_raw(spawned.pid.cast_signed());
        drop((link, streams, spawned));
        assert_eq!(guest.await.unwrap(), Ending::Pipe(MuxEnd::Closed));
        // Killed, and waited for by nobody, since this is not PID 1: its end can be taken here.
        let end = nix::sys::wait::waitpid(group, None).unwrap();
        assert_eq!(end, nix::sys::wait::WaitStatus::Signaled(group, Signal::SIGKILL, false));
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_guest_and_the_link_says_so() {
        let (link, _streams, guest) = connect(&spec()).await;
        let mut spawned = link.spawn(&request(1, &["/bin/cat"])).await.unwrap();
        link.shutdown().await.unwrap();
        assert_eq!(guest.await.unwrap(), Ending::Shutdown);
        assert_eq!(link.ended().await, LinkEnd::Pipe(MuxEnd::Closed));
        assert_eq!(spawned.end.wait().await, Err(LinkEnd::Pipe(MuxEnd::Closed)));
        assert!(matches!(
            link.spawn(&request(2, &["/bin/cat"])).await,
            Err(LinkError::Ended(_))
        ));
        assert!(matches!(
            link.signal(ProcessNumber(1), 15).await,
            Err(LinkError::Ended(_))
        ));
    }

    #[tokio::test]
    async fn the_wall_clock_ends_the_guest() {
        let (link, _streams, guest) = connect(&GuestSpec {
            wall_seconds: 1,
            ..spec()
        })
        .await;
        assert_eq!(guest.await.unwrap(), Ending::WallClock);
        assert_eq!(link.ended().await, LinkEnd::Pipe(MuxEnd::Closed));
    }

    #[tokio::test]
    async fn connections_to_the_endpoint_become_streams() {
        let spec = spec();
        let (_link, mut streams, _guest) = connect(&spec).await;
        let mut client = TcpStream::connect(("127.0.0.1", spec.model_port)).await.unwrap();
        client.write_all(b"POST /responses").await.unwrap();
        let mut opened = streams.next().await.unwrap();
        assert_eq!(opened.kind, GuestStream::Model);
        let mut heard = [0; 15];
        opened.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"POST /responses");
        opened.stream.write_all(b"200").await.unwrap();
        opened.stream.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "200");
    }

    #[tokio::test]
    async fn each_port_is_its_own_kind_of_stream() {
        let spec = spec();
        let (_link, mut streams, _guest) = connect(&spec).await;
        for (port, kind) in [
            (spec.proxy_port, GuestStream::Proxy),
            (spec.model_port, GuestStream::Model),
        ] {
            let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            assert_eq!(streams.next().await.unwrap().kind, kind);
        }
    }

    async fn clients(port: u16, number: usize) -> Vec<TcpStream> {
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        clients
    }

    async fn opened(streams: &mut GuestStreams, number: usize, kind: &GuestStream) -> Vec<link::Opened> {
        let mut held = Vec::new();
        for _ in 0..number {
            held.push(streams.next().await.unwrap());
        }
        assert!(held.iter().all(|opened| opened.kind == *kind));
        held
    }

    #[tokio::test]
    async fn more_connections_than_a_ports_share_wait_their_turn() {
        for (kind, share) in [
            (GuestStream::Model, mux::FOR_MODEL),
            (GuestStream::Proxy, mux::FOR_PROXY),
        ] {
            let spec = spec();
            let (_link, mut streams, _guest) = connect(&spec).await;
            let port = match kind {
                GuestStream::Model => spec.model_port,
                GuestStream::Proxy => spec.proxy_port,
            };
            let mut clients = clients(port, share + 1).await;
            let mut held = opened(&mut streams, share, &kind).await;
            let mut last = Box::pin(streams.next());
            assert!(futures_util::poll!(&mut last).is_pending());
            clients.remove(0);
            held.clear();
            assert!(last.await.is_some());
        }
    }

    /// The host is still at work on streams whose clients have gone: a dial, say. It has room for one share of them.
    #[tokio::test]
    async fn clients_that_come_and_go_faster_than_the_host_lets_go_wait_for_the_host() {
        let spec = spec();
        let (link, mut streams, _guest) = connect(&spec).await;
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            waiting.extend(clients(spec.proxy_port, mux::FOR_PROXY - waiting.len()).await);
            held.clear();
            held = opened(&mut streams, mux::FOR_PROXY, &GuestStream::Proxy).await;
            for client in waiting.drain(..) {
                client.set_zero_linger().unwrap();
            }
            for opened in &mut held {
                let reset = opened.stream.read_u8().await.unwrap_err();
                assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
            }
            waiting = clients(spec.proxy_port, 1).await;
            tokio::select! {
                biased;
                end = link.ended() => panic!("{end}"),
                _ = streams.next() => panic!("a stream beyond the share"),
                () = sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    #[tokio::test]
    async fn a_client_tells_a_cut_from_an_end() {
        for cut in [true, false] {
            let spec = spec();
            let (_link, mut streams, _guest) = connect(&spec).await;
            let mut client = clients(spec.proxy_port, 1).await.remove(0);
            let mut opened = streams.next().await.unwrap();
            opened.stream.write_all(b"half an answer").await.unwrap();
            if !cut {
                opened.stream.shutdown().await.unwrap();
            }
            drop(opened);
            let mut answer = Vec::new();
            let end = client.read_to_end(&mut answer).await.map_err(|error| error.kind());
            match cut {
                true => assert_eq!(end, Err(io::ErrorKind::ConnectionReset)),
                false => assert_eq!((end, &answer[..]), (Ok(14), &b"half an answer"[..])),
            }
        }
    }

    /// It would notice the cut by reading, which it does not do.
    #[tokio::test]
    async fn a_client_that_reads_nothing_does_not_keep_its_place_past_the_hosts_end() {
        let spec = spec();
        let (_link, mut streams, _guest) = connect(&spec).await;
        let client = clients(spec.proxy_port, 1).await;
        let mut stuffed_one = streams.next().await.unwrap();
        let stuffed = async { while stuffed_one.stream.write_all(&[0; 4096]).await.is_ok() {} };
        assert!(timeout(Duration::from_millis(300), stuffed).await.is_err());
        drop(stuffed_one);
        tokio::time::pause();
        // As many as there are places: the last of them is the one that was kept.
        let _clients = clients(spec.proxy_port, mux::FOR_PROXY).await;
        opened(&mut streams, mux::FOR_PROXY, &GuestStream::Proxy).await;
        drop(client);
    }

    /// As pooled clients do: the host has answered, ended and let go, and they neither close nor say anything.
    #[tokio::test]
    async fn clients_that_stay_after_the_hosts_end_give_their_places_back() {
        let spec = spec();
        let (_link, mut streams, _guest) = connect(&spec).await;
        let mut staying = clients(spec.proxy_port, mux::FOR_PROXY).await;
        for mut answered in opened(&mut streams, mux::FOR_PROXY, &GuestStream::Proxy).await {
            answered.stream.write_all(b"whole").await.unwrap();
            answered.stream.shutdown().await.unwrap();
        }
        tokio::time::pause();
        let before = Instant::now();
        let _more = clients(spec.proxy_port, mux::FOR_PROXY).await;
        opened(&mut streams, mux::FOR_PROXY, &GuestStream::Proxy).await;
        assert!(before.elapsed() < Duration::from_secs(10));
        // Late, and all the same what they get is all there was.
        for client in &mut staying {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "whole");
        }
    }

    #[tokio::test]
    async fn a_flood_of_one_port_leaves_the_other_its_share() {
        for (kind, share, other, others_share) in [
            (GuestStream::Proxy, mux::FOR_PROXY, GuestStream::Model, mux::FOR_MODEL),
            (GuestStream::Model, mux::FOR_MODEL, GuestStream::Proxy, mux::FOR_PROXY),
        ] {
            let spec = spec();
            let (_link, mut streams, _guest) = connect(&spec).await;
            let (flooded, free) = match kind {
                GuestStream::Model => (spec.model_port, spec.proxy_port),
                GuestStream::Proxy => (spec.proxy_port, spec.model_port),
            };
            let _flood = clients(flooded, 4 * share).await;
            let _held = opened(&mut streams, share, &kind).await;
            let _clients = clients(free, others_share).await;
            opened(&mut streams, others_share, &other).await;
        }
    }

    #[tokio::test]
    async fn a_taken_port_and_another_contract_are_refused_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for (spec, part) in [
            (
                GuestSpec {
                    model_port: port,
                    ..spec()
                },
                format!("port {port}"),
            ),
            (
                GuestSpec {
                    contract: CONTRACT + 1,
                    ..spec()
                },
                format!("the host speaks {}", CONTRACT + 1),
            ),
        ] {
            let (pipe, guest) = guest(None);
            let (reader, writer) = split(pipe);
            match link::connect(reader, writer, &spec).await {
                Err(LinkError::Refused(reason)) => assert!(reason.as_str().contains(&part), "{reason}"),
                other => panic!("{other:?}"),
            }
            assert!(matches!(guest.await.unwrap(), Ending::Refused(reason) if reason.contains(&part)));
        }
    }

    #[tokio::test]
    async fn a_newer_hosts_spec_is_refused_by_its_version_not_by_its_shape() {
        let body = format!(r#"{{"contract":{},"invented":true}}"#, CONTRACT + 1);
        let reason = prepare(body.as_bytes(), Sockets::AsTheyAre)
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            reason,
            format!(
                "this guest speaks contract {CONTRACT}, the host speaks {}",
                CONTRACT + 1
            )
        );
        let body = format!(r#"{{"contract":{CONTRACT},"invented":true}}"#);
        assert!(
            prepare(body.as_bytes(), Sockets::AsTheyAre)
                .await
                .map(|_| ())
                .unwrap_err()
                .contains("malformed")
        );
    }
}
