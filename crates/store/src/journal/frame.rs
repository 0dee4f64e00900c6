//! One record as bytes: a header with its own CRC, the payload, and a CRC over both.
//!
//! ```text
//! 0   4  magic "TWJ1"
//! 4   1  record version
//! 5   1  record kind
//! 6   2  zero
//! 8   4  payload length, little-endian
//! 12  4  CRC32C of bytes 0..12
//! 16  n  payload
//! 16+n 4 CRC32C of bytes 0..16 and the payload
//! ```

use tilework_core::limits::RECORD_PAYLOAD_BYTES_MAX;
use tilework_core::record::{RECORD_VERSION, Record};

/// First bytes of every record.
pub const MAGIC: [u8; 4] = *b"TWJ1";
/// Bytes before the payload.
pub const HEADER_LEN: usize = 16;
/// Bytes after the payload.
pub const TRAILER_LEN: usize = 4;

/// Appends `record` in its frame to `out`.
///
/// # Panics
/// If the payload is over [`RECORD_PAYLOAD_BYTES_MAX`].
pub fn append(record: &Record, out: &mut Vec<u8>) {
    append_payload(record.kind(), &record.encode(), out);
}

/// Appends a payload in its frame, whatever it is.
pub(crate) fn append_payload(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    assert!(
        payload.len() <= RECORD_PAYLOAD_BYTES_MAX,
        "record of {} bytes",
        payload.len()
    );
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[RECORD_VERSION, kind, 0, 0]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let header_crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&header_crc.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The intact records of `bytes` in order, and how many bytes belong to none.
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan {
        records: Vec::new(),
        n_damaged_bytes: 0,
    };
    let mut at = 0;
    while at < bytes.len() {
        if let Some((record, len)) = read_one(&bytes[at..]) {
            scan.records.push(record);
            at += len;
        } else {
            let next = find_magic(&bytes[at + 1..]).map_or(bytes.len(), |offset| at + 1 + offset);
            scan.n_damaged_bytes += (next - at) as u64;
            at = next;
        }
    }
    scan
}

/// What [`scan`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// Intact records, in file order.
    pub records: Vec<Record>,
    /// Bytes that belong to no intact record.
    pub n_damaged_bytes: u64,
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

/// The record at the start of `bytes` and the length of its frame, if it is intact.
fn read_one(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..4] != MAGIC || header[4] != RECORD_VERSION || crc32c::crc32c(&header[..12]) != word(12) {
        return None;
    }
    let payload_len = word(8) as usize;
    if payload_len > RECORD_PAYLOAD_BYTES_MAX || rest.len() < payload_len + TRAILER_LEN {
        return None;
    }
    let (payload, trailer) = rest.split_at(payload_len);
    let crc = u32::from_le_bytes(*trailer.first_chunk()?);
    if crc32c::crc32c(&bytes[..HEADER_LEN + payload_len]) != crc {
        return None;
    }
    Some((
        Record::decode(header[5], payload).ok()?,
        HEADER_LEN + payload_len + TRAILER_LEN,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
    use tilework_core::record::{Barrier, Commit, RoundStart, RunStart, Winner};

    fn winner(byte: u8) -> Winner {
        Winner {
            epoch: RunEpoch(u32::from(byte) << 20),
            attempt: AttemptNo(byte),
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
        let attempt = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u8>()).prop_map(
            |(epoch, round, task, attempt)| Attempt {
                epoch: RunEpoch(epoch),
                round: RoundIdx(round),
                task: TaskIdx(task),
                attempt: AttemptNo(attempt),
            },
        );
        let commit = (
            attempt,
            any::<u32>(),
            any::<bool>(),
            any::<u32>(),
            -1e9..1e9f64,
            -1e9..1e9f64,
            0.0..1e9f64,
            bytes(),
        )
            .prop_map(
                |(attempt, worker, checked, crc32c, residual, residual_bound, seconds, output)| {
                    Record::Commit(Commit {
                        attempt,
                        worker: WorkerIdx(worker),
                        checked,
                        crc32c,
                        residual,
                        residual_bound,
                        seconds,
                        output,
                    })
                },
            );
        prop_oneof![
            bytes().prop_map(Record::Job),
            bytes().prop_map(Record::Done),
            (any::<[u8; 16]>(), any::<u32>(), any::<u64>(), any::<u32>()).prop_map(
                |(job, epoch, started_unix_ms, pid)| {
                    Record::Run(RunStart {
                        job: JobId(job),
                        epoch: RunEpoch(epoch),
                        started_unix_ms,
                        pid,
                    })
                }
            ),
            commit,
            (any::<u32>(), any::<u64>(), bytes()).prop_map(|(round, n_tasks, state)| {
                Record::Round(RoundStart {
                    round: RoundIdx(round),
                    n_tasks,
                    state,
                })
            }),
            (any::<u32>(), any::<u32>(), bytes()).prop_map(|(round, epoch, winners)| {
                Record::Barrier(Barrier {
                    round: RoundIdx(round),
                    epoch: RunEpoch(epoch),
                    winners: winners.into_iter().map(winner).collect(),
                })
            }),
        ]
    }

    fn frames(records: &[Record]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
        let mut bytes = Vec::new();
        let mut ranges = Vec::new();
        for record in records {
            let start = bytes.len();
            append(record, &mut bytes);
            ranges.push(start..bytes.len());
        }
        (bytes, ranges)
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip(records in proptest::collection::vec(any_record(), 0..8)) {
            let (bytes, _) = frames(&records);
            prop_assert_eq!(scan(&bytes), Scan { records, n_damaged_bytes: 0 });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            scan(&bytes);
        }

        #[test]
        fn a_cut_keeps_every_whole_record(records in proptest::collection::vec(any_record(), 1..5), share in 0.0..1.0f64) {
            let (bytes, ranges) = frames(&records);
            let cut = (bytes.len() as f64 * share) as usize;
            let n_whole = ranges.iter().filter(|range| range.end <= cut).count();
            let found = scan(&bytes[..cut]);
            prop_assert_eq!(&found.records, &records[..n_whole]);
        }
    }

    #[test]
    fn any_flipped_bit_costs_its_own_record_only() {
        let records = [
            Record::Job(b"a job".to_vec()),
            Record::Done(b"TWJ1 inside a payload".to_vec()),
            Record::Job(vec![]),
        ];
        let (bytes, ranges) = frames(&records);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let hit = ranges
                .iter()
                .position(|range| range.contains(&(bit / 8)))
                .unwrap();
            let mut expected = records.to_vec();
            expected.remove(hit);
            assert_eq!(scan(&damaged).records, expected, "bit {bit}");
        }
    }
}
