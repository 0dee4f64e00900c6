//! How often each word stands in the files of a folder: map and reduce, whose tasks hand each other files.
//! `cargo run --release --example word_count -- run word-count --set folder=docs --set reducers=4 -o words.txt`

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use tilework::{Job, Needs, Next, Report, TaskContext, TaskError, TaskFile};

/// Words are what stands between white space, byte by byte. The output has a line for each, `COUNT WORD`: the most frequent first,
/// equally frequent ones by their bytes.
#[derive(Serialize, Deserialize)]
struct WordCount {
    folder: PathBuf,
    /// Bytes of text that a task reads: small files go together, a large one is divided.
    #[serde(default = "split_bytes")]
    split_bytes: u64,
    #[serde(default = "reducers")]
    reducers: u64,
}

fn split_bytes() -> u64 {
    32 << 20
}

fn reducers() -> u64 {
    8
}

#[derive(Serialize, Deserialize)]
enum Round {
    /// Each task counts the words of its split, and writes a section for each reducer.
    Map { splits: u64 },
    /// Each task adds up one section of all these files, and puts it in order.
    Reduce(Vec<TaskFile>),
    /// One task merges them.
    Merge(Vec<TaskFile>),
}

/// A part of a file. Its words are those that begin in it.
struct Piece {
    path: PathBuf,
    begin: u64,
    end: u64,
}

type Counts = HashMap<Vec<u8>, u64>;

