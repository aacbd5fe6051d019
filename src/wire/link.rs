//! The host's end of the pipe: handshake, then spawning inside and accepting the guest's streams.
//!
//! [`connect`] sends the [`GuestSpec`], takes the guest's [`Ready`] and gives a [`GuestLink`]; one task then drives the
//! pipe until it ends for one reason, a [`LinkEnd`]. The guest is hostile: the first frame that does not fit the
//! contract ends this link and touches nothing else, and every bound is ours (frames, streams, openings, queues).
//! This module must never wait without the caller being able to give up: each future may be dropped (a timeout), and
//! dropping the last [`GuestLink`] closes the pipe, which ends everything inside.

mod heard;

use crate::wire::contract::{
    CONTRACT, Figures, FromGuest, GuestSpec, GuestStream, HostStream, MAX_FRAME, ProcessEnd, ProcessNumber, Ready,
    SpawnReply, SpawnRequest, ToGuest,
};
use crate::wire::frame::{self, ReadError, WriteError};
use crate::wire::link::heard::{Processes, Told};
use crate::wire::mux::{self, Driver, Incoming, MuxEnd, MuxStream, Opener};
use crate::wire::untrusted::Untrusted;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

/// The largest first frame that the guest sends on a stream, in bytes: an opening, or a [`SpawnReply`].
const MAX_OPENING: usize = 4096;
/// An honest guest's opening travels in the stream's first packet, so this waits for a hostile one only.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames to the guest that may wait for it to read.
const CONTROL_QUEUE: usize = 32;

/// Why a link ended. The first reason stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    #[error(transparent)]
    Pipe(MuxEnd),
    /// The guest half-closed or reset the control stream while the pipe was still open.
    #[error("the guest closed its control stream")]
    ControlClosed,
    #[error("the guest sent something that the contract does not allow: {}", .0.one_line(200))]
    Violation(Untrusted),
}

impl LinkEnd {
    /// Whether the guest did what an honest one does not.
    pub fn is_violation(&self) -> bool {
        match self {
            Self::Violation(_) | Self::Pipe(MuxEnd::Violation(_)) => true,
            Self::ControlClosed | Self::Pipe(MuxEnd::Closed | MuxEnd::LetGo | MuxEnd::Failed(_)) => false,
        }
    }
}

/// What the host's end of the pipe refuses or can't do.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The guest is a staged copy of this very binary, so another one was mounted in its place.
    #[error(
        "the guest in the container speaks contract {guest}, this codex-mcp speaks {host}: it is not a copy of this binary"
    )]
    Contract { host: u32, guest: u32 },
    #[error("the guest refused to start: {}", .0.one_line(200))]
    Refused(Untrusted),
    #[error("the link to the container ended: {0}")]
    Ended(LinkEnd),
    #[error("the process could not be started in the container: {}", .0.one_line(200))]
    Spawn(Untrusted),
    #[error("process number {} is already in use in this session", .0.0)]
    NumberTaken(ProcessNumber),
    #[error("the request can't be sent: {0}")]
    Request(#[source] WriteError),
}

/// A link whose guest is ready.
#[derive(Debug)]
pub struct Connected {
    pub link: GuestLink,
    /// As the guest said it; nothing is proven until the plan compared it.
    pub ready: Ready,
    /// The guest's own streams. Dropping it refuses them.
    pub streams: GuestStreams,
}

/// The handshake over the two halves of the engine client's pipe. The caller bounds the time; dropping the future
/// closes the pipe.
pub async fn connect<R, W>(reader: R, writer: W, spec: &GuestSpec) -> Result<Connected, LinkError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (opener, incoming, mut driver) = mux::host(reader, writer);
    let mut shaking = pin!(handshake(opener.clone(), spec));
    let (control, ready) = tokio::select! {
        // First, so that the end of the pipe is named as such and not as what it does to the handshake.
        biased;
        end = &mut driver => return Err(match shaking.now_or_never() {
            // A guest that refuses closes the pipe right after, and both may arrive at once.
            Some(Err(error @ (LinkError::Refused(_) | LinkError::Contract { .. }))) => error,
            _ => LinkError::Ended(LinkEnd::Pipe(end)),
        }),
        shaken = &mut shaking => shaken?,
    };
    let (to_guest, orders) = mpsc::channel(CONTROL_QUEUE);
    let (arrivals, streams) = mpsc::channel(mux::OPENED_BY_GUEST);
    let (kills, memory_kills) = watch::channel(0);
    let (told, figures) = watch::channel(Figures::default());
    let (answers, answered) = watch::channel(0);
    let asked = Arc::new(AtomicU64::new(0));
    let (end, ended) = watch::channel(None);
    let processes = Arc::new(Processes::default());
    let task = LinkTask {
        control,
        orders,
        incoming,
        arrivals,
        kills,
        figures: Told {
            figures: told,
            answers,
            asked: Arc::clone(&asked),
        },
        processes: Arc::clone(&processes),
    };
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let reason = task.run(driver).await;
        end.send_replace(Some(reason));
    }));
    let link = GuestLink(Arc::new(Inner {
        opener,
        to_guest,
        memory_kills,
        figures,
        asked,
        answered,
        ended,
        processes,
        _task: task,
    }));
    Ok(Connected {
        link,
        ready,
        streams: GuestStreams(streams),
    })
}

