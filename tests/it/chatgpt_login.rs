//! The ChatGPT login against a stand-in of the hosts: many sessions, many processes, other writers, and sudden ends. What counts
//! is what the stand-in counts: no refresh token ever comes a second time.

use crate::chatgpt::{ChatGpt, Counts, Fault};
use codex_mcp::auth::chatgpt::store::FileError;
use codex_mcp::auth::chatgpt::{ACCOUNT_HEADER, Access, ChatGptLogin, LoginError, LoginErrorKind, RefreshToken};
use codex_mcp::auth::upstream::Upstream;
use codex_mcp::config::quantity::Scheme;
use codex_mcp::dial::{Dialer, Names};
use codex_mcp::redact::Redactor;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

struct Bench {
    home: TempDir,
    chatgpt: ChatGpt,
}

impl Bench {
    /// A login whose access token has so many seconds left; later ones are good for an hour.
    async fn new(seconds: i64) -> Self {
        let bench = Self {
            home: tempfile::tempdir().unwrap(),
            chatgpt: ChatGpt::start().await,
        };
        bench.chatgpt.set_lifetime(seconds);
        bench.log_in();
        bench.chatgpt.set_lifetime(3600);
        bench
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("auth.json")
    }

    fn log_in(&self) {
        replace(&self.file(), &self.chatgpt.log_in());
    }

    fn login(&self) -> ChatGptLogin {
        login(self.file(), &self.chatgpt.token_url(), Redactor::default())
    }

    fn read(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap()
    }

