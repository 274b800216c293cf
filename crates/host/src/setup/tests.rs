use super::*;
use crate::programs::tests::Noted;

fn names(paths: &[&str]) -> Vec<AreaName> {
    paths.iter().map(|path| AreaName::Device(path.into())).collect()
}

#[test]
fn the_configuration_is_made_of_the_example_and_a_second_run_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let areas = names(&["/var/lib/holdover/area"]);
    let told = "/etc/holdover.toml names the area".to_owned();
    assert_eq!(configure(root.path(), &areas).unwrap(), Step::Done(told.clone()));
    let read = Configuration::at_root(root.path()).unwrap();
    assert_eq!(read, Configuration { areas: areas.clone(), ..Configuration::default() });
    let text = fs::read_to_string(config::at_root(root.path())).unwrap();
    assert_eq!(configure(root.path(), &areas).unwrap(), Step::Unchanged(told));
    assert_eq!(fs::read_to_string(config::at_root(root.path())).unwrap(), text);
}

#[test]
fn a_configuration_that_nobody_understands_is_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(config::at_root(root.path()), "levl = 1\n").unwrap();
    assert!(matches!(configure(root.path(), &names(&["/a"])), Err(SetupError::Config(_))));
    assert_eq!(fs::read_to_string(config::at_root(root.path())).unwrap(), "levl = 1\n");
}

#[test]
fn areas_that_the_configuration_names_are_kept() {
    let configuration = Configuration { areas: names(&["/a", "/b"]), ..Configuration::default() };
    let plan = AreaPlan::of(&AreaWish::Any, &configuration, &()).unwrap();
    assert_eq!(plan, AreaPlan::Keep(configuration.areas));
    assert_eq!(plan.carry_out(Path::new("/no-root"), &()).unwrap(), Step::Unchanged("/a, /b".into()));
}

/// As after a removal of the package, which keeps the configuration.
#[test]
fn a_file_that_the_configuration_names_is_made_anew_if_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let areas = vec![AreaName::Device(gone.clone())];
    let configuration = Configuration { areas, ..Configuration::default() };
    match AreaPlan::of(&AreaWish::Any, &configuration, &()) {
        Ok(AreaPlan::Make(path, _)) => assert_eq!(path, gone),
        // Where memory is not told, or there is no room.
        Err(SetupError::Room(_)) => {}
        other => panic!("{other:?}"),
    }
    // A disk may come.
    let configuration = Configuration { areas: names(&["/dev/no-such"]), ..Configuration::default() };
    let plan = AreaPlan::of(&AreaWish::Any, &configuration, &()).unwrap();
    assert_eq!(plan, AreaPlan::Keep(configuration.areas));
}

#[test]
fn a_named_area_must_be_there_and_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let plan = |wish| AreaPlan::of(&wish, &Configuration::default(), &());
    let wish = AreaWish::These(vec![AreaName::Device(disk.clone())]);
    assert!(matches!(plan(wish.clone()), Err(SetupError::Area(AreaError::NoArea { .. }))));
    areas::format(&disk, IfUsed::Refuse, Path::new("/")).unwrap();
    assert_eq!(plan(wish).unwrap(), AreaPlan::Use(vec![AreaName::Device(disk.clone())]));
    let again = plan(AreaWish::File(disk.clone(), None)).unwrap();
    assert_eq!(again, AreaPlan::Use(vec![AreaName::Device(disk)]), "a file that is there is not made anew");
}

#[test]
fn a_fallback_kernel_needs_memory_too_unless_it_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let write = |file: &str, bytes: &[u8]| {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let with =
        Configuration { fallback: Some(config::FallbackSource::KdumpTools), ..Configuration::default() };
    let without = Configuration::default();
    let needed = |configuration| needed(root.path(), configuration);
    let alone = needed(&without);
    assert_eq!(needed(&with), alone, "there is none");
    let mut kernel = fixtures::bz_image().to_vec();
    kernel.resize(24 << 10, 0);
    write("etc/default/kdump-tools", b"KDUMP_KERNEL=/kernel\nKDUMP_INITRD=/initrd\n");
    write("kernel", &kernel);
    write("initrd", b"070701");
    // 52 MiB for its image, 64 MiB to run in, 4 MiB for its place, and its files.
    assert_eq!(needed(&with), alone + (121 << 20));
    assert_eq!(needed(&without), alone);
    write("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n");
    assert_eq!(needed(&with), alone);
}

#[test]
fn memory_is_asked_for_once() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
    fs::create_dir_all(root.path().join("etc/default")).unwrap();
    fs::write(root.path().join("usr/sbin/update-grub"), "").unwrap();
    fs::write(root.path().join("etc/default/grub"), "").unwrap();
    let memory = Memory { reserved: Bytes(0), needed: Bytes(16 << 20) };
    assert!(!memory.is_enough());
    let programs = Noted::default();
    let first = memory.reserve(root.path(), &programs).unwrap();
    assert_eq!(first, Step::Done("crashkernel=16M from the next boot on".into()));
    fs::create_dir(root.path().join("proc")).unwrap();
    fs::write(root.path().join("proc/cmdline"), "ro crashkernel=16M\n").unwrap();
    let again = memory.reserve(root.path(), &programs).unwrap();
    assert!(
        matches!(&again, Step::Left(told) if told.contains("dmesg")),
        "restarting again would not help: {again}"
    );
    assert_eq!(*programs.lines.borrow(), ["update-grub"]);
}

/// What `systemctl show` prints of these units.
fn shown(units: &[&str], file: &str) -> String {
    let unit = |name| format!("Id={name}\nUnitFileState={file}\nActiveState=inactive\nResult=success\n");
    units.iter().map(unit).collect::<Vec<_>>().join("\n")
}

#[test]
fn units_that_are_enabled_are_left_alone() {
    let shown = |file| shown(&units::ALWAYS, file);
    let programs = Noted { output: shown("enabled"), ..Noted::default() };
    assert!(matches!(enable(&[], &programs).unwrap(), Step::Unchanged(_)));
    let programs = Noted { output: shown("disabled"), ..Noted::default() };
    assert!(matches!(enable(&[], &programs).unwrap(), Step::Done(_)));
    let enabled = "systemctl enable holdover.service holdover-collect.service holdover-actions.timer holdover-verify.timer";
    assert_eq!(programs.lines.borrow().last().unwrap(), enabled);
}

#[test]
fn an_area_that_is_a_file_is_watched_at_once_and_from_each_boot_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().canonicalize().unwrap().join("area");
    fs::write(&file, "").unwrap();
    let areas = [AreaName::Device(file.clone()), AreaName::Device("/dev/null".into())];
    let watch = units::watch_of(&file);
    let programs = Noted { output: shown(&[&watch], "disabled"), ..Noted::default() };
    enable(&areas, &programs).unwrap();
    let lines = programs.lines.take();
    assert!(lines[0].starts_with("systemctl show ") && lines[0].ends_with(&format!("verify.timer {watch}")));
    assert_eq!(lines[1], format!("systemctl enable {watch}"));
    start(&areas, &programs).unwrap();
    let started = format!("systemctl start holdover.service holdover-verify.timer {watch}");
    assert_eq!(programs.lines.borrow().last(), Some(&started));
}