async fn handshake(opener: Opener, spec: &GuestSpec) -> Result<(MuxStream, Ready), LinkError> {
    let mut control = opener
        .open()
        .await
        .map_err(|_| LinkError::Ended(LinkEnd::Pipe(MuxEnd::Closed)))?;
    frame::write(&mut control, spec).await.map_err(LinkError::Request)?;
    let body = frame::read_body(&mut control, MAX_FRAME).await.map_err(unreadable)?;
    // The version first: another version's `Ready` need not have our shape.
    if let Ok(FirstFrame {
        ready: Version { contract },
    }) = serde_json::from_slice(&body)
        && contract != CONTRACT
    {
        return Err(LinkError::Contract {
            host: CONTRACT,
            guest: contract,
        });
    }
    match frame::parse(&body).map_err(unreadable)? {
        FromGuest::Ready(ready) => Ok((control, *ready)),
        FromGuest::Refused { reason } => Err(LinkError::Refused(reason.into())),
        FromGuest::Exited { .. } | FromGuest::OutOfMemory { .. } | FromGuest::Figures { .. } => {
            Err(LinkError::Ended(violation("a report before it was ready")))
        }
    }
}

/// As much of [`FromGuest::Ready`] as every version has; all else in it is ignored here.
#[derive(Deserialize)]
struct FirstFrame {
    ready: Version,
}

#[derive(Deserialize)]
struct Version {
    contract: u32,
}

/// A guest that is ready; cheap to clone. The pipe closes with the last clone.
#[derive(Debug, Clone)]
pub struct GuestLink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    opener: Opener,
    to_guest: mpsc::Sender<ToGuest>,
    memory_kills: watch::Receiver<u64>,
    figures: watch::Receiver<Figures>,
    /// The number of the last question that was put.
    asked: Arc<AtomicU64>,
    /// The number of the last question that was answered.
    answered: watch::Receiver<u64>,
    ended: watch::Receiver<Option<LinkEnd>>,
    processes: Arc<Processes>,
    _task: AbortOnDropHandle<()>,
}

/// A process that runs inside.
#[derive(Debug)]
pub struct Spawned {
    /// As seen inside the container, by the guest's word.
    pub pid: u32,
    /// Its stdin (half-close is end of file) and stdout. Dropping it kills nothing: see [`GuestLink::signal`].
    pub stream: MuxStream,
    pub end: Ending,
}

/// The end of a process, by the guest's word. Output may still arrive on the stream after it (see `guest::spawn`).
#[derive(Debug)]
pub struct Ending {
    /// `None` once it was answered, or never will be.
    end: Option<oneshot::Receiver<ProcessEnd>>,
    known: Option<ProcessEnd>,
    link: watch::Receiver<Option<LinkEnd>>,
}

impl Ending {
    /// Waits for it; an error where the link ended first. Cancel-safe, and may be asked again.
    pub async fn wait(&mut self) -> Result<ProcessEnd, LinkEnd> {
        if let Some(end) = self.known {
            return Ok(end);
        }
        if let Some(receiver) = &mut self.end {
            let answer = receiver.await;
            // One that was answered must not be polled again.
            self.end = None;
            if let Ok(end) = answer {
                return Ok(*self.known.insert(end));
            }
        }
        Err(reason(&mut self.link).await)
    }
}

