//! What the pages show is what the program reads and writes: the letters, the keys, the fields, the examples.
//!
//! Must never need a running tree.

use std::fs;
use std::path::{Path, PathBuf};

use svtree::pure::command::LETTERS;
use svtree::pure::config;
use svtree::pure::state::{Record, State};

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a page of the project")
}

/// The only block of a language on a page.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1);
    let block = blocks.next().expect("a block").split("```").next().expect("its end");
    assert!(blocks.next().is_none(), "more than one block of {language}");
    block
}

#[test]
fn readme_has_every_letter_with_its_verb() {
    let readme = page("README.md");
    for letter in &LETTERS {
        let row = format!("| `{}` | `{}` | {} |", char::from(letter.byte), letter.verb, letter.help);
        assert!(readme.contains(&row), "missing: {row}");
    }
}

#[test]
fn readme_has_a_service_toml_without_mistakes() {
    assert!(config::service(block(&page("README.md"), "toml")).is_ok());
}

#[test]
fn every_key_of_service_toml_stands_once_in_the_reference_and_nothing_else_does() {
    let reference = page("docs/service-toml.md");
    let rows = reference.lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<String> = Vec::new();
    for row in rows {
        assert_eq!(row.matches(" | ").count() + row.matches(" | |").count(), 8, "nine columns: {row}");
        documented.extend(row.split('`').nth(1).map(str::to_owned));
    }
    let mut keys: Vec<String> = config::keys().collect();
    documented.sort();
    keys.sort();
    assert_eq!(documented, keys);
}

#[test]
fn every_example_is_read_without_mistakes() {
    let mut look = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("services.example")];
    let mut read = 0;
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                look.push(path);
            } else if path.ends_with("service.toml") {
                let text = fs::read_to_string(&path).expect("text");
                assert!(config::service(&text).is_ok(), "{}: {:?}", path.display(), config::service(&text));
                read += 1;
            }
        }
    }
    assert!(read > 0, "no example has a service.toml");
}

#[test]
fn every_field_of_state_json_is_documented() {
    let page = page("docs/status-files.md");
    let example: State = serde_json::from_str(block(&page, "json")).expect("the example is a state.json");
    let full = State { uptime: Some(0.0), record: Some(Record::default()), exits: example.exits, ..State::default() };
    let value = serde_json::to_value(full).expect("JSON");
    let exit = value["exits"][0].as_object().expect("the example has an exit");
    for field in value.as_object().expect("an object").keys().chain(exit.keys()) {
        assert!(page.contains(&format!("\n| `{field}` | ")), "missing: {field}");
    }
}

/// All that stands in the files below a directory.
fn texts(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| if path.is_dir() { texts(&path) } else { fs::read_to_string(path).unwrap_or_default() })
        .collect()
}

#[test]
fn every_fault_on_the_page_of_failures_has_its_test() {
    let page = page("docs/FAILURES.md");
    let tests = texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let head = ["| fault | ", "| --- | "];
    for row in page.lines().filter(|line| line.starts_with("| ") && !head.iter().any(|head| line.starts_with(head))) {
        let names = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for name in names.split(", ") {
            let declared = format!("#[test]\nfn {}() {{", name.trim_matches('`'));
            assert!(tests.contains(&declared), "no such test: {name} in {row}");
        }
    }
}
