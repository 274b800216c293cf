use std::fs;

use super::*;

fn parse(text: &str) -> Result<Configuration, ConfigError> {
    Configuration::parse(text, Path::new("/etc/holdover.toml"))
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The example with its keys in force.
fn uncommented() -> String {
    let line = |line: &'static str| {
        let key =
            line.strip_prefix('#').filter(|key| key.starts_with(|first: char| first.is_ascii_lowercase()));
        key.unwrap_or(line)
    };
    EXAMPLE.lines().map(|text| line(text).to_owned() + "\n").collect()
}

#[test]
fn the_example_is_the_default_and_so_is_an_empty_file() {
    assert_eq!(parse(EXAMPLE).unwrap(), Configuration::default());
    assert_eq!(parse("").unwrap(), Configuration::default());
}

#[test]
fn the_example_shows_the_defaults_that_there_are() {
    let shown = parse(&uncommented()).unwrap();
    let default = Configuration::default();
    assert_eq!((shown.areas, shown.level, shown.codec), (default.areas, default.level, default.codec));
    assert_eq!(shown.collect.directory, default.collect.directory);
    assert_eq!(shown.collect.boot_loop_after, default.collect.boot_loop_after);
}

#[test]
fn the_example_shows_every_key() {
    let shown = serde_json::to_value(parse(&uncommented()).unwrap()).unwrap();
    let mut unset = Vec::new();
    collect_unset("", &shown, &mut unset);
    assert_eq!(unset, ["areas"], "keys that the example does not set");
}

fn collect_unset(name: &str, value: &serde_json::Value, unset: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(keys) => {
            keys.iter().for_each(|(key, value)| collect_unset(key, value, unset));
        }
        serde_json::Value::Null => unset.push(name.to_owned()),
        serde_json::Value::Array(all) if all.is_empty() => unset.push(name.to_owned()),
        _ => {}
    }
}

#[test]
fn all_that_can_be_set_is_read() {
    let read = parse(
        "areas = ['/var/lib/holdover/area', '00000000-0000-0000-0000-000000000007', '/dev/vdb1']\n\
         level = 1\ncodec = 'zstd'\n[panic]\non_oops = true\nreboot_after_seconds = 0\n\
         [collect]\nkeep = 2\nkeep_bytes = '20 GiB'\n[actions]\nto = ['ssh://a@b/c']\n",
    )
    .unwrap();
    let areas = ["/var/lib/holdover/area", "00000000-0000-0000-0000-000000000007", "/dev/vdb1"];
    assert_eq!(read.areas.iter().map(ToString::to_string).collect::<Vec<_>>(), areas);
    assert!(matches!(read.areas[1], AreaName::Uuid(_)));
    assert_eq!((read.level.number(), read.codec), (1, Codec::Zstd));
    assert_eq!((read.panic.on_oops, read.panic.hung_task), (Some(true), None));
    assert_eq!((read.collect.keep, read.collect.keep_bytes), (Some(2), Some(Bytes(20 << 30))));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_with_what_would_be_right() {
    let cases = [
        ("\nlevl = 1\n", "line 2: there is no key `levl`; the keys here are `areas`, `level`"),
        ("[colect]\n", "line 1: there is no key `colect`"),
        ("[actions.s3]\nbucket = 'x'\n", "line 2: there is no key `bucket`; the keys here are `endpoint`"),
        ("level = 32\n", "line 1: 32 is no level: they go from 0 to 31"),
        ("level = 'all'\n", "line 1: invalid type: string \"all\""),
        ("\n\ncodec = 'snappy'\n", "line 3: \"snappy\" is no codec: there are none, zlib, lzo, zstd"),
        ("level = 1\nareas = [\n'/a',\n'b']\n", "line 2: \"b\" must begin with a slash"),
        ("areas = ['']\n", "line 1: \"\" must begin with a slash"),
        ("areas = ['/a', '/a']\n", "line 1: /a is named twice"),
        ("areas = ['/a', '/b', '/c', '/d', '/e']\n", "line 1: there are 5 areas, and at most 4"),
        ("image = 'x'\n", "line 1: \"x\" must begin with a slash"),
        (
            "[collect]\nkeep_bytes = '20 GB'\n",
            "line 2: \"20 GB\" is no size: it is bytes, or a number with KiB, MiB",
        ),
        ("[collect]\nkeep_bytes = -1\n", "line 2: -1 is no size"),
        ("[collect]\nkeep = 0\n", "line 2: 0 is no count: it begins with 1"),
        ("[actions]\nwebhook = 'alerts.example.org'\n", "line 2: \"alerts.example.org\" is no address"),
        (
            "[actions]\nto = ['s3://a', 'ftp://b']\n",
            "line 2: \"ftp://b\" is no address: s3://BUCKET/PREFIX and ssh://USER@HOST/PATH are",
        ),
        ("[actions]\nto = ['ssh://host']\n", "line 2: \"ssh://host\" is no address"),
        ("[actions]\nto = ['s3://a//b']\n", "line 2: \"s3://a//b\" is no address"),
        ("[actions]\nto = ['ssh://-oProxyCommand=x/a']\n", "line 2: \"ssh://-oProxyCommand=x/a\" is no"),
        (
            "[actions]\nwebhook = 'http://alerts.example.org/x'\n",
            "line 2: \"http://alerts.example.org\" is not encrypted: it must begin with https://",
        ),
        (
            "[actions]\nwebhook = 'http://127.0.0.1@alerts.example.org/x'\n",
            "is not encrypted: it must begin with https://",
        ),
        (
            "[actions.s3]\nendpoint = 'http://objects.example.org'\n",
            "line 2: \"http://objects.example.org\" is not",
        ),
        ("areas = [\n", "line "),
    ];
    for (text, told) in cases {
        let refused = refused(text);
        assert!(refused.starts_with("/etc/holdover.toml, ") && refused.contains(told), "{text:?}: {refused}");
        assert!(refused.ends_with("`holdover config check /etc/holdover.toml` reads it again"), "{refused}");
    }
}

#[test]
fn a_collect_reads_what_it_takes_where_the_rest_is_refused() {
    let text =
        "areas = ['/dev/vdb1']\nlevl = 1\n[collect]\ndirectory = '/srv'\n[actions]\nto = ['ssh://host']\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdover.toml");
    fs::write(&file, text).unwrap();
    let (read, refused) = Configuration::for_collect(Configuration::read(&file)).unwrap();
    assert!(refused.unwrap().to_string().contains("holdover.toml, line "));
    assert_eq!((read.areas.len(), read.collect.directory), (1, "/srv".into()));
    assert_eq!(read.actions, ActionConfiguration::default());
    fs::write(&file, "areas = 1").unwrap();
    assert!(Configuration::for_collect(Configuration::read(&file)).is_err());
}