impl GuestLink {
    /// Starts a process inside.
    pub async fn spawn(&self, request: &SpawnRequest) -> Result<Spawned, LinkError> {
        let process = request.process;
        let end = self
            .0
            .processes
            .register(process)
            .ok_or(LinkError::NumberTaken(process))?;
        match self.start(request).await {
            Ok((pid, stream)) => {
                let end = Ending {
                    end: Some(end),
                    known: None,
                    link: self.0.ended.clone(),
                };
                Ok(Spawned { pid, stream, end })
            }
            Err(error) => {
                self.0.processes.forget(process);
                Err(error)
            }
        }
    }

    async fn start(&self, request: &SpawnRequest) -> Result<(u32, MuxStream), LinkError> {
        let Ok(mut stream) = self.0.opener.open().await else {
            return Err(LinkError::Ended(self.ended().await));
        };
        match frame::write(&mut stream, &HostStream::Spawn(request.clone())).await {
            Ok(()) => {}
            Err(WriteError::Io(_)) => return Err(self.lost_stream()),
            Err(error) => return Err(LinkError::Request(error)),
        }
        match frame::read(&mut stream, MAX_OPENING).await {
            Ok(SpawnReply::Started { pid }) => Ok((pid, stream)),
            Ok(SpawnReply::Failed { reason }) => Err(LinkError::Spawn(reason.into())),
            Err(ReadError::Closed | ReadError::Truncated | ReadError::Io(_)) => Err(self.lost_stream()),
            Err(error) => Err(LinkError::Spawn(Untrusted::new(format!("no proper answer: {error}")))),
        }
    }

    /// A stream failed: with the link, or by the guest's doing alone. Must not wait for an end that may not come.
    fn lost_stream(&self) -> LinkError {
        match self.0.ended.borrow().clone() {
            Some(end) => LinkError::Ended(end),
            None => LinkError::Spawn(Untrusted::new("the guest dropped the request")),
        }
    }

    /// Sends a signal (its Linux number) to the process group of a started process. One that has ended is no error.
    /// Waits while the guest does not read what it was sent before.
    pub async fn signal(&self, process: ProcessNumber, signal: i32) -> Result<(), LinkError> {
        self.order(ToGuest::Signal { process, signal }).await
    }

    /// Asks the guest to kill everything and exit. Closing the pipe (dropping every clone) does the same.
    pub async fn shutdown(&self) -> Result<(), LinkError> {
        self.order(ToGuest::Shutdown).await
    }

    async fn order(&self, order: ToGuest) -> Result<(), LinkError> {
        match self.0.to_guest.send(order).await {
            Ok(()) => Ok(()),
            Err(_) => Err(LinkError::Ended(self.ended().await)),
        }
    }

    /// Waits for the end of the link. Cancel-safe.
    pub async fn ended(&self) -> LinkEnd {
        reason(&mut self.0.ended.clone()).await
    }

    /// How often the kernel killed for memory inside since the start, by the guest's word.
    pub fn memory_kills(&self) -> watch::Receiver<u64> {
        self.0.memory_kills.clone()
    }

    /// What was used inside so far, by the guest's word: as the guest last told it by itself or was asked.
    pub fn figures(&self) -> watch::Receiver<Figures> {
        self.0.figures.clone()
    }

    /// Asks what was used inside so far, and takes the last known answer where none comes `within` that time or the link
    /// has ended. Cancel-safe.
    pub async fn measure(&self, within: Duration) -> Figures {
        let question = self.0.asked.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut answered = self.0.answered.clone();
        let answer = async {
            if self.order(ToGuest::Measure { question }).await.is_ok() {
                // Fails with the link, and then what is known is all there will be.
                let _ = answered.wait_for(|answered| *answered >= question).await;
            }
        };
        let _ = tokio::time::timeout(within, answer).await;
        *self.0.figures.borrow()
    }
}

async fn reason(ended: &mut watch::Receiver<Option<LinkEnd>>) -> LinkEnd {
    match ended.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(end)) => end.clone(),
        // The task was aborted, which only dropping the last link does.
        Ok(None) | Err(_) => LinkEnd::Pipe(MuxEnd::LetGo),
    }
}

/// A stream that the guest opened, its opening already read.
#[derive(Debug)]
pub struct Opened {
    pub kind: GuestStream,
    pub stream: MuxStream,
}

/// The streams that the guest opens, as many as are not taken yet bounded by the multiplexer.
#[derive(Debug)]
pub struct GuestStreams(mpsc::Receiver<Opened>);