impl WordCount {
    fn files(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let metadata = fs::metadata(&path)?;
            if metadata.is_file() {
                files.push((path, metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// What a task reads, as if all files were one.
    fn pieces(&self, split: u64) -> io::Result<Vec<Piece>> {
        let (mut pieces, mut before) = (Vec::new(), 0);
        for (path, len) in self.files()? {
            let within = |offset: u64| offset.saturating_sub(before).min(len);
            let (begin, end) = (
                within(split * self.split_bytes),
                within((split + 1) * self.split_bytes),
            );
            if begin < end {
                pieces.push(Piece { path, begin, end });
            }
            before += len;
        }
        Ok(pieces)
    }

    fn map(&self, split: u64, context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
        let mut counts = Counts::new();
        for piece in self.pieces(split)? {
            context.check_cancelled()?;
            for word in piece.read()?.split(is_space).filter(|word| !word.is_empty()) {
                *counts.entry_ref(word).or_insert(0) += 1;
            }
        }
        let mut of_reducer = vec![Vec::new(); self.reducers as usize];
        for (word, count) in counts {
            // The same reducer for the same word, whichever task saw it.
            of_reducer[(u64::from(crc32c::crc32c(&word)) % self.reducers) as usize].push((count, word));
        }
        let mut file = context.create_file()?;
        for words in of_reducer {
            write_sorted(words, &mut file)?;
            file.end_section();
        }
        Ok(file.finish()?)
    }
}

impl Piece {
    /// Its bytes, without the rest of a word that began before it, and with the rest of its last one.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = BufReader::new(File::open(&self.path)?);
        let mut text = Vec::with_capacity((self.end - self.begin) as usize);
        let mut at = self.begin;
        if self.begin > 0 {
            file.seek(SeekFrom::Start(self.begin - 1))?;
            at = self.begin - 1 + read_word_end(&mut file, &mut Vec::new())?;
        }
        if at < self.end {
            file.by_ref().take(self.end - at).read_to_end(&mut text)?;
            if text.last().is_some_and(|byte| !is_space(byte)) {
                read_word_end(&mut file, &mut text)?;
            }
        }
        Ok(text)
    }
}

/// Reads up to and with the next white space; how many bytes that were.
fn read_word_end(file: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<u64> {
    let mut n_read = 0;
    for byte in file.bytes() {
        let byte = byte?;
        n_read += 1;
        text.push(byte);
        if is_space(&byte) {
            break;
        }
    }
    Ok(n_read)
}

/// As `isspace` of C has it.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn write_sorted(mut words: Vec<(u64, Vec<u8>)>, file: &mut impl Write) -> io::Result<()> {
    words
        .sort_unstable_by(|(count, word), (other_count, other)| other_count.cmp(count).then(word.cmp(other)));
    words
        .iter()
        .try_for_each(|(count, word)| write_line(*count, word, file))
}

fn write_line(count: u64, word: &[u8], file: &mut impl Write) -> io::Result<()> {
    write!(file, "{count} ")?;
    file.write_all(word)?;
    file.write_all(b"\n")
}

/// The next line of a file that was written so; nothing at its end.
fn read_line(file: &mut impl BufRead) -> Result<Option<(u64, Vec<u8>)>, TaskError> {
    let mut line = Vec::new();
    if file.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let space = line.iter().position(|byte| *byte == b' ');
    let (count, word) = line.split_at(space.ok_or_else(|| TaskError::fatal("a line without a count"))?);
    Ok(Some((
        std::str::from_utf8(count)?.parse()?,
        word[1..word.len() - 1].to_vec(),
    )))
}

fn reduce(files: &[TaskFile], reducer: u64, context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
    let mut counts = Counts::new();
    for file in files {
        context.check_cancelled()?;
        let mut section = context.open_section(file, reducer as usize)?;
        while let Some((count, word)) = read_line(&mut section)? {
            *counts.entry(word).or_insert(0) += count;
        }
    }
    let mut file = context.create_file()?;
    write_sorted(
        counts.into_iter().map(|(word, count)| (count, word)).collect(),
        &mut file,
    )?;
    Ok(file.finish()?)
}

fn merge(files: &[TaskFile], context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
    let mut sorted: Vec<_> = files
        .iter()
        .map(|file| context.open_file(file))
        .collect::<Result<_, _>>()?;
    let mut next = BinaryHeap::new();
    for (i, file) in sorted.iter_mut().enumerate() {
        next.extend(read_line(file)?.map(|(count, word)| (count, Reverse(word), i)));
    }
    let mut merged = context.create_file()?;
    while let Some((count, Reverse(word), i)) = next.pop() {
        write_line(count, &word, &mut merged)?;
        next.extend(read_line(&mut sorted[i])?.map(|(count, word)| (count, Reverse(word), i)));
    }
    Ok(merged.finish()?)
}

impl Job for WordCount {
    const KIND: &'static str = "word-count";
    const VERSION: u32 = 1;
    type State = Round;
    type Output = TaskFile;

    fn start(&self) -> Result<Round, TaskError> {
        if self.split_bytes == 0 || self.reducers == 0 {
            return Err(TaskError::fatal("split_bytes and reducers must be at least 1"));
        }
        let bytes: u64 = self.files()?.iter().map(|(_, len)| len).sum();
        if bytes == 0 {
            return Err(TaskError::fatal(format!(
                "there is no text in `{}`",
                self.folder.display()
            )));
        }
        Ok(Round::Map {
            splits: bytes.div_ceil(self.split_bytes),
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let files = self
            .files()
            .map(|files| files.into_iter().map(|(path, _)| path).collect());
        // What can't be listed is what the user is told of.
        files.unwrap_or_else(|_| vec![self.folder.clone()])
    }

    fn tasks(&self, round: &Round) -> u64 {
        match round {
            Round::Map { splits } => *splits,
            Round::Reduce(_) => self.reducers,
            Round::Merge(_) => 1,
        }
    }

    fn needs(&self, _: &Round) -> Needs {
        Needs {
            memory_bytes: self.split_bytes + (128 << 20),
            ..Needs::default()
        }
    }

    fn run(&self, round: &Round, task: u64, context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
        match round {
            Round::Map { .. } => self.map(task, context),
            Round::Reduce(files) => reduce(files, task, context),
            Round::Merge(files) => merge(files, context),
        }
    }

    fn advance(
        &self,
        round: &Round,
        files: &mut dyn Iterator<Item = TaskFile>,
    ) -> Result<Next<Round>, TaskError> {
        Ok(match round {
            Round::Map { .. } => Next::Round(Round::Reduce(files.collect())),
            Round::Reduce(_) => Next::Round(Round::Merge(files.collect())),
            Round::Merge(_) => Next::Done(Report::files(files)),
        })
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![WordCount])
}