    fn refresh_token(&self) -> String {
        self.read()["tokens"]["refresh_token"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn counted(&self, refreshes: usize) {
        let counts = self.chatgpt.counts();
        assert_eq!((counts.refreshes, counts.reuses), (refreshes, 0), "{counts:?}");
    }

    /// Another process, which does [`as_another_process`].
    fn another(&self, task: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "chatgpt_login::as_another_process",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env("CHATGPT_LOGIN_TASK", task)
            .env("CHATGPT_LOGIN_FILE", self.file())
            .env("CHATGPT_LOGIN_URL", self.chatgpt.token_url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn login(file: PathBuf, token_url: &str, redactor: Redactor) -> ChatGptLogin {
    ChatGptLogin::new(file, token_url.parse().unwrap(), upstream(), redactor)
}

fn upstream() -> Upstream {
    Upstream::new(Dialer::new(Names::new(&[])), None)
}

/// As Codex writes it.
fn replace(file: &Path, text: &str) {
    let beside = file.with_file_name(".auth-other");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, file).unwrap();
}

fn bearer(access: &Access) -> String {
    String::from_utf8(access.bearer().expose().to_vec()).unwrap()
}

/// What a test process says in a token's place.
fn digest(access: &Access) -> String {
    let digest = Sha256::digest(access.bearer().expose());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn all<T: Send + 'static, F: Future<Output = T> + Send + 'static>(tasks: impl Iterator<Item = F>) -> Vec<T> {
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_sessions_over_an_expiring_token_cause_one_refresh() {
    let bench = Bench::new(60).await;
    bench.chatgpt.set_delay(Duration::from_millis(100));
    let login = bench.login();
    let users = (0..50).map(|_| {
        let login = login.clone();
        async move { login.current().await.unwrap() }
    });
    let accesses = all(users).await;
    bench.counted(1);
    assert_eq!(bench.chatgpt.counts().token_requests, 1);
    let saved = bench.read();
    for access in &accesses {
        assert_eq!(saved["tokens"]["access_token"], bearer(access));
        assert_eq!(access.account().as_str(), crate::chatgpt::ACCOUNT);
    }
    assert_eq!(saved["x_of_another_version"]["kept"], true);
    assert_ne!(saved["last_refresh"], "2026-11-01T00:00:00Z");
    assert_eq!(fs::metadata(bench.file()).unwrap().mode() & 0o7777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_sessions_that_are_refused_together_cause_one_refresh() {
    let bench = Bench::new(3600).await;
    let login = bench.login();
    let refused = login.current().await.unwrap();
    bench.counted(0);
    bench.chatgpt.forget_access();
    let users = (0..50).map(|_| {
        let (login, refused) = (login.clone(), Arc::clone(&refused));
        async move { bearer(&login.after_refusal(&refused).await.unwrap()) }
    });
    let given = all(users).await;
    bench.counted(1);
    assert!(
        given
            .iter()
            .all(|token| *token == given[0] && *token != bearer(&refused))
    );
    // One that is refused at once is not refreshed again: the provider means something else.
    let access = login.current().await.unwrap();
    let error = login.after_refusal(&access).await.unwrap_err();
    assert_eq!(error.kind(), LoginErrorKind::LogIn);
    bench.counted(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_refresh_together_use_a_token_once() {
    let bench = Bench::new(-60).await;
    // Long enough for all of them to find the token expired.
    bench.chatgpt.set_delay(Duration::from_secs(1));
    let mut others: Vec<Child> = (0..4).map(|_| bench.another("once")).collect();
    let ours = digest(&bench.login().current().await.unwrap());
    for other in &mut others {
        assert_eq!(said(other), ours);
        assert!(other.wait().unwrap().success());
    }
    bench.counted(1);
}

/// What another process says of its token.
fn said(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = lines.map(Result::unwrap).find_map(|line| {
        let (_, said) = line.split_once("digest ")?;
        Some(said.to_owned())
    });
    line.expect("it says what it got")
}

#[tokio::test]
#[ignore = "the other process of the tests here, which start it"]
async fn as_another_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (file, url) = (
        PathBuf::from(variable("CHATGPT_LOGIN_FILE")),
        variable("CHATGPT_LOGIN_URL"),
    );
    if variable("CHATGPT_LOGIN_TASK") == "once" {
        let access = login(file, &url, Redactor::default()).current().await.unwrap();
        println!("digest {}", digest(&access));
        return;
    }
    // Until it is killed, or what it did before being killed leaves it nothing to do.
    while login(file.clone(), &url, Redactor::default()).current().await.is_ok() {}
}

#[tokio::test]
async fn a_refused_refresh_says_what_to_run_and_is_not_repeated() {
    for (code, words) in [
        ("refresh_token_expired", "has expired"),
        ("refresh_token_reused", "was used already"),
        ("refresh_token_invalidated", "was revoked"),
    ] {
        let bench = Bench::new(-60).await;
        bench.chatgpt.fault(Fault::Refuse(401, code));
        let login = bench.login();
        for _ in 0..3 {
            let error = login.current().await.unwrap_err();
            assert_eq!(error.kind(), LoginErrorKind::LogIn);
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("codex login"), "{text}");
        }
        assert_eq!(bench.chatgpt.counts().token_requests, 1);
        // Another process can't know more than that it was sent.
        let text = bench.login().current().await.unwrap_err().to_string();
        assert!(
            text.contains("sent once already") && text.contains("codex login"),
            "{text}"
        );
        assert_eq!(bench.chatgpt.counts().token_requests, 1);
        // Whoever logs in again is served at once.
        bench.log_in();
        login.current().await.unwrap();
        bench.counted(0);
    }
}

#[tokio::test]
async fn a_token_is_not_sent_again_where_no_answer_came() {
    let bench = Bench::new(120).await;
    let login = bench.login();
    bench.chatgpt.fault(Fault::LoseAnswer);
    let old = bearer(&login.current().await.unwrap());
    bench.counted(1);
    // Good for two minutes more; nothing is sent.
    assert_eq!(bearer(&login.current().await.unwrap()), old);
    assert_eq!(bearer(&bench.login().current().await.unwrap()), old);
    let refused = login.current().await.unwrap();
    let error = login.after_refusal(&refused).await.unwrap_err();
    assert_eq!(error.kind(), LoginErrorKind::LogIn);
    assert_eq!(
        bench.chatgpt.counts(),
        Counts {
            refreshes: 1,
            token_requests: 1,
            ..Counts::default()
        }
    );
    assert_eq!(bench.login().status().await.unwrap().refresh_token, RefreshToken::Spent);
}

#[tokio::test]
async fn a_token_that_never_left_is_still_good() {
    let bench = Bench::new(-60).await;
    // Bound and dropped: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nowhere = login(bench.file(), &format!("http://{closed}/"), Redactor::default());
    let error = nowhere.current().await.unwrap_err();
    assert_eq!(error.kind(), LoginErrorKind::Unreachable);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
    assert_eq!(bench.login().status().await.unwrap().refresh_token, RefreshToken::Ready);
    bench.login().current().await.unwrap();
    bench.counted(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_loses_nothing() {
    let bench = Bench::new(-60).await;
    bench.chatgpt.set_delay(Duration::from_millis(300));
    let login = bench.login();
    // Its exchange is under way when it gives up.
    let asked = async {
        while bench.chatgpt.counts().token_requests == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        early = login.current() => panic!("answered before it gave up: {}", early.is_ok()),
        () = asked => {}
    }
    login.settle().await;
    let saved = bench.read();
    bench.counted(1);
    assert_eq!(saved["tokens"]["access_token"], bearer(&login.current().await.unwrap()));
    bench.counted(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_a_race_with_codex_takes_what_codex_wrote() {
    let bench = Bench::new(-60).await;
    // Codex sent the same token, was first, and writes its answer after ours came.
    bench.chatgpt.fault(Fault::Refuse(401, "refresh_token_reused"));
    let login = bench.login();
    let refreshing = tokio::spawn(async move { login.current().await });
    while bench.chatgpt.counts().token_requests == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.log_in();
    let access = refreshing.await.unwrap().unwrap();
    assert_eq!(bench.read()["tokens"]["access_token"], bearer(&access));
    assert_eq!(bench.chatgpt.counts().token_requests, 1);
}

/// The stand-in is as strict as the host it stands for, and behind it is the scripted model.
#[tokio::test]
async fn the_backend_takes_good_tokens_of_its_account_and_streams() {
    let bench = Bench::new(3600).await;
    let access = bench.login().current().await.unwrap();
    let ask = |headers: HeaderMap| {
        let upstream = upstream();
        let url = format!("{}/responses", bench.chatgpt.base_url());
        async move {
            let body = json!({"input": [{"role": "user", "content": "#text hello there"}]}).to_string();
            let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
            let mut request = Request::post(url).body(body).unwrap();
            *request.headers_mut() = headers;
            let answer = upstream.send(Scheme::Http, request).await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    };
    let mut headers = HeaderMap::new();
    access.add_to(&mut headers);
    assert!(headers["authorization"].is_sensitive());
    let (status, said) = ask(headers.clone()).await;
    assert_eq!(status, 200);
    assert!(said.contains("response.completed") && said.contains("hello"), "{said}");
    let mut nobodys = headers.clone();
    nobodys.remove(ACCOUNT_HEADER);
    assert_eq!(ask(nobodys).await.0, 401);
    bench.chatgpt.forget_access();
    assert_eq!(ask(headers).await.0, 401);
    assert_eq!(bench.chatgpt.requests().len(), 1);
    assert_eq!(
        (bench.chatgpt.counts().served, bench.chatgpt.counts().unauthorized),
        (1, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_writes_meanwhile_stands() {
    let bench = Bench::new(-60).await;
    bench.chatgpt.set_delay(Duration::from_millis(500));
    let login = bench.login();
    let refreshing = tokio::spawn({
        let login = login.clone();
        async move { login.current().await }
    });
    while bench.chatgpt.counts().token_requests == 0 {
        tokio::task::yield_now().await;
    }
    bench.log_in();
    let theirs = bench.refresh_token();
    refreshing.await.unwrap().unwrap();
    assert_eq!(bench.refresh_token(), theirs);
    let access = login.current().await.unwrap();
    assert_eq!(bench.read()["tokens"]["access_token"], bearer(&access));
    bench.counted(1);
    // And whoever logs out is logged out.
    fs::remove_file(bench.file()).unwrap();
    let gone = login.current().await.unwrap_err();
    assert!(matches!(gone, LoginError::File(FileError::Missing(_))), "{gone}");
}

#[tokio::test]
async fn what_can_not_be_saved_is_kept_and_saved_later() {
    let bench = Bench::new(-60).await;
    let login = bench.login();
    let before = bench.refresh_token();
    // In the way of what is written beside the file.
    let obstacle = bench.home.path().join("auth.json.codex-mcp.new");
    fs::create_dir(&obstacle).unwrap();
    let given = bearer(&login.current().await.unwrap());
    assert_eq!(bench.refresh_token(), before);
    assert_eq!(bearer(&login.current().await.unwrap()), given);
    bench.counted(1);
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(bearer(&login.current().await.unwrap()), given);
    assert_eq!(bench.read()["tokens"]["access_token"], given);
    assert_eq!(bearer(&bench.login().current().await.unwrap()), given);
    bench.counted(1);
}

#[tokio::test]
async fn a_file_that_can_not_be_marked_is_not_refreshed() {
    let bench = Bench::new(-60).await;
    fs::create_dir(bench.home.path().join("auth.json.codex-mcp.spent")).unwrap();
    let error = bench.login().current().await.unwrap_err();
    assert_eq!(error.kind(), LoginErrorKind::Machine);
    assert!(error.to_string().contains("auth.json.codex-mcp.spent"), "{error}");
    assert_eq!(bench.chatgpt.counts().token_requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_file_finds_it_whole() {
    // Each is synchronised to the disk, which takes half a second on a slow one.
    const ROTATIONS: usize = 50;
    let bench = Bench::new(-60).await;
    bench.chatgpt.set_lifetime(-60);
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (file, done) = (bench.file(), Arc::clone(&done));
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Ordering::SeqCst) {
                let text = fs::read(&file).unwrap();
                let value: Value = serde_json::from_slice(&text).expect("it is whole");
                seen.insert(value["tokens"]["refresh_token"].as_str().unwrap().to_owned());
                assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
            }
            seen.len()
        }
    });
    for _ in 0..ROTATIONS {
        // Another one each time: one that has just refreshed does not do so again.
        bench.login().current().await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let seen = reader.join().unwrap();
    assert!(seen > 10, "the reader saw {seen} of them");
    bench.counted(ROTATIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_a_whole_file_and_no_token_is_used_twice() {
    let bench = Bench::new(-60).await;
    bench.chatgpt.set_lifetime(-60);
    let (mut saved, mut lost) = (0, 0);
    for round in 0..30_u64 {
        bench.log_in();
        let before = bench.chatgpt.counts().token_requests;
        let mut child = bench.another("loop");
        while bench.chatgpt.counts().token_requests == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 7_919 % 90_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let reading = bench.login().status().await.expect("the file is whole");
        match bench.login().current().await {
            Ok(_) => saved += 1,
            Err(LoginError::LogIn { .. }) => lost += 1,
            Err(error) => panic!("{reading:?} {error}"),
        }
        assert_eq!(bench.chatgpt.counts().reuses, 0, "round {round}");
    }
    eprintln!("killed 30 times: {saved} logins went on, {lost} have to log in again");
    let left: Vec<_> = fs::read_dir(bench.home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".new"))
        .collect();
    // The last round's may be there; the next refresh takes it away.
    assert!(left.len() <= 2, "{left:?}");
}

#[tokio::test]
async fn what_is_read_and_given_is_never_printed() {
    let bench = Bench::new(60).await;
    let redactor = Redactor::default();
    let login = login(bench.file(), &bench.chatgpt.token_url(), redactor.clone());
    let before = bench.refresh_token();
    let access = login.current().await.unwrap();
    for secret in [before, bench.refresh_token(), bearer(&access)] {
        assert_eq!(redactor.text(&secret), "[redacted]");
        assert!(!format!("{access:?} {login:?}").contains(&secret));
    }
}

#[tokio::test]
async fn the_status_changes_nothing() {
    let bench = Bench::new(-60).await;
    let before = fs::read(bench.file()).unwrap();
    let status = bench.login().status().await.unwrap();
    assert_eq!(status.account.as_str(), crate::chatgpt::ACCOUNT);
    assert_eq!(status.plan.as_deref(), Some("plus"));
    assert_eq!(status.email.as_deref(), Some(crate::chatgpt::EMAIL));
    assert!(status.expired && status.refresh_token == RefreshToken::Ready);
    assert_eq!(fs::read(bench.file()).unwrap(), before);
    assert_eq!(fs::read_dir(bench.home.path()).unwrap().count(), 1);
    assert_eq!(bench.chatgpt.counts(), Counts::default());
}

/// Codex itself refreshes what we left, and we go on with what it wrote: `CODEX=/path/to/codex cargo nextest run --test it
/// --run-ignored only real_codex`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Codex on this host, named by CODEX"]
async fn real_codex_and_we_take_turns_with_one_file() {
    let codex = std::env::var("CODEX").expect("CODEX names the program");
    let bench = Bench::new(60).await;
    let backend = bench.chatgpt.base_url();
    let run = |expected_requests: usize| {
        let mut codex = Command::new(&codex)
            .args([
                "exec",
                "--skip-git-repo-check",
                "-c",
                "features.plugins=false",
                "-c",
                "features.apps=false",
                "-c",
            ])
            .arg(format!("chatgpt_base_url=\"{}\"", backend.trim_end_matches("/codex")))
            .arg("hi")
            .env("CODEX_HOME", bench.home.path())
            .env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", bench.chatgpt.token_url())
            .current_dir(bench.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let before = bench.refresh_token();
        // Until its refresh is in the file, or for as long as it would need for one.
        while (bench.chatgpt.counts().token_requests < expected_requests || bench.refresh_token() == before)
            && begun.elapsed() < Duration::from_secs(6)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        codex.kill().unwrap();
        codex.wait().unwrap();
    };
    // Codex refreshes; ours is used as it is.
    run(1);
    bench.counted(1);
    let access = bench.login().current().await.unwrap();
    assert_eq!(bench.read()["tokens"]["access_token"], bearer(&access));
    bench.counted(1);
    // We refresh; Codex sends nothing.
    let ours = bench.login().after_refusal(&access).await.unwrap();
    bench.counted(2);
    assert_eq!(bench.read()["tokens"]["access_token"], bearer(&ours));
    run(3);
    bench.counted(2);
    assert_eq!(bench.chatgpt.counts().token_requests, 2);
}