impl GuestStreams {
    /// The next one; `None` once the link has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Opened> {
        self.0.recv().await
    }
}

/// The link's task: everything that goes on until one part of it ends.
struct LinkTask {
    control: MuxStream,
    orders: mpsc::Receiver<ToGuest>,
    incoming: Incoming,
    arrivals: mpsc::Sender<Opened>,
    kills: watch::Sender<u64>,
    figures: Told,
    processes: Arc<Processes>,
}

impl LinkTask {
    async fn run<R, W>(self, driver: Driver<R, W>) -> LinkEnd
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (reader, writer) = tokio::io::split(self.control);
        let processes = self.processes;
        let end = tokio::select! {
            // In this order: when the pipe ends, its streams fail within the same poll, and the cause is the pipe.
            biased;
            end = pin!(driver) => LinkEnd::Pipe(end),
            end = listen(reader, &processes, &self.kills, &self.figures) => end,
            end = tell(writer, self.orders) => end,
            end = accept(self.incoming, self.arrivals) => end,
        };
        // Wakes those who wait for a process: they learn the reason from the link.
        processes.clear();
        end
    }
}

async fn listen(
    mut control: ReadHalf<MuxStream>,
    processes: &Processes,
    kills: &watch::Sender<u64>,
    told: &Told,
) -> LinkEnd {
    loop {
        match frame::read(&mut control, MAX_FRAME).await {
            Ok(FromGuest::Exited { process, end }) => match processes.forget(process) {
                // Fails where nobody waits any more.
                Some(waiting) => drop(waiting.send(end)),
                None => return violation("the end of a process that was never started"),
            },
            Ok(FromGuest::OutOfMemory { kills: more }) => kills.send_modify(|sum| *sum = sum.saturating_add(more)),
            Ok(FromGuest::Figures { figures, answers }) => {
                if !told.take(figures, answers) {
                    return violation("an answer to a question that was never asked");
                }
            }
            Ok(FromGuest::Ready(_) | FromGuest::Refused { .. }) => return violation("a second handshake"),
            Err(ReadError::Closed | ReadError::Io(_)) => return LinkEnd::ControlClosed,
            Err(error) => return violation(&error.to_string()),
        }
    }
}

async fn tell(mut control: WriteHalf<MuxStream>, mut orders: mpsc::Receiver<ToGuest>) -> LinkEnd {
    while let Some(order) = orders.recv().await {
        if frame::write(&mut control, &order).await.is_err() {
            return LinkEnd::ControlClosed;
        }
    }
    // Every link is gone; the abort of this task is on its way.
    std::future::pending().await
}

async fn accept(mut incoming: Incoming, arrivals: mpsc::Sender<Opened>) -> LinkEnd {
    let mut openings = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => openings.push(opening(stream, arrivals.clone(), OPENING_TIMEOUT)),
                // The driver has ended and says why.
                None => std::future::pending().await,
            },
            Some(opened) = openings.next() => if let Err(end) = opened {
                return end;
            },
        }
    }
}

async fn opening(mut stream: MuxStream, arrivals: mpsc::Sender<Opened>, patience: Duration) -> Result<(), LinkEnd> {
    match tokio::time::timeout(patience, frame::read(&mut stream, MAX_OPENING)).await {
        Ok(Ok(kind)) => {
            // Waits while the caller is slow; the multiplexer bounds how many wait. Without a taker it is refused.
            let _ = arrivals.send(Opened { kind, stream }).await;
            Ok(())
        }
        // Reset before it began: whoever connected inside has gone.
        Ok(Err(ReadError::Io(_))) => Ok(()),
        Ok(Err(error)) => Err(violation(&format!("an unknown stream, {error}"))),
        Err(_) => Err(violation("a stream without an opening")),
    }
}

fn unreadable(error: ReadError) -> LinkError {
    LinkError::Ended(match error {
        ReadError::Closed | ReadError::Io(_) => LinkEnd::ControlClosed,
        error => violation(&error.to_string()),
    })
}

