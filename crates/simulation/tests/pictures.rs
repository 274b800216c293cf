//! Compares pictures of the shipped scenarios. `UPDATE_EXPECT=1 cargo test -p simulation` draws them anew.
//!
//! Every change of the code can change how many steps a takeover takes, and what devices do meanwhile: the pictures
//! have a `#` for each such number.

use expect_test::expect_file;
use simulation::draw::{self, Ink};
use simulation::{File, Simulation, Stage};

fn run(text: &str) -> Simulation {
    let file = File::parse(text).expect("the scenario is well formed");
    simulation::run(&Stage::set(file, text).expect("the scenario can be set up"))
}

/// Replaces numbers by `#`, however many columns they take.
fn without_numbers(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let is_number = |character: char| character.is_ascii_hexdigit() || ",x".contains(character);
        let numbered = word.starts_with(|first: char| first.is_ascii_digit()) && word.chars().all(is_number);
        if numbered { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The picture for a terminal without what every change of the code changes.
fn settled(text: &str) -> String {
    let mut counts = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        counts = (counts || line.starts_with("STEPS")) && !line.starts_with("HAZARDS");
        let changes = counts || line.contains("root pointer");
        lines.push(if changes { without_numbers(line) } else { line.to_owned() });
    }
    lines.join("\n") + "\n"
}

/// The picture for a page without marks, digits and positions.
fn settled_svg(svg: &str) -> String {
    let lines = svg.lines().filter(|line| !line.contains("tick\" "));
    let masked = lines.map(|line| {
        line.split(|character: char| character.is_ascii_digit() || character == ',')
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("#")
    });
    masked.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_picture_in_the_readme_is_that_of_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/takeover.svg");
    let svg = draw::svg(&run(simulation::EXAMPLE));
    let shown = std::fs::read_to_string(path).unwrap();
    if settled_svg(&svg) != settled_svg(&shown) {
        expect_file!["../../../docs/takeover.svg"].assert_eq(&svg);
    }
}

#[test]
fn every_scenario_that_is_shipped_is_drawn_as_before() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");
    let mut scenarios: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scenarios.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(!scenarios.is_empty());
    for path in scenarios {
        let simulation = run(&std::fs::read_to_string(&path).unwrap());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let picture = format!("{}/tests/pictures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_file![picture].assert_eq(&settled(&draw::text(&simulation, Ink::Plain)));
    }
}
