//! `--alert-webhook` against real HTTP servers that fail, stay silent, or aren't there: the job ends as without it.

mod common;

use common::Stage;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::limits::{WEBHOOK_ATTEMPTS_MAX, WEBHOOK_FLUSH_MS};

/// What the receiver does with a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(u16),
    /// Closes the connection without a word.
    Drop,
    /// Keeps the connection open and says nothing.
    Silence,
}

/// A receiver of alarms on the loopback interface, which remembers what it was sent.
struct Receiver {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Debug, Clone)]
struct Request {
    /// Request line and headers.
    head: Vec<String>,
    body: Value,
}

impl Receiver {
    /// Answers the n-th request by the n-th answer, and further ones by the last.
    fn start(answers: &[Answer]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answers) = (Arc::clone(&requests), answers.to_vec());
        thread::spawn(move || {
            let mut silent = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let request = read_request(&mut connection);
                let n_before = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request);
                match answers[n_before.min(answers.len() - 1)] {
                    Answer::Status(status) => answer(&mut connection, status),
                    Answer::Drop => drop(connection),
                    Answer::Silence => silent.push(connection),
                }
            }
        });
        Receiver { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(connection: &mut TcpStream) -> Request {
    let mut reader = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let len = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    Request { head, body }
}

fn answer(connection: &mut TcpStream, status: u16) {
    let text = format!("HTTP/1.1 {status} Answer\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
    connection.write_all(text.as_bytes()).unwrap();
}

/// Runs a job of two tasks on two workers, of which one is slow enough for one alarm, and posts it to `address`.
fn run(stage: &Stage, address: &str, options: &str) -> Output {
    let line = "multiply A.npy B.npy -o C.npy --memory 24MiB --workers 2 --assign round-robin --json";
    let mut command = stage.command(&format!("{line}{options}"));
    command
        .env("TILEWORK_TEST_SLOW", "1:2000ms")
        .env("TILEWORK_ALERT_WEBHOOK", address);
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    command.output().unwrap()
}

fn stage() -> Stage {
    Stage::with_inputs("700x1500", "1500x700", "")
}

/// The report of a job that is done in spite of everything, and its log.
fn done(output: &Output) -> (Value, String) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["status"], &report["alarms_total"]),
        (&"done".into(), &1.into()),
        "{report}"
    );
    (report, String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn an_alarm_arrives_after_an_error_and_a_dropped_connection() {
    let (stage, receiver) = (
        stage(),
        Receiver::start(&[Answer::Status(500), Answer::Drop, Answer::Status(200)]),
    );
    let (report, log) = done(&run(&stage, &receiver.address, ""));
    let expected = serde_json::json!({ "alarms": 1, "delivered": 1, "error": null });
    assert_eq!(report["webhook"], expected);
    assert!(!log.contains("webhook"), "{log}");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    for request in requests {
        assert_eq!(request.head[0], "post /hook?token=secret http/1.1");
        assert!(
            request
                .head
                .contains(&"content-type: application/json".to_owned()),
            "{request:?}"
        );
        assert_eq!(request.body["alarm"], report["alarms"][0]);
        assert_eq!(request.body["output"], *stage.path("C.npy").to_string_lossy());
        let job = request.body["job"].as_str().unwrap();
        assert!(
            job.len() == 12 && job.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{job}"
        );
    }
}

#[test]
fn a_receiver_that_always_fails_is_asked_so_many_times_and_the_job_says_so() {
    let (stage, receiver) = (stage(), Receiver::start(&[Answer::Status(503)]));
    let (report, log) = done(&run(&stage, &receiver.address, " --log-file log"));
    assert_eq!(receiver.requests().len(), WEBHOOK_ATTEMPTS_MAX as usize);
    assert_eq!(
        (&report["webhook"]["alarms"], &report["webhook"]["delivered"]),
        (&1.into(), &0.into())
    );
    assert!(
        report["webhook"]["error"].as_str().unwrap().contains("503"),
        "{report}"
    );
    assert_eq!(
        log.matches("1 of 1 alarms did not reach the webhook at http://127.0.0.1:")
            .count(),
        1,
        "{log}"
    );
    let log_file = String::from_utf8(stage.read("log")).unwrap();
    assert!(
        log_file.contains("did not reach") && log_file.contains("503"),
        "{log_file}"
    );
    assert!(
        !log.contains("secret") && !log_file.contains("secret"),
        "{log_file}"
    );
}

#[test]
fn an_answer_that_no_repetition_changes_ends_it() {
    for (status, words) in [(404, "404"), (307, "redirects are not followed")] {
        let (stage, receiver) = (stage(), Receiver::start(&[Answer::Status(status)]));
        let (report, _) = done(&run(&stage, &receiver.address, ""));
        assert_eq!(receiver.requests().len(), 1);
        assert!(
            report["webhook"]["error"].as_str().unwrap().contains(words),
            "{report}"
        );
    }
}

#[test]
fn a_receiver_that_never_answers_holds_the_job_up_no_longer_than_the_limit() {
    let (stage, receiver) = (stage(), Receiver::start(&[Answer::Silence]));
    let started = Instant::now();
    let (report, log) = done(&run(&stage, &receiver.address, ""));
    let after_the_job = started.elapsed() - Duration::from_secs_f64(report["seconds"].as_f64().unwrap());
    let slack = Duration::from_secs(2);
    assert!(
        after_the_job < Duration::from_millis(WEBHOOK_FLUSH_MS) + slack,
        "{after_the_job:?}"
    );
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(report["webhook"]["delivered"], 0);
    assert!(log.contains("no answer within 3 s after the job's end"), "{log}");
}

#[test]
fn a_receiver_that_is_not_there_changes_nothing_but_the_report() {
    let stage = stage();
    // Bound and closed again: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (report, log) = done(&run(&stage, &format!("http://{free}/"), ""));
    assert_eq!(report["webhook"]["delivered"], 0);
    assert!(
        log.contains("1 of 1 alarms did not reach the webhook") && log.contains("refused"),
        "{log}"
    );
    assert_eq!(stage.run("verify C.npy --json").status.code(), Some(0));
}

#[test]
fn a_job_without_alarms_posts_nothing() {
    let (stage, receiver) = (stage(), Receiver::start(&[Answer::Status(200)]));
    let line = format!(
        "multiply A.npy B.npy -o C.npy --json --alert-webhook {}",
        receiver.address
    );
    let report: Value = serde_json::from_slice(&stage.run(&line).stdout).unwrap();
    assert_eq!(
        report["webhook"],
        serde_json::json!({ "alarms": 0, "delivered": 0, "error": null })
    );
    assert!(receiver.requests().is_empty());
}

#[test]
fn what_is_no_web_address_is_refused_before_anything_is_made() {
    let stage = stage();
    for command in [
        "multiply A.npy B.npy -o C.npy",
        "gram A.npy -o C.npy",
        "plan multiply A.npy B.npy",
        "resume C.npy",
    ] {
        for address in ["ftp://example.com/x", "example.com", "http://"] {
            let output = stage.run(&format!("{command} --json --alert-webhook {address}"));
            assert_eq!(output.status.code(), Some(2), "{command} {address}");
            let failure: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(
                failure["error"]
                    .as_str()
                    .unwrap()
                    .contains("https://alerts.example.com"),
                "{failure}"
            );
            assert!(failure["next"].is_string(), "{failure}");
        }
    }
    assert!(!stage.path("C.npy.tilework").exists());
}

/// A job that is no product posts its alarms too, also those of its failure.
#[test]
fn the_alarms_of_a_job_of_the_programs_own_arrive() {
    let receiver = Receiver::start(&[Answer::Status(200)]);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tilework"));
    let program = program.parent().unwrap().join("examples/misbehaves");
    assert!(
        program.exists(),
        "{} is not built: cargo build -p tilework --examples",
        program.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(program);
    command.current_dir(folder.path()).args(
        "run misbehaves --set deed=IsLate --set folder=. -o out.json --json"
            .split(' ')
            .chain(["--alert-webhook", &receiver.address]),
    );
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let n_alarms = report["alarms_total"].as_u64().unwrap();
    // Four failures that are made good, and the last one.
    assert!(n_alarms >= 5, "{report}");
    let webhook = serde_json::json!({ "alarms": n_alarms, "delivered": n_alarms, "error": null });
    assert_eq!(report["webhook"], webhook);
    let kinds: Vec<Value> = receiver
        .requests()
        .iter()
        .map(|request| request.body["alarm"]["kind"].clone())
        .collect();
    assert_eq!(kinds[kinds.len() - 1], "poison-task", "{kinds:?}");
}
