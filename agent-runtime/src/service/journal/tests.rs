//! What is committed is found again, whatever a kill leaves behind it; what is damaged is said so.

use std::io::Seek as _;

use proptest::prelude::*;

use super::*;

const MOST: u64 = 1 << 20;

type Found = Vec<(u64, Vec<u8>)>;

fn open(directory: &Path, next: u64) -> Result<(Journal, Found), JournalError> {
    let mut found = Vec::new();
    let journal = Journal::open(directory, MOST, next, |number, record| {
        found.push((number, record.to_vec()));
    })?;
    Ok((journal, found))
}

fn append(journal: &mut Journal, record: &[u8]) -> u64 {
    journal.append(|to| to.extend(record)).expect("room")
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_is_committed_is_found_again_and_numbers_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut journal, found) = open(directory.path(), 7).expect("new");
    assert!(found.is_empty());
    assert_eq!(append(&mut journal, b"a"), 7);
    assert_eq!(append(&mut journal, b"bc"), 8);
    journal.commit().expect("written");
    assert_eq!(append(&mut journal, b"never committed"), 9);
    drop(journal);
    let (mut journal, found) = open(directory.path(), 0).expect("intact");
    assert_eq!(found, [(7, b"a".to_vec()), (8, b"bc".to_vec())]);
    assert_eq!(append(&mut journal, b"d"), 9);
    journal.commit().expect("written");
    let (_, found) = open(directory.path(), 0).expect("intact");
    assert_eq!(found.len(), 3);
}

#[test]
fn what_was_taken_back_is_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(directory.path(), 0).expect("new");
    append(&mut journal, b"a");
    let mark = journal.mark();
    append(&mut journal, b"b");
    journal.rewind(mark);
    assert_eq!(append(&mut journal, b"c"), 1);
    journal.commit().expect("written");
    let (_, found) = open(directory.path(), 0).expect("intact");
    assert_eq!(found, [(0, b"a".to_vec()), (1, b"c".to_vec())]);
}

#[test]
fn segments_go_when_nothing_in_them_is_needed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(directory.path(), u64::MAX, 0, |_, _| {}).expect("new");
    let record = vec![1; 3 << 20];
    for _ in 0..8 {
        append(&mut journal, &record);
        journal.commit().expect("written");
    }
    // Three records to a segment: 0 to 2, 3 to 5, 6 and 7.
    assert_eq!(segments(directory.path()).len(), 3);
    journal.trim(5);
    assert_eq!(segments(directory.path()).len(), 2);
    let bytes = journal.bytes();
    assert_eq!(bytes, 5 * (record.len() + HEADER) as u64);
    journal.trim(8);
    assert!(segments(directory.path()).is_empty());
    assert_eq!(append(&mut journal, b"x"), 8);
    journal.commit().expect("written");
    drop(journal);
    let (_, found) = open(directory.path(), 0).expect("intact");
    assert_eq!(found, [(8, b"x".to_vec())]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(directory.path(), 100, 0, |_, _| {}).expect("new");
    journal.append(|to| to.extend([1; 60])).expect("fits");
    let full = journal.append(|to| to.extend([1; 60])).expect_err("full");
    assert_eq!(
        full.to_string(),
        "the journal holds 68 of at most 100 bytes: what it holds must be learnt from first"
    );
    journal.commit().expect("written");
    assert_eq!(journal.next(), 1);
}

#[test]
fn damage_that_no_kill_leaves_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(directory.path(), 0).expect("new");
    for record in [b"first".as_slice(), b"second", b"third"] {
        append(&mut journal, record);
    }
    journal.commit().expect("written");
    let path = segments(directory.path()).remove(0);
    let mut file = OpenOptions::new().write(true).open(&path).expect("there");
    file.seek(io::SeekFrom::Start(HEADER as u64))
        .expect("within");
    file.write_all(b"F").expect("written");
    let damaged = open(directory.path(), 0).expect_err("damaged").to_string();
    assert!(
        damaged.ends_with("is damaged at byte 0: a record's checksum differs"),
        "{damaged}"
    );
    // A segment in the middle is gone.
    fs::write(directory.path().join(format!("{:020}.log", 9)), b"").expect("written");
    fs::write(&path, b"").expect("written");
    let damaged = open(directory.path(), 0).expect_err("damaged").to_string();
    assert!(
        damaged.ends_with("is damaged at byte 0: the segment before it is missing"),
        "{damaged}"
    );
}

#[test]
fn a_disk_that_refuses_loses_nothing_that_was_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(directory.path(), 0).expect("new");
    append(&mut journal, b"a");
    journal.commit().expect("written");
    // Every write to it fails: the disk is full.
    journal.file = Some(
        OpenOptions::new()
            .append(true)
            .open("/dev/full")
            .expect("there"),
    );
    append(&mut journal, b"b");
    let error = journal.commit().expect_err("full").to_string();
    assert!(error.contains("No space left"), "{error}");
    // It is there again: the file is opened anew, as its length could not be restored.
    assert_eq!(append(&mut journal, b"c"), 1);
    journal.commit().expect("written");
    let (_, found) = open(directory.path(), 0).expect("intact");
    assert_eq!(found, [(0, b"a".to_vec()), (1, b"c".to_vec())]);
}

proptest! {
    /// A kill leaves a prefix of the last write, or its length in zeros.
    #[test]
    fn a_cut_anywhere_loses_only_what_it_cuts(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
        cut in any::<prop::sample::Index>(),
        zeros in 0usize..40,
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = open(directory.path(), 0).expect("new");
        for record in &records {
            append(&mut journal, record);
        }
        journal.commit().expect("written");
        let path = segments(directory.path()).remove(0);
        let mut data = fs::read(&path).expect("there");
        let cut = cut.index(data.len() + 1);
        data.truncate(cut);
        data.extend(vec![0; zeros]);
        fs::write(&path, &data).expect("written");
        let (mut whole, mut end) = (0, 0);
        for record in &records {
            end += HEADER + record.len();
            whole += usize::from(end <= cut);
        }
        // Zeros may happen to be what was cut.
        let (mut journal, found) = open(directory.path(), 0).expect("cut off");
        prop_assert!(found.len() >= whole && found.len() <= records.len());
        for ((at, (number, record)), written) in found.iter().enumerate().zip(&records) {
            prop_assert_eq!((*number, record), (at as u64, written));
        }
        let next = append(&mut journal, b"next");
        prop_assert_eq!(next as usize, found.len());
        journal.commit().expect("written");
        let (_, again) = open(directory.path(), 0).expect("intact");
        prop_assert_eq!(again.len(), found.len() + 1);
    }
}
