//! The folder of one crash, `HOST-TIME`. It is made under another name, `HOST-TIME.unfinished`, and renamed when all that is in it is
//! durable; it is removed the other way round. A note in it tells what it is: folders without one, and those of other users, are not
//! Holdover's and are left alone.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::crash::{Crash, FolderContent};
use super::{fingerprint, pages};

/// The name of the note.
pub(super) const NOTE: &str = "holdover.json";
/// The name of the dump.
pub(super) const DUMP: &str = "vmcore";
/// The name of the log.
pub(super) const LOG: &str = "dmesg.txt";
/// The name of the results of actions.
pub(super) const ACTIONS: &str = "actions.json";
/// The name of what tells how far uploads are.
pub(super) const UPLOADS: &str = "uploads.json";
/// How the name of a folder ends that is not whole.
const UNFINISHED: &str = ".unfinished";
/// The version of the note.
const VERSION: u32 = 1;
/// Most folders of one host and one second.
const MOST_OF_A_SECOND: u32 = 100;

/// A folder that Holdover made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What its note tells.
    pub note: FolderNote,
}

/// What a folder's note tells of a crash, and of what is in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderNote {
    /// Version of the note.
    pub version: u32,
    /// The host that collected.
    pub host: String,
    /// The crash.
    #[serde(flatten)]
    pub crash: Crash,
    /// Release of the kernel that died, if the dump tells it.
    pub kernel: Option<String>,
    /// How the writing of the dump ended, in words.
    pub state: String,
    /// The files, with their checksums.
    pub files: Vec<FileNote>,
}

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNote {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// XXH64 of its bytes, as `xxhsum -H1` prints it.
    pub xxh64: String,
}

impl FileNote {
    pub(super) fn new(name: &str, bytes: u64, sum: u64) -> Self {
        Self { name: name.to_owned(), bytes, xxh64: format!("{sum:016x}") }
    }
}

impl FolderNote {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Bytes of the dump; 0 if there is none.
    pub fn dump_bytes(&self) -> u64 {
        self.files.iter().find(|file| file.name.starts_with(DUMP)).map_or(0, |file| file.bytes)
    }

    /// Whether it has a dump, whole or not.
    pub(super) const fn has_dump(&self) -> bool {
        !matches!(self.crash.content, FolderContent::Log | FolderContent::LogOnly)
    }

    /// Whether both are of one crash.
    pub(super) fn is_of_the_crash_of(&self, other: &Self) -> bool {
        self.crash.is_known() && self.crash.is(&other.crash)
    }

    /// The same note, of other content.
    pub(super) fn with_content(&self, content: FolderContent) -> Self {
        Self { crash: Crash { content, ..self.crash.clone() }, ..self.clone() }
    }

    pub(super) const CURRENT: u32 = VERSION;
}

impl CrashFolder {
    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The folders in a directory that are whole and Holdover's, the newest first.
    pub fn list(directory: &Path) -> Vec<Self> {
        let mut folders: Vec<_> = all(directory).filter(|folder| !is_unfinished(&folder.path)).collect();
        folders.sort_by_key(|folder| (Reverse(folder.note.crash.number), folder.path.clone()));
        folders
    }

    /// Reads a folder's note, if it is Holdover's.
    pub(super) fn read(path: &Path) -> Option<Self> {
        if !is_own(path) {
            return None;
        }
        let note: FolderNote = serde_json::from_slice(&fs::read(path.join(NOTE)).ok()?).ok()?;
        (note.version == VERSION).then(|| Self { path: path.to_owned(), note })
    }

    /// Removes the folder, under its unfinished name, so that it is never seen in part. What others have put into it stays, and the
    /// folder with it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let aside = unfinished(&self.path);
        fs::rename(&self.path, &aside)?;
        let emptied = empty(&aside);
        if emptied.is_err() && aside.exists() {
            // It has its name again: what is left in it is somebody's.
            let _ = fs::rename(&aside, &self.path);
        }
        emptied
    }
}

/// Removes what interrupted runs left in a directory. The note of one whose copy was durable is returned: its pages ended the program.
pub(super) fn remove_abandoned(directory: &Path) -> Vec<FolderNote> {
    entries(directory).filter(|path| is_unfinished(path)).for_each(|path| remove_noteless(&path));
    let abandoned = all(directory).filter(|folder| is_unfinished(&folder.path));
    let notes = abandoned.map(|folder| {
        // What cannot be removed is met again.
        let _ = empty(&folder.path);
        folder.note
    });
    notes.filter(|note| note.crash.content == FolderContent::Copied).collect()
}

/// Removes a folder that was begun, and cut off before its note was written: nothing but the beginning of one is in it.
fn remove_noteless(folder: &Path) {
    let new = format!("{NOTE}.new");
    let is_new = |path: &Path| path.file_name().is_some_and(|name| name == new.as_str());
    if is_own(folder) && entries(folder).all(|path| is_new(&path)) {
        let _ = remove_file(&folder.join(&new)).and_then(|()| fs::remove_dir(folder));
    }
}

