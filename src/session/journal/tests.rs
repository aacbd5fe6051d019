#![expect(clippy::disallowed_methods, reason = "reads what was written")]

use super::*;
use crate::audit::journal::Sizes;
use crate::audit::verify::{Found, verify};
use crate::codex::approver::DeclineAll;
use crate::codex::event::{ThreadId, TurnId};
use crate::config::Origin;
use crate::egress::decision::Malformed;
use crate::redact::Redactor;
use crate::wire::untrusted::Untrusted;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::mpsc;

struct Desk {
    state: tempfile::TempDir,
    journal: Journal,
    session: SessionJournal,
}

impl Desk {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let sizes = Sizes {
            file: 1 << 20,
            keep: 1 << 30,
        };
        let journal = Journal::begin(state.path(), sizes, Redactor::default()).unwrap();
        let session = SessionJournal::new(journal.clone(), SessionId::from_random([1; 10]), asked("codex", 1), 0);
        Self {
            state,
            journal,
            session,
        }
    }

    /// All records but the server's own; what stays in every one was checked and is left out.
    fn records(&self) -> Vec<Value> {
        self.journal.end();
        let report = verify(self.state.path(), &[]).unwrap();
        assert!(report.is_whole());
        assert!(matches!(report.chains[0].found, Found::Intact { .. }));
        let chain = std::fs::read_dir(self.state.path().join("audit"))
            .unwrap()
            .next()
            .unwrap();
        let text = std::fs::read_to_string(chain.unwrap().path().join("000001.jsonl")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .filter(|record| !record["what"].as_str().unwrap().starts_with("server_"))
            .collect()
    }
}

fn asked(tool: &'static str, request: u32) -> Asked {
    let parameters = BTreeMap::from([("prompt".to_owned(), 12)]);
    Asked::by_mcp_client(Some(("editor", "2")), &request.to_string(), tool, parameters)
}

fn target(text: &str) -> Target {
    Target::from_authority(text, None).unwrap()
}

fn rule() -> Sourced<Rule> {
    Sourced::new("*.test:443".parse().unwrap(), Origin::Flag { name: "--network" })
}

fn started() -> StartedThread {
    StartedThread {
        thread: ThreadId::parse("thread-1").unwrap(),
        model: Untrusted::new("gpt-5.5"),
        warnings: Vec::new(),
    }
}

fn ended() -> TurnEnd {
    TurnEnd {
        turn: "codex-turn".to_owned(),
        answer: Untrusted::new("the answer"),
        usage: event::Usage::default(),
        outcome: TurnOutcome::Completed,
    }
}