fn violation(what: &str) -> LinkEnd {
    LinkEnd::Violation(Untrusted::new(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::contract::{Capabilities, CgroupReading, Identity, LimitReading, StderrTo};
    use crate::wire::mux::GuestOpeners;
    use serde_json::{Value, json};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::task::JoinHandle;

    /// A guest that says whatever a test wants.
    struct Hostile {
        control: MuxStream,
        openers: GuestOpeners,
        incoming: Incoming,
        driver: JoinHandle<MuxEnd>,
    }

    fn spec() -> GuestSpec {
        GuestSpec {
            contract: CONTRACT,
            session: "s".into(),
            model_port: 1,
            proxy_port: 2,
            wall_seconds: 1,
            sized_mounts: vec![],
        }
    }

    fn ready() -> Ready {
        let unlimited = || LimitReading::Unlimited;
        Ready {
            contract: CONTRACT,
            version: "0".into(),
            pid: 1,
            identity: Identity {
                uids: [0; 4],
                gids: [0; 4],
                groups: vec![],
                uid_map: vec![],
            },
            capabilities: Capabilities {
                inheritable: 0,
                permitted: 0,
                effective: 0,
                bounding: 0,
                ambient: 0,
            },
            seccomp: 2,
            no_new_privs: true,
            dumpable: false,
            cgroup: CgroupReading {
                version: 2,
                memory: unlimited(),
                memory_and_swap: unlimited(),
                cpu_millis: unlimited(),
                pids: unlimited(),
            },
            nofile: (1, 1),
            mounts: vec![],
            interfaces: vec![],
        }
    }

    fn request() -> SpawnRequest {
        SpawnRequest {
            process: ProcessNumber(1),
            argv: vec!["/bin/true".into()],
            env: Default::default(),
            cwd: "/".into(),
            stderr: StderrTo::Log,
        }
    }

    /// The guest's end up to the host's spec.
    async fn hostile(pipe: DuplexStream) -> Hostile {
        let (reader, writer) = split(pipe);
        let (openers, mut incoming, driver) = mux::guest(reader, writer);
        let driver = tokio::spawn(driver);
        let mut control = incoming.next().await.unwrap();
        let received: GuestSpec = frame::read(&mut control, MAX_FRAME).await.unwrap();
        assert_eq!(received, spec());
        Hostile {
            control,
            openers,
            incoming,
            driver,
        }
    }

    /// What the host makes of one first frame.
    async fn first_frame(frame: &Value) -> Result<Connected, LinkError> {
        let (near, far) = duplex(1 << 16);
        let (reader, writer) = split(near);
        let spec = spec();
        let guest = async {
            let mut guest = hostile(far).await;
            frame::write(&mut guest.control, frame).await.unwrap();
            guest
        };
        let (connected, _guest) = tokio::join!(connect(reader, writer, &spec), guest);
        connected
    }

    async fn connected() -> (Connected, Hostile) {
        let (near, far) = duplex(1 << 16);
        let (reader, writer) = split(near);
        let spec = spec();
        let guest = async {
            let mut guest = hostile(far).await;
            frame::write(&mut guest.control, &FromGuest::Ready(Box::new(ready())))
                .await
                .unwrap();
            guest
        };
        let (connected, guest) = tokio::join!(connect(reader, writer, &spec), guest);
        (connected.unwrap(), guest)
    }

    fn is_violation(end: &LinkEnd, part: &str) -> bool {
        matches!(end, LinkEnd::Violation(what) if what.as_str().contains(part))
    }

    #[tokio::test]
    async fn another_contract_is_named_whatever_its_shape() {
        let newer = json!({"ready": {"contract": 99, "shape": "unknown"}});
        match first_frame(&newer).await {
            Err(LinkError::Contract {
                host: CONTRACT,
                guest: 99,
            }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn only_ready_or_a_refusal_may_come_first() {
        match first_frame(&json!({"refused": {"reason": "no\u{1b}[2J"}})).await {
            Err(error @ LinkError::Refused(_)) => assert_eq!(error.to_string(), "the guest refused to start: no[2J"),
            other => panic!("{other:?}"),
        }
        for frame in [
            json!({"out_of_memory": {"kills": 1}}),
            json!({"exited": {"process": 1, "end": {"code": 0}}}),
            json!({"figures": {"figures": Figures::default(), "answers": 0}}),
            json!({"ready": {"contract": CONTRACT}}),
            json!("hello"),
        ] {
            match first_frame(&frame).await {
                Err(LinkError::Ended(LinkEnd::Violation(_))) => {}
                other => panic!("{frame}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_pipe_that_closes_or_carries_no_frames_fails_the_handshake() {
        let (near, far) = duplex(64);
        drop(far);
        let (reader, writer) = split(near);
        let error = connect(reader, writer, &spec()).await.unwrap_err();
        assert!(
            matches!(error, LinkError::Ended(LinkEnd::Pipe(MuxEnd::Closed))),
            "{error}"
        );
        let (near, mut far) = duplex(64);
        far.write_all(b"/bin/sh: not found\n").await.unwrap();
        let (reader, writer) = split(near);
        let error = connect(reader, writer, &spec()).await.unwrap_err();
        assert!(
            matches!(error, LinkError::Ended(LinkEnd::Pipe(MuxEnd::Violation(_)))),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_control_frame_that_does_not_fit_ends_the_link() {
        for (frame, part) in [
            (json!({"invented": 1}), "malformed"),
            (json!({"exited": {"process": 5, "end": {"code": 0}}}), "never started"),
            (
                json!({"figures": {"figures": Figures::default(), "answers": 1}}),
                "never asked",
            ),
            (
                json!({"figures": {"figures": {"memory_peak": -1}, "answers": 0}}),
                "malformed",
            ),
            (json!({"refused": {"reason": "late"}}), "second handshake"),
            (json!({"ready": ready()}), "second handshake"),
        ] {
            let (connected, mut guest) = connected().await;
            frame::write(&mut guest.control, &frame).await.unwrap();
            let end = connected.link.ended().await;
            assert!(is_violation(&end, part), "{end}");
            assert_eq!(guest.driver.await.unwrap(), MuxEnd::Closed, "and closes the pipe");
        }
    }

    #[tokio::test]
    async fn an_oversized_control_frame_is_refused_by_its_length() {
        let (connected, mut guest) = connected().await;
        guest.control.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(is_violation(&connected.link.ended().await, "over the limit"));
    }

    #[tokio::test]
    async fn a_closed_control_stream_ends_the_link() {
        let (connected, mut guest) = connected().await;
        guest.control.shutdown().await.unwrap();
        assert_eq!(connected.link.ended().await, LinkEnd::ControlClosed);
    }

    #[tokio::test]
    async fn an_unknown_or_large_opening_ends_the_link() {
        let large = json!("x".repeat(MAX_OPENING));
        for (opening, part) in [(json!("egress"), "unknown stream"), (large, "over the limit")] {
            let (connected, guest) = connected().await;
            let mut stream = guest.openers.model.open().await.unwrap();
            frame::write(&mut stream, &opening).await.unwrap();
            let end = connected.link.ended().await;
            assert!(is_violation(&end, part), "{end}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_never_says_what_it_is_ends_the_link() {
        let (_connected, guest) = connected().await;
        let silent = guest.openers.model.open().await.unwrap();
        let (arrivals, _queue) = mpsc::channel(1);
        let end = opening(silent, arrivals, Duration::ZERO).await.unwrap_err();
        assert!(is_violation(&end, "without an opening"));
    }

    #[tokio::test]
    async fn a_silent_opening_holds_up_no_other_stream() {
        let (mut connected, guest) = connected().await;
        let mut silent = guest.openers.model.open().await.unwrap();
        silent.write_all(&[0]).await.unwrap();
        let mut stream = guest.openers.model.open().await.unwrap();
        frame::write(&mut stream, &GuestStream::Model).await.unwrap();
        assert_eq!(connected.streams.next().await.unwrap().kind, GuestStream::Model);
    }

    #[tokio::test]
    async fn streams_that_nobody_takes_are_refused_and_the_link_goes_on() {
        let (Connected { link, streams, .. }, guest) = connected().await;
        drop(streams);
        let mut stream = guest.openers.model.open().await.unwrap();
        frame::write(&mut stream, &GuestStream::Model).await.unwrap();
        let error = frame::read::<Value>(&mut stream, 64).await.unwrap_err();
        assert!(matches!(error, ReadError::Io(_)), "{error}");
        link.signal(ProcessNumber(1), 2).await.unwrap();
    }

    #[tokio::test]
    async fn memory_kills_add_up() {
        let (connected, mut guest) = connected().await;
        let mut kills = connected.link.memory_kills();
        for more in [2, u64::MAX] {
            frame::write(&mut guest.control, &FromGuest::OutOfMemory { kills: more })
                .await
                .unwrap();
        }
        assert_eq!(*kills.wait_for(|sum| *sum > 2).await.unwrap(), u64::MAX);
    }

    fn peak(memory: u64) -> Figures {
        Figures {
            memory_peak: Some(memory),
            ..Figures::default()
        }
    }

    async fn tell(guest: &mut Hostile, figures: Figures, answers: u64) {
        let frame = FromGuest::Figures { figures, answers };
        frame::write(&mut guest.control, &frame).await.unwrap();
    }

    /// Takes the next order, which has to be a question.
    async fn question(guest: &mut Hostile) -> u64 {
        match frame::read(&mut guest.control, MAX_FRAME).await.unwrap() {
            ToGuest::Measure { question } => question,
            other => panic!("{other:?}"),
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn a_measurement_is_the_answer_that_comes_after_it() {
        let (connected, mut guest) = connected().await;
        let link = connected.link;
        for (number, memory) in [(1, 20), (2, 30)] {
            let inside = async {
                assert_eq!(question(&mut guest).await, number);
                // On its way before the question came.
                tell(&mut guest, peak(memory - 1), number - 1).await;
                tell(&mut guest, peak(memory), number).await;
            };
            assert_eq!(tokio::join!(link.measure(LONG), inside).0, peak(memory));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_last_known_figures_count() {
        let (connected, mut guest) = connected().await;
        let link = connected.link;
        tell(&mut guest, peak(7), 0).await;
        assert_eq!(link.measure(Duration::from_secs(1)).await, peak(7));
        // The answer to a question that was given up is none to the next.
        assert_eq!(question(&mut guest).await, 1);
        let inside = async {
            assert_eq!(question(&mut guest).await, 2);
            tell(&mut guest, peak(8), 1).await;
            link.figures().wait_for(|figures| *figures == peak(8)).await.unwrap();
            drop(guest);
        };
        assert_eq!(tokio::join!(link.measure(LONG), inside).0, peak(8));
        assert_eq!(link.measure(LONG).await, peak(8), "and once the link has ended");
    }

    #[tokio::test]
    async fn figures_never_fall_and_only_news_wakes() {
        let (connected, mut guest) = connected().await;
        let mut figures = connected.link.figures();
        tell(&mut guest, peak(5), 0).await;
        figures.changed().await.unwrap();
        assert_eq!(*figures.borrow_and_update(), peak(5));
        for earlier in [peak(4), Figures::default(), peak(5)] {
            tell(&mut guest, earlier, 0).await;
        }
        let cpu = Figures {
            cpu_micros: Some(1),
            ..Figures::default()
        };
        tell(&mut guest, cpu, 0).await;
        figures.changed().await.unwrap();
        assert_eq!(*figures.borrow_and_update(), cpu.and(peak(5)));
        assert!(!figures.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_refused_or_dropped_spawn_is_an_error_of_its_own() {
        let (connected, mut guest) = connected().await;
        let inside = async {
            let mut stream = guest.incoming.next().await.unwrap();
            let HostStream::Spawn(received) = frame::read(&mut stream, MAX_FRAME).await.unwrap();
            assert_eq!(received, request());
            frame::write(
                &mut stream,
                &SpawnReply::Failed {
                    reason: "no such file".into(),
                },
            )
            .await
            .unwrap();
            drop(guest.incoming.next().await.unwrap());
        };
        let outside = async {
            match connected.link.spawn(&request()).await {
                Err(LinkError::Spawn(reason)) => assert_eq!(reason.as_str(), "no such file"),
                other => panic!("{other:?}"),
            }
            match connected.link.spawn(&request()).await {
                Err(LinkError::Spawn(reason)) => assert!(reason.as_str().contains("dropped")),
                other => panic!("{other:?}"),
            }
        };
        tokio::join!(inside, outside);
    }

    #[tokio::test]
    async fn dropping_the_last_link_closes_the_pipe() {
        let (Connected { link, streams, .. }, guest) = connected().await;
        let other = link.clone();
        drop((link, streams));
        other.signal(ProcessNumber(1), 2).await.unwrap();
        drop(other);
        assert_eq!(guest.driver.await.unwrap(), MuxEnd::Closed);
    }

    /// Whoever watches a process asks anew each time that something else happened.
    #[tokio::test]
    async fn an_ending_that_never_came_may_be_asked_for_again() {
        let (answer, end) = oneshot::channel();
        let (_link, ended) = watch::channel(Some(LinkEnd::ControlClosed));
        let mut ending = Ending {
            end: Some(end),
            known: None,
            link: ended,
        };
        drop(answer);
        for _ in 0..2 {
            assert_eq!(ending.wait().await, Err(LinkEnd::ControlClosed));
        }
    }
}
