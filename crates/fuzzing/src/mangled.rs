//! Bytes that were right once: bits flipped, parts cut out, doubled or moved, numbers made as large as they get.

use proptest::prelude::*;
use proptest::sample::Index;

/// `seeds` after one to four changes.
pub fn mangled(seeds: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (seeds, prop::collection::vec(changes(), 1..=4)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    })
}

/// Something that happens to bytes on their way.
#[derive(Debug, Clone)]
enum Change {
    FlipBit(Index, u8),
    CutAfter(Index),
    CutOut(Index, Index),
    Double(Index, Index),
    /// Puts a part elsewhere.
    Splice(Index, Index, Index),
    /// Overwrites, with what readers of lengths and counts trip over.
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
}

fn changes() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::FlipBit(at, bit)),
        index().prop_map(Change::CutAfter),
        (index(), index()).prop_map(|(from, to)| Change::CutOut(from, to)),
        (index(), index()).prop_map(|(from, to)| Change::Double(from, to)),
        (index(), index(), index()).prop_map(|(from, to, at)| Change::Splice(from, to, at)),
        (index(), hostile()).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        (index(), hostile()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        Just(vec![0; 8]),
        Just(vec![0xff; 4]),
        Just(vec![0xff; 8]),
        Just((1_u64 << 60).to_le_bytes().to_vec()),
        Just(u32::MAX.to_be_bytes().to_vec()),
        prop::sample::select(
            &[
                "0",
                "-1",
                "18446744073709551615",
                "18446744073709551616",
                "4294967295",
                "1e400",
                "-0.0",
                "null",
                "[[[[",
                "}",
                "\"",
                "\\u0000",
                "{}",
                ",",
                ":",
                "/../",
                "\u{feff}",
                "\n",
                " ",
            ][..]
        )
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // An index into what may be empty, its end included.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        let part = |from: &Index, to: &Index, bytes: &[u8]| {
            let (from, to) = (place(from, bytes), place(to, bytes));
            from.min(to)..from.max(to)
        };
        match self {
            Change::FlipBit(at, bit) => {
                let at = place(at, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Change::CutAfter(at) => bytes.truncate(place(at, bytes)),
            Change::CutOut(from, to) => drop(bytes.drain(part(from, to, bytes))),
            Change::Double(from, to) => {
                let part = part(from, to, bytes);
                let (end, copy) = (part.end, bytes[part].to_vec());
                bytes.splice(end..end, copy);
            }
            Change::Splice(from, to, at) => {
                let moved: Vec<u8> = bytes.drain(part(from, to, bytes)).collect();
                let at = place(at, bytes);
                bytes.splice(at..at, moved);
            }
            Change::Overwrite(at, with) => {
                let start = place(at, bytes);
                let end = bytes.len().min(start + with.len());
                bytes.splice(start..end, with.iter().copied());
            }
            Change::Insert(at, with) => {
                let at = place(at, bytes);
                bytes.splice(at..at, with.iter().copied());
            }
        }
    }
}
