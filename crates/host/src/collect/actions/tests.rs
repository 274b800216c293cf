use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use super::super::crash::FolderContent;
use super::super::folder::tests::crash_folder;
use super::super::history::History;
use super::*;

/// A folder with a crash in it, and programs.
struct Bench {
    folder: TempDir,
    crash: CrashFolder,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let crash = crash_folder(folder.path());
        Self { folder, crash }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in the shell's language.
    /// Another program makes it: a test that starts one meanwhile would hand down a file that is open to write, which nobody may run.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let (path, source) = (self.path(name), self.path(&format!("{name}.text")));
        fs::write(&source, format!("#!/bin/sh\n{text}\n")).unwrap();
        let made = Command::new("install").args(["-m", "700"]).args([&source, &path]).status().unwrap();
        assert!(made.success());
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn a_hook_has_the_folder_its_environment_and_json() {
    let bench = Bench::new();
    let out = bench.path("out");
    let hook =
        bench.program("hook", &format!("echo $1 $HOLDOVER_CONTENT $HOLDOVER_HOST >{out:?}; cat >>{out:?}"));
    let actions = Actions { hook: Some(hook), ..Actions::default() };
    let note = actions.run(&bench.crash, Some(3), Which::Undone, &()).unwrap();
    assert!(note.actions[0].done, "{note:?}");
    let out = bench.read("out");
    let (line, json) = out.split_once('\n').unwrap();
    assert_eq!(line, format!("{} complete web1", bench.crash.path.display()));
    let event: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((&event["event"], &event["boot_loop"]), (&"crash_collected".into(), &3.into()));
    assert_eq!(event["crash"]["content"], "complete");
}

#[test]
fn what_failed_is_tried_again_and_what_is_done_is_not() {
    let bench = Bench::new();
    let hook = bench.program("hook", &format!("echo once >>{:?}", bench.path("hooked")));
    let sendmail = bench.program("sendmail", "exit 75");
    let actions = Actions { hook: Some(hook), mail: Some("root".into()), sendmail, ..Actions::default() };
    let first = actions.run(&bench.crash, None, Which::Undone, &()).unwrap();
    assert_eq!((first.failed(), &first.actions[1].action), (1, &"mail".to_owned()));
    assert!(first.actions[1].told.contains("ended with exit status: 75"), "{first:?}");
    assert_eq!(first.actions[1].code.as_deref(), Some("program: ended"));
    bench.program("sendmail", &format!("cat >{:?}", bench.path("mail")));
    let second = actions.run(&bench.crash, None, Which::Failed, &()).unwrap();
    assert_eq!((second.failed(), second.actions[1].tries, &second.actions[1].code), (0, 2, &None));
    assert_eq!(bench.read("hooked"), "once\n");
    let mail = bench.read("mail");
    assert!(
        mail.starts_with("To: root\nSubject: web1: the kernel crashed, and its dump is here\n"),
        "{mail}"
    );
    assert_eq!(ActionNote::read(&bench.crash), Some(second));
}

#[test]
fn two_runs_do_not_do_the_same_folder_at_once() {
    let bench = Bench::new();
    let hook = bench.program("hook", &format!("echo once >>{:?}", bench.path("hooked")));
    let actions = Actions { hook: Some(hook), ..Actions::default() };
    let other = fs::File::open(&bench.crash.path).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let busy = actions.run(&bench.crash, None, Which::Undone, &()).unwrap_err();
    assert!(busy.to_string().starts_with("another `holdover collect`"), "{busy}");
    assert!(!bench.path("hooked").exists(), "the other one does it");
}

/// A collect that makes room removes folders while others wait for their actions.
#[test]
fn nothing_is_done_for_a_folder_that_was_removed() {
    let bench = Bench::new();
    let hook = bench.program("hook", &format!("echo once >>{:?}", bench.path("hooked")));
    let actions = Actions { hook: Some(hook), ..Actions::default() };
    bench.crash.remove().unwrap();
    let refused = actions.run(&bench.crash, None, Which::Undone, &()).unwrap_err();
    assert!(refused.to_string().contains("was removed meanwhile"), "{refused}");
    assert!(!bench.path("hooked").exists());
}

#[test]
fn what_always_fails_is_tried_again_less_and_less_often_and_not_for_ever() {
    let bench = Bench::new();
    let hook = bench.program("hook", &format!("echo again >>{:?}; exit 1", bench.path("hooked")));
    let actions = Actions { hook: Some(hook), ..Actions::default() };
    for _ in 0..20 {
        actions.run(&bench.crash, None, Which::Due, &()).unwrap();
    }
    let hooked = || bench.read("hooked").lines().count();
    assert_eq!(hooked(), 1, "the next try is due in a quarter of an hour");
    let mut note = actions.run(&bench.crash, None, Which::Failed, &()).unwrap();
    assert_eq!((hooked(), note.actions[0].tries), (2, 2), "a person need not wait");
    let failed = &mut note.actions[0];
    let at = failed.at;
    assert_eq!([1799, 1800].map(|later| failed.is_due(at + later)), [false, true]);
    assert!(failed.is_due(at - 1), "the clock was set back");
    failed.tries = MOST_TRIES - 1;
    assert_eq!([86_399, 86_400].map(|later| failed.is_due(at + later)), [false, true]);
    failed.tries = MOST_TRIES;
    assert!(!failed.is_due(u64::MAX));
}

#[test]
fn a_try_that_is_interrupted_counts() {
    let bench = Bench::new();
    let note = format!("cp {:?}/actions.json {:?}", bench.crash.path, bench.path("seen"));
    let actions = Actions { hook: Some(bench.program("hook", &note)), ..Actions::default() };
    actions.run(&bench.crash, None, Which::Undone, &()).unwrap();
    let seen: ActionNote = serde_json::from_str(&bench.read("seen")).unwrap();
    assert_eq!((seen.actions[0].tries, seen.actions[0].told.as_str()), (1, "interrupted"));
}

#[test]
fn a_hook_that_never_ends_is_killed_with_what_it_started() {
    let bench = Bench::new();
    let hook = bench.program("hook", "sleep 600 & sleep 600");
    let start = std::time::Instant::now();
    let event = Event::new(&bench.crash, None);
    let told = event.run_hook(&hook, Duration::from_millis(200)).unwrap_err().to_string();
    assert!(told.contains("took longer than 0 seconds, and was killed"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_program_that_is_missing_and_a_store_that_is_away_are_told() {
    let bench = Bench::new();
    let s3 = S3Settings { endpoint: Some("http://127.0.0.1:1".into()), region: Some("here".into()) };
    let actions = Actions {
        hook: Some("/no-such-hook".into()),
        to: vec!["ssh://root@127.0.0.1:1/srv".parse().unwrap()],
        settings: Settings { s3, ssh: SshSettings::default() },
        ..Actions::default()
    };
    let note = actions.run(&bench.crash, None, Which::Undone, &()).unwrap();
    assert_eq!(note.failed(), 2);
    assert!(note.actions[0].told.starts_with("/no-such-hook cannot be started"), "{note:?}");
    assert_eq!(note.actions[1].action, "ssh://root@127.0.0.1:1/srv");
    assert_eq!(note.actions[0].code.as_deref(), Some("program: start"));
    let code = note.actions[1].code.as_deref();
    assert!(code.is_some_and(|code| code.starts_with("delivery: ")), "{code:?}");
    let unwanted = Actions::default().run(&bench.crash, None, Which::Failed, &()).unwrap();
    assert!(unwanted.actions.is_empty(), "an action that is no longer wanted is none");
}

#[test]
fn actions_that_failed_are_counted_over_all_crashes_unless_somebody_collects() {
    let bench = Bench::new();
    let directory = bench.folder.path();
    let path = bench.path("lib/collected.json");
    let fails = Actions { hook: Some("/no-such-hook".into()), ..Actions::default() };
    fails.run(&bench.crash, None, Which::Undone, &()).unwrap();
    fails.run(&crash_folder(directory), None, Which::Undone, &()).unwrap();
    Actions::default().run(&crash_folder(directory), None, Which::Undone, &()).unwrap();
    let (noted, written) = note_failed_actions(directory, &path);
    written.unwrap();
    assert_eq!((noted.actions_failed, History::read(&path).actions_failed), (2, 2));
    let _other = all::lock(directory).unwrap();
    fs::remove_file(&path).unwrap();
    let (counted, written) = note_failed_actions(directory, &path);
    assert!(counted.actions_failed == 2 && matches!(written, Err(NoteError::Directory(_))), "{written:?}");
    assert!(!path.exists(), "the other one writes the history");
}

#[test]
fn metrics_are_lines_that_everybody_may_read() {
    let bench = Bench::new();
    let path = bench.path("holdover.prom");
    write_metrics(&History::default(), &path).unwrap();
    assert!(!bench.read("holdover.prom").contains("last_dump"));
    let history = History { collected: 2, ..History::default() };
    write_metrics(&history, &path).unwrap();
    let text = bench.read("holdover.prom");
    assert!(
        text.contains(
            "# TYPE holdover_crashes_collected_total counter\nholdover_crashes_collected_total 2\n"
        ),
        "{text}"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(bench.crash.note.crash.content, FolderContent::Complete);
}
