//! What a cluster's processes tell each other: what is written of what was read is read as the same.

use crate::cluster::TILEWORK;
use crate::cluster::board::Board;
use crate::cluster::events;
use crate::cluster::protocol::{
    Cancel, Empty, Join, Ping, Planned, Pong, Submit, Submitted, Welcome, answer, ask, read_answer, read_ask,
};
use crate::cluster::record::{JobRecord, key_of};
use crate::failure::CliError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;
use tilework_nats::limits::MEMBER_BYTES_MAX;

/// Requests, and answers: as they come, and as what is asked by this release.
pub(super) fn requests(input: &[u8]) {
    all_requests(input);
    let by_this_release = format!(r#"{{"tilework":"{TILEWORK}","body":"#);
    all_requests(&[by_this_release.as_bytes(), input, b"}"].concat());
}

fn all_requests(input: &[u8]) {
    asked::<Ping>(input);
    asked::<Submit>(input);
    asked::<Cancel>(input);
    if let Some(join) = asked::<Join>(input)
        && join.check().is_ok()
    {
        let kept = serde_json::to_vec(&join).expect("plain data becomes JSON").len();
        assert!(
            kept <= MEMBER_BYTES_MAX,
            "a worker that is admitted takes {kept} bytes"
        );
    }
    answered::<Pong>(input);
    answered::<Welcome>(input);
    answered::<Submitted>(input);
    answered::<Planned>(input);
    answered::<Empty>(input);
}

fn asked<B: Serialize + DeserializeOwned + Debug + PartialEq>(input: &[u8]) -> Option<B> {
    let body: B = read_ask(input).ok()?;
    // An enlarged text may be longer than any that is read.
    match read_ask::<B>(&ask(&body)) {
        Ok(again) => assert_eq!(again, body),
        Err(error) => assert!(error.message.contains("bytes"), "{error:?}"),
    }
    Some(body)
}

fn answered<B: Serialize + DeserializeOwned + Debug + PartialEq>(input: &[u8]) {
    let outcome: Result<B, CliError> = read_answer(input);
    if let Ok(body) = outcome {
        assert_eq!(read_answer::<B>(&answer(Ok(&body))), Ok(body));
    }
}

/// The key of a job's record, and the record.
pub(super) fn job_record(input: &[u8]) {
    let _ = JobRecord::from_bytes("0123", input);
    // A record under its own key.
    let text = serde_json::from_slice::<serde_json::Value>(input).ok();
    let text = text.and_then(|record| Some(record.get("job_text")?.as_str()?.to_owned()));
    let Some(text) = text else {
        return;
    };
    let key = key_of(tilework_store::journal::recover::job_id(text.as_bytes()));
    let Ok(mut record) = JobRecord::from_bytes(&key, input) else {
        return;
    };
    assert_eq!(key_of(record.id()), key);
    assert_eq!(
        JobRecord::from_bytes(&key, &record.to_bytes()).as_ref(),
        Ok(&record)
    );
    assert_eq!(record.check_inputs(&record.inputs), Ok(()));
    record.drop_details();
    assert!(!record.has_details());
}

/// The board with what is asked of it, and events.
pub(super) fn board_and_events(input: &[u8]) {
    let read = events::read(input);
    let written = serde_json::to_vec(&read).expect("plain data becomes JSON");
    assert_eq!(events::read(&written), read);
    let Ok(board) = serde_json::from_slice::<Board>(input) else {
        return;
    };
    let written = serde_json::to_vec(&board).expect("plain data becomes JSON");
    assert_eq!(
        serde_json::from_slice::<Board>(&written).ok().as_ref(),
        Some(&board)
    );
    for job in &board.jobs {
        match board.find(&job.id) {
            Ok(found) => assert!(job.id.is_empty() || found.is_some()),
            Err(ids) => assert!(ids.contains(&job.id)),
        }
        let _ = (
            board.find(&job.output),
            board.output_like(&job.output),
            board.at_place(Path::new(&job.output)),
        );
    }
}
