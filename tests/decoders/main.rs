//! Every decoder against the corpus of its fuzz target and against all that fuzzing has found; see `fuzz/README.md`.
//!
//! Must never need a tool that the rest of the suite does not.

mod laws;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use laws::{Law, TARGETS};

/// In bytes: what is kept is read at every run, and by people.
const LARGEST_FILE: u64 = 4 << 10;

/// The same of all of it.
const LARGEST_CORPUS: u64 = 300 << 10;

/// What is kept: inputs that reach different code, and inputs that broke a law once.
const FOLDERS: [&str; 2] = ["corpus", "findings"];

/// A path in the folder of the fuzz targets.
fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

/// The entries of a folder; none where it is missing, as for a target that has found nothing.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
}

/// Every file that a folder keeps, with the law that it is held against.
fn kept(folder: &str) -> Vec<(PathBuf, Law)> {
    let of = |name| entries(&fuzz(folder).join(name));
    TARGETS.iter().flat_map(|(name, law)| of(name).into_iter().map(|file| (file, *law))).collect()
}

fn replay(folder: &str) {
    for (file, law) in kept(folder) {
        let bytes = fs::read(&file).expect("a file that is kept");
        assert!(catch_unwind(|| law(&bytes)).is_ok(), "{} breaks the law of its target", file.display());
    }
}

#[test]
fn the_corpus_is_decoded_by_the_laws() {
    replay("corpus");
}

#[test]
fn what_fuzzing_found_is_decoded_by_the_laws() {
    replay("findings");
}

#[test]
fn a_million_random_statuses_are_decoded_by_the_law() {
    // The generator of Marsaglia, "Xorshift RNGs", 2003: the same bytes every time.
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    for _ in 0..1_000_000 {
        let bytes = [random(), random(), random()].concat();
        laws::status(&bytes[..20]);
    }
}

#[test]
fn every_law_has_a_target_and_a_corpus() {
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).expect("the manifest");
    for (name, _) in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("\npath = \"{path}\"\n")), "{name} is not in the manifest");
        let target = fs::read_to_string(fuzz(&path)).expect("a target");
        assert!(target.contains(&format!("laws::{name}(bytes)")), "{name} holds bytes against another law");
        assert!(!entries(&fuzz(&format!("corpus/{name}"))).is_empty(), "{name} has no corpus");
    }
    for folder in ["fuzz_targets", FOLDERS[0], FOLDERS[1]] {
        for entry in entries(&fuzz(folder)) {
            let of = entry.file_stem().expect("a name");
            assert!(TARGETS.iter().any(|(name, _)| *name == of), "{} is of no law", entry.display());
        }
    }
}

#[test]
fn what_is_kept_is_small() {
    let mut total = 0;
    for (file, _) in FOLDERS.iter().flat_map(|folder| kept(folder)) {
        let size = fs::metadata(&file).expect("a file that is kept").len();
        assert!(size <= LARGEST_FILE, "{} has {size} bytes", file.display());
        total += size;
    }
    assert!(total <= LARGEST_CORPUS, "{total} bytes are kept");
}