fn whats(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn records_say_whose_they_are_and_repetitions_are_counted() {
    let desk = Desk::new();
    let session = &desk.session;
    session.thread_started(&started()).unwrap();
    session.turn_started(asked("codex-reply", 2)).unwrap();
    for _ in 0..3 {
        session.allowed(&target("a.test:443"), &rule()).unwrap();
        session.denied(&Denial::malformed(Malformed::Framing));
        session.use_credential("openai", "/v1/responses").unwrap();
    }
    session.turn_ended(Ok(&ended()), event::Usage::default());
    // After it: not the turn's.
    session.allowed(&target("a.test:443"), &rule()).unwrap();
    session.ended(&EndReason::Stopped).await;
    let records = desk.records();
    assert_eq!(
        whats(&records),
        [
            "thread_started",
            "turn_started",
            "egress",
            "egress",
            "credential_used",
            "turn_ended",
            "egress",
            "session_ended"
        ]
    );
    for (record, (request, turn)) in records.iter().zip([
        ("1", None),
        ("2", Some(1)),
        ("2", Some(1)),
        ("2", Some(1)),
        ("2", Some(1)),
        ("2", Some(1)),
        ("2", None),
        ("2", None),
    ]) {
        assert_eq!(record["session"], "01010101010101010101");
        assert_eq!(record["thread"], "thread-1");
        assert_eq!(record["request"], request, "{record}");
        assert_eq!(record["turn"].as_u64(), turn, "{record}");
        assert_eq!(record["actor"]["name"], "editor");
    }
    let sequence = |nth: usize| records[nth]["sequence"].to_string();
    let times = BTreeMap::from([(sequence(2), 3), (sequence(3), 3), (sequence(4), 3)]);
    assert_eq!(records[5]["times"], serde_json::to_value(times).unwrap());
    assert_eq!(records[5]["codex_turn"], "codex-turn");
    assert_eq!(records[2]["rule"], "`*.test:443` (flag --network)");
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains("the answer"), "{text}");
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_a_bounded_number_of_records() {
    let desk = Desk::new();
    desk.session.turn_started(asked("codex", 1)).unwrap();
    for nth in 0..3000 {
        desk.session.denied(&Denial::of(
            &target(&format!("x{nth}.test:443")),
            crate::egress::decision::Reason::OtherHost {
                rule: rule(),
                named: None,
            },
        ));
    }
    desk.session.allowed(&target("a.test:443"), &rule()).unwrap();
    desk.session
        .turn_ended(Err(Outcome::SessionOver), event::Usage::default());
    let records = desk.records();
    assert!(records.len() < 300, "{}", records.len());
    let end = records.last().unwrap();
    assert_eq!(end["not_told_apart"], 3000 - 256);
    let allowed = records.iter().filter(|record| record["verdict"] == "allowed");
    assert_eq!(allowed.count(), 1, "refusals crowd out nothing that was allowed");
}

fn request(command: &str) -> ApprovalRequest {
    ApprovalRequest {
        thread: ThreadId::parse("t").unwrap(),
        turn: TurnId::parse("u").unwrap(),
        subject: ApprovalSubject::Command(Untrusted::new(command)),
        reason: None,
    }
}

fn approval() -> (Approval, mpsc::Receiver<event::Decision>) {
    let (tell, told) = mpsc::channel();
    (Approval::new(move |decision| tell.send(decision).unwrap()), told)
}

async fn answer(told: mpsc::Receiver<event::Decision>) -> event::Decision {
    tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap()
}

struct AcceptAll;

impl Approver for AcceptAll {
    fn consider(&self, _: &ApprovalRequest, approval: Approval) {
        approval.answer(event::Decision::Accepted);
    }
}

#[tokio::test]
async fn a_decision_is_on_record_before_codex_hears_of_it() {
    let desk = Desk::new();
    let accepting = RecordedApprover::new(AcceptAll, desk.session.clone());
    let (asking, told) = approval();
    accepting.consider(&request("rm -rf /tmp/x"), asking);
    assert_eq!(answer(told).await, event::Decision::Accepted);
    let declining = RecordedApprover::new(DeclineAll, desk.session.clone());
    for _ in 0..70 {
        let (asking, told) = approval();
        declining.consider(&request("ls"), asking);
        assert_eq!(answer(told).await, event::Decision::Declined);
    }
    // The chain is over: what can't be recorded is not accepted.
    let records = desk.records();
    let (asking, told) = approval();
    accepting.consider(&request("ls"), asking);
    assert_eq!(answer(told).await, event::Decision::Declined);
    assert_eq!(records.len(), 65, "declined ones are recorded up to a bound");
    assert_eq!(records[0]["decision"], "accepted");
    assert_eq!(records[0]["text"], "rm -rf /tmp/x");
    assert_eq!(records[0]["sha256"], Digest::of(b"rm -rf /tmp/x").to_string());
}

#[tokio::test]
async fn what_can_not_be_recorded_is_refused() {
    let desk = Desk::new();
    desk.journal.end();
    let session = &desk.session;
    assert_eq!(session.allowed(&target("a.test:443"), &rule()), Err(Unwitnessed));
    assert_eq!(
        session.use_credential("openai", "/v1/responses"),
        Err(NotRecorded::Ended)
    );
    assert_eq!(session.turn_started(asked("codex", 1)), Err(NotRecorded::Ended));
    assert_eq!(
        session.handing_out(&Changes::none(), HandedTo::Caller).await,
        Err(NotRecorded::Ended)
    );
}

#[tokio::test]
async fn the_digest_of_what_is_handed_out_is_the_patchs() {
    let desk = Desk::new();
    let changes = Changes {
        patch_sha256: Digest::of(b"+x\n").to_string(),
        insertions: 1,
        ..Changes::none()
    };
    desk.session.handing_out(&changes, HandedTo::Caller).await.unwrap();
    let records = desk.records();
    assert_eq!(records[0]["sha256"], Digest::of(b"+x\n").to_string());
    assert_eq!(records[0]["to"]["kind"], "caller");
}