#[test]
fn a_load_goes_on_where_only_what_follows_a_collect_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdover.toml");
    let read = |text: &str| {
        fs::write(&file, format!("areas = ['/dev/vdb1']\nlevel = 1\n{text}")).unwrap();
        Configuration::for_load(Configuration::read(&file))
    };
    for text in [
        "[actions]\nto = ['ssh://host']\n[collect]\ndirectory = '/srv'\n",
        "[actions]\nhok = '/bin/true'\n[collect]\ndirectory = '/srv'\n",
    ] {
        let (read, refused) = read(text).unwrap();
        assert!(refused.unwrap().to_string().contains("holdover.toml, line 4"), "{text}");
        assert_eq!((read.areas.len(), read.level.number(), read.collect.directory), (1, 1, "/srv".into()));
        assert_eq!(read.actions, ActionConfiguration::default());
    }
    let (both, _) = read("[actions]\nto = 1\n[collect]\nkeep = 0\n").unwrap();
    assert_eq!((both.level.number(), both.collect), (1, CollectConfiguration::default()));
    let (whole, refused) = read("[collect]\nkeep = 1\n").unwrap();
    assert!(refused.is_none() && whole.collect.keep == Some(1));
    // A key that nobody knows may be one that a load takes.
    for text in ["codec = 'lz4'\n", "levl = 1\n", "[panic]\non_oops = 2\n", "[actoins]\n", "areas = [\n"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn what_stays_on_this_host_need_not_be_encrypted() {
    for address in ["http://localhost/a", "http://127.0.0.1:80/a", "http://[::1]:80", "https://a.example.org"]
    {
        assert!(parse(&format!("[actions]\nwebhook = '{address}'\n")).is_ok(), "{address}");
    }
}

#[test]
fn a_host_without_the_file_has_the_default_and_a_file_that_was_named_must_be_there() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Configuration::at_root(root.path()).unwrap(), Configuration::default());
    let missing = Configuration::read(&root.path().join("etc/holdover.toml")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read the configuration"), "{missing}");
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/holdover.toml"), "level = 3\n").unwrap();
    assert_eq!(Configuration::at_root(root.path()).unwrap().level.number(), 3);
}

#[test]
fn areas_are_written_where_they_stand_and_all_else_stays() {
    let file = Path::new("f");
    let areas = [AreaName::Device("/a \"b\"".into()), AreaName::Device("/dev/vdb".into())];
    let written = "areas = ['/a \"b\"', \"/dev/vdb\"]";
    let in_example = with_areas(EXAMPLE, file, &areas).unwrap();
    assert_eq!(parse(&in_example).unwrap().areas, areas);
    assert_eq!(in_example.replacen(&format!("{written}\n"), "", 1), EXAMPLE);
    assert_eq!(with_areas(&in_example, file, &areas).unwrap(), in_example);
    let there = "# mine\nareas = [\n  '/c', # old\n]\nlevel = 1\n[collect]\nkeep = 1\n";
    let changed = with_areas(there, file, &areas).unwrap();
    assert_eq!(changed, format!("# mine\n{written}\nlevel = 1\n[collect]\nkeep = 1\n"));
    assert_eq!(
        with_areas("[collect]\nkeep = 1", file, &areas).unwrap(),
        format!("{written}\n[collect]\nkeep = 1")
    );
    assert_eq!(with_areas("#areas = []", file, &areas).unwrap(), format!("#areas = []\n{written}\n"));
    assert!(with_areas("levl = 1", file, &areas).is_err());
}
