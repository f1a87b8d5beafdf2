//! Reads every manifest of the workspace and refuses an arrow between crates that `ARCHITECTURE.md` does not have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Which of our crates each crate may use, in the order of the arrows. A new crate needs a line here.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("wire", &["base"]),
    ("room", &["base", "wire"]),
    ("media", &["base", "wire"]),
    ("store", &["base", "wire"]),
    ("shard", &["base", "wire", "room"]),
    ("bot", &["base", "wire", "media", "shard"]),
    ("kvs", &["base", "wire", "store"]),
    ("record", &["base", "wire", "media", "store", "shard"]),
    ("api", &["base", "wire", "shard", "bot", "record", "kvs"]),
    ("server", &["base", "wire", "media", "store", "shard", "bot", "record", "kvs", "api"]),
    ("client", &["base", "wire"]),
    ("sim", &["base", "wire", "room", "media", "store", "shard", "bot", "record", "client"]),
];

/// In tests only: whole rooms in virtual time, and a client to drive the server with.
const DEV_ARROWS: &[(&str, &[&str])] =
    &[("shard", &["sim"]), ("bot", &["sim", "client"]), ("api", &["client"]), ("server", &["client"])];

/// Crates of others that may be used in the named places only.
const CONFINED: &[(&str, &[&str])] = &[
    ("str0m", &["shard", "sfuload", "sim"]),
    ("openh264", &["media"]),
    ("opus", &["media"]),
    ("re_rav1d", &["media"]),
    ("axum", &["api", "kvs", "server"]),
    ("object_store", &["store"]),
    ("clap", &["server", "sfuload", "floor", "kvsload"]),
];

/// Where there is no async runtime: engines, and the threads that forward packets.
const NO_TOKIO: &[&str] = &["base", "wire", "room", "media", "shard", "sim"];

/// Crates that only measure: they stand outside the house and use none of ours.
const BENCHES: &[&str] = &["sfuload", "floor", "kvsload"];

struct Manifest {
    name: String,
    uses: Vec<String>,
    uses_in_tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn names(table: &Table, section: &str) -> Vec<String> {
    let real_name = |(key, value): (&String, &Value)| {
        value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
    };
    table.get(section).and_then(Value::as_table).into_iter().flatten().map(real_name).collect()
}

fn read(path: &Path) -> Manifest {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let table: Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
    let mut uses = names(&table, "dependencies");
    uses.extend(names(&table, "build-dependencies"));
    let mut uses_in_tests = names(&table, "dev-dependencies");
    for target in table.get("target").and_then(Value::as_table).into_iter().flatten() {
        let target = target.1.as_table().expect("a target is a table");
        uses.extend(names(target, "dependencies"));
        uses.extend(names(target, "build-dependencies"));
        uses_in_tests.extend(names(target, "dev-dependencies"));
    }
    Manifest { name, uses, uses_in_tests }
}

/// Every manifest below `crates` and `bench`.
fn manifests() -> Vec<Manifest> {
    let folders = ["crates", "bench"].iter().flat_map(|f| fs::read_dir(root().join(f)).into_iter().flatten());
    let paths = folders.map(|entry| entry.expect("a readable folder").path().join("Cargo.toml"));
    paths.filter(|path| path.exists()).map(|path| read(&path)).collect()
}

fn ours(name: &str) -> Option<&str> {
    name.strip_prefix("antiphon-")
}

/// What is wrong with one crate's dependencies.
fn check(m: &Manifest) -> Vec<String> {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let dev: BTreeMap<_, _> = DEV_ARROWS.iter().copied().collect();
    let short = ours(&m.name).unwrap_or(&m.name);
    let allowed = match arrows.get(short) {
        Some(allowed) => *allowed,
        None if BENCHES.contains(&short) => &[],
        None => {
            return vec![format!("{short} is in no arrow: give it a place in ARROWS and ARCHITECTURE.md")];
        }
    };
    let in_tests = dev.get(short).copied().unwrap_or_default();
    let mut wrong = Vec::new();
    for used in m.uses.iter().filter_map(|d| ours(d)) {
        if !allowed.contains(&used) {
            wrong.push(format!("{short} -> {used}"));
        }
    }
    for used in m.uses_in_tests.iter().filter_map(|d| ours(d)) {
        if !allowed.contains(&used) && !in_tests.contains(&used) {
            wrong.push(format!("{short} -> {used} (in tests)"));
        }
    }
    for used in m.uses.iter().chain(&m.uses_in_tests) {
        if CONFINED.iter().any(|(krate, places)| krate == used && !places.contains(&short)) {
            wrong.push(format!("{short} -> {used}: not its place"));
        }
    }
    if NO_TOKIO.contains(&short) && m.uses.iter().any(|d| d.contains("tokio")) {
        wrong.push(format!("{short} -> tokio: no async runtime there"));
    }
    wrong
}

#[test]
fn arrows_point_one_way() {
    let manifests = manifests();
    assert!(manifests.len() >= ARROWS.len() / 2, "found only {} manifests", manifests.len());
    let wrong: Vec<String> = manifests.iter().flat_map(check).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_wrong_arrow_is_seen() {
    let manifest = |name: &str, uses: &[&str], tests: &[&str]| Manifest {
        name: format!("antiphon-{name}"),
        uses: uses.iter().map(ToString::to_string).collect(),
        uses_in_tests: tests.iter().map(ToString::to_string).collect(),
    };
    for bad in [
        manifest("base", &["antiphon-wire"], &[]),
        manifest("room", &["antiphon-media"], &[]),
        manifest("shard", &["antiphon-media"], &[]),
        manifest("shard", &[], &["antiphon-bot"]),
        manifest("client", &["antiphon-shard"], &[]),
        manifest("api", &["str0m"], &[]),
        manifest("store", &["antiphon-room"], &[]),
        manifest("kvs", &["antiphon-shard"], &[]),
        manifest("kvs", &["object_store"], &[]),
        manifest("room", &["tokio"], &[]),
        manifest("unheard-of", &[], &[]),
    ] {
        assert_eq!(check(&bad).len(), 1, "{}", bad.name);
    }
    assert!(check(&manifest("shard", &["antiphon-room", "str0m"], &["antiphon-sim"])).is_empty());
}