fn all(directory: &Path) -> impl Iterator<Item = CrashFolder> {
    entries(directory).filter_map(|path| CrashFolder::read(&path))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether it is a folder, and this user's.
fn is_own(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}

fn is_unfinished(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(UNFINISHED)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Removes Holdover's files from a folder, the note last, and the folder if it is empty then.
fn empty(folder: &Path) -> io::Result<()> {
    let fixed = [DUMP, LOG, ACTIONS, UPLOADS, "vmcore.unfinished", "vmcore.damaged"];
    for name in fixed.into_iter().chain(pages::NAMES) {
        for name in [name.to_owned(), format!("{name}.new")] {
            remove_file(&folder.join(name))?;
        }
    }
    if entries(folder).any(|path| !is_note(&path)) {
        return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, "files that are not Holdover's are in it"));
    }
    remove_file(&folder.join(format!("{NOTE}.new")))?;
    remove_file(&folder.join(NOTE))?;
    fs::remove_dir(folder)
}

fn is_note(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NOTE))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder's directory, which only its owner may enter, if there is none.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A folder in the making; it is removed unless it is published.
#[derive(Debug)]
pub(super) struct NewFolder {
    path: PathBuf,
    /// The name that it is to have.
    named: PathBuf,
}

impl NewFolder {
    /// Makes an empty folder for a crash of this host at a time, with a note that tells so.
    pub(super) fn create(directory: &Path, note: &FolderNote) -> io::Result<Self> {
        make_directory(directory)?;
        for count in 1..MOST_OF_A_SECOND {
            let named = directory.join(name(&note.host, note.crash.time(), count));
            let path = unfinished(&named);
            let taken = named.symlink_metadata().is_ok();
            match if taken { Err(ErrorKind::AlreadyExists.into()) } else { make(&path) } {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    let folder = Self { path, named };
                    folder.write(NOTE, &note_text(note)?)?;
                    return Ok(folder);
                }
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, durably.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<FileNote> {
        replace(&self.path, name, content)?;
        Ok(FileNote::new(name, content.len() as u64, fingerprint::of_bytes(content)))
    }

    /// Writes the note as far as things are now.
    pub(super) fn note(&self, note: &FolderNote) -> io::Result<()> {
        self.write(NOTE, &note_text(note)?).map(drop)
    }

    /// Gives the folder the name that its time tells, durably: everything in it is durable before.
    pub(super) fn publish(mut self, note: FolderNote) -> io::Result<CrashFolder> {
        self.note(&note)?;
        sync(&self.path)?;
        let directory = self.named.parent().unwrap_or(Path::new(".")).to_owned();
        let mut named =
            (1..MOST_OF_A_SECOND).map(|count| directory.join(name(&note.host, note.crash.time(), count)));
        let free = named.find(|named| named.symlink_metadata().is_err());
        self.named = free.ok_or(ErrorKind::AlreadyExists)?;
        fs::rename(&self.path, &self.named)?;
        self.path.clone_from(&self.named);
        sync(&directory)?;
        Ok(CrashFolder { path: self.named.clone(), note })
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if self.path != self.named {
            // What cannot be removed now is removed by the next run.
            let _ = empty(&self.path);
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes a file of a folder, which is whole and durable before it has its name. Only its owner may read it.
pub(super) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_with_mode(folder, name, content, 0o600)
}

/// Does so for a file with these rights, whatever the umask takes from new files.
pub(super) fn replace_with_mode(folder: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    remove_file(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync(folder)
}

fn note_text(note: &FolderNote) -> io::Result<Vec<u8>> {
    Ok([&serde_json::to_vec_pretty(note)?[..], b"\n"].concat())
}

/// The name of a folder: `web1-2026-11-29T22-05-00Z`; the time is UTC, without colons, which `scp` takes for hosts.
fn name(host: &str, time: u64, count: u32) -> String {
    let host: String = host.chars().filter(|&letter| is_plain(letter)).take(64).collect();
    let host = Some(host.trim_start_matches('.')).filter(|host| !host.is_empty()).unwrap_or("host");
    let last = 253_402_300_799; // the last second of the year 9999
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.min(last));
    let time = humantime::format_rfc3339_seconds(time).to_string().replace(':', "-");
    if count == 1 { format!("{host}-{time}") } else { format!("{host}-{time}-{count}") }
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::super::crash::DumpIdentity;
    use super::*;

    /// The units have a umask that leaves nothing to others.
    #[test]
    fn a_file_has_the_rights_that_are_asked_for_whatever_the_umask_is() {
        let folder = tempfile::tempdir().unwrap();
        replace_with_mode(folder.path(), "metrics", b"", 0o666).unwrap();
        let mode = folder.path().join("metrics").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "no umask is 0");
    }

    /// A folder that is nowhere, the number of which is its name, with a dump of so many bytes.
    pub(in super::super) fn folder(number: u64, bytes: u64) -> CrashFolder {
        let mut note = note(bytes);
        note.crash.number = number;
        CrashFolder { path: number.to_string().into(), note }
    }

    /// A folder of a crash, with a dump.
    pub(in super::super) fn crash_folder(directory: &Path) -> CrashFolder {
        let new = NewFolder::create(directory, &note(5)).unwrap();
        new.write(DUMP, b"dump\n").unwrap();
        new.publish(note(5).with_content(FolderContent::Complete)).unwrap()
    }

    fn note(bytes: u64) -> FolderNote {
        FolderNote {
            version: VERSION,
            host: "web1".into(),
            crash: Crash {
                number: 1,
                area: Uuid::from_u128(1),
                sequence: 1,
                identity: DumpIdentity::default(),
                collected_at: 1_795_990_000,
                crashed_at: Some(1_795_989_900),
                uptime: None,
                content: FolderContent::Begun,
            },
            kernel: None,
            state: "complete".into(),
            files: vec![FileNote::new(DUMP, bytes, 0)],
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn names_are_of_plain_letters_and_sort_by_time() {
        assert_eq!(name("web1", 1_795_989_900, 1), "web1-2026-11-29T22-05-00Z");
        assert_eq!(name("../we b/1\n", 0, 2), "web1-1970-01-01T00-00-00Z-2");
        assert_eq!(name("", u64::MAX, 1), "host-9999-12-31T23-59-59Z");
    }

    #[test]
    fn a_folder_is_seen_only_when_it_is_whole_and_is_only_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let new = NewFolder::create(directory.path(), &note(5)).unwrap();
        new.write(LOG, b"dying\n").unwrap();
        assert!(CrashFolder::list(directory.path()).is_empty());
        assert_eq!(names(directory.path()), ["web1-2026-11-29T22-05-00Z.unfinished"]);
        let folder = new.publish(note(5).with_content(FolderContent::Log)).unwrap();
        assert_eq!(CrashFolder::list(directory.path()), std::slice::from_ref(&folder));
        assert_eq!(names(directory.path()), ["web1-2026-11-29T22-05-00Z"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode(&folder.path), mode(&folder.path.join(LOG)), mode(&folder.path.join(NOTE))],
            [0o700, 0o600, 0o600]
        );
    }

    #[test]
    fn a_folder_that_is_dropped_or_abandoned_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(NewFolder::create(directory.path(), &note(5)).unwrap());
        assert!(names(directory.path()).is_empty());
        let cut_off = directory.path().join("web1-2026-11-29T22-05-00Z.unfinished");
        fs::create_dir(&cut_off).unwrap();
        fs::write(cut_off.join("holdover.json.new"), "{").unwrap();
        assert!(remove_abandoned(directory.path()).is_empty() && !cut_off.exists());
        let abandoned = NewFolder::create(directory.path(), &note(5)).unwrap();
        fs::write(abandoned.path().join("vmcore.unfinished"), "half").unwrap();
        abandoned.note(&note(5).with_content(FolderContent::Copied)).unwrap();
        std::mem::forget(abandoned);
        assert_eq!(remove_abandoned(directory.path()).len(), 1);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn two_crashes_of_one_second_get_two_names() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            NewFolder::create(directory.path(), &note(5)).unwrap().publish(note(5)).unwrap();
        }
        assert_eq!(names(directory.path()), ["web1-2026-11-29T22-05-00Z", "web1-2026-11-29T22-05-00Z-2"]);
    }

    #[test]
    fn what_others_put_into_a_folder_or_beside_it_stays() {
        let directory = tempfile::tempdir().unwrap();
        for others in ["web1.unfinished", "202611292205"] {
            fs::create_dir(directory.path().join(others)).unwrap();
            fs::write(directory.path().join(others).join("vmcore"), "theirs").unwrap();
        }
        let folder = NewFolder::create(directory.path(), &note(5)).unwrap().publish(note(5)).unwrap();
        fs::write(folder.path.join("analysis.txt"), "precious").unwrap();
        fs::write(folder.path.join(DUMP), "dump").unwrap();
        assert!(remove_abandoned(directory.path()).is_empty());
        folder.remove().unwrap_err();
        assert_eq!(names(&folder.path), ["analysis.txt", NOTE]);
        fs::remove_file(folder.path.join("analysis.txt")).unwrap();
        folder.remove().unwrap();
        assert_eq!(names(directory.path()), ["202611292205", "web1.unfinished"]);
        assert_eq!(names(&directory.path().join("web1.unfinished")), ["vmcore"]);
    }
}
