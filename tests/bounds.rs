//! The table of every bound, `host/bounds.md`, is what the constants say: made of the files `limits.rs`, and of constants with
//! `MAX` in their names wherever they stand, each beside its users with its reason. `UPDATE_BOUNDS=1 cargo test --test bounds` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A constant as it stands in its file.
struct Bound {
    name: String,
    value: String,
    reason: String,
}

#[test]
fn table_is_what_the_constants_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    find(&root.join("host/src"), &mut files);
    files.sort();
    let mut table = String::from(
        "# Bounds\n\nEvery bound of the gateway: what it counts, and why it is what it is. Made of the constants by\n\
         `UPDATE_BOUNDS=1 cargo test --test bounds`; `tests/bounds.rs` fails where the two differ.\n",
    );
    let mut count = 0;
    for file in &files {
        let is_limits = file.file_name().is_some_and(|name| name == "limits.rs");
        let mut bounds = bounds(&std::fs::read_to_string(file).unwrap());
        bounds.retain(|bound| is_limits || bound.name.contains("MAX"));
        if bounds.is_empty() {
            continue;
        }
        count += bounds.len();
        let module = file.strip_prefix(root).unwrap().display();
        write!(table, "\n## {module}\n\n| bound | value | what and why |\n|---|---|---|\n").unwrap();
        for Bound { name, value, reason } in bounds {
            assert!(!reason.is_empty(), "{module}: {name} has no reason");
            writeln!(table, "| `{name}` | {value} | {reason} |").unwrap();
        }
    }
    assert!(count > 200, "the constants are found: {count}");
    let path = root.join("host/bounds.md");
    if std::env::var_os("UPDATE_BOUNDS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = table.lines().zip(written.lines().chain(std::iter::repeat(""))).find(|(made, stands)| made != stands);
    assert!(written == table, "host/bounds.md is out of date: {differs:?}");
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            find(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

fn bounds(source: &str) -> Vec<Bound> {
    let (mut bounds, mut docs) = (Vec::new(), Vec::new());
    let mut lines = source.lines();
    while let Some(line) = lines.next().filter(|line| !line.starts_with("#[cfg(test)]")) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
            continue;
        }
        let declared = match line.strip_prefix("const ") {
            Some(rest) => Some(rest),
            None => line.strip_prefix("pub").and_then(|rest| rest.split_once("const ")).map(|(_, rest)| rest),
        };
        let Some(mut declared) =
            declared.filter(|rest| rest.contains(": ") && !rest.starts_with("fn ")).map(str::to_owned)
        else {
            docs.clear();
            continue;
        };
        while !declared.ends_with(';') {
            declared.push_str(lines.next().unwrap().trim());
        }
        let (name, rest) = declared.split_once(": ").unwrap();
        let value = rest.split_once(" =").unwrap().1.trim_end_matches(';').trim();
        let reason = docs.join(" ").replace('|', "\\|");
        bounds.push(Bound { name: name.to_owned(), value: shown(name, value), reason });
        docs.clear();
    }
    bounds
}

/// A value with its unit, as far as name and expression tell it.
fn shown(name: &str, value: &str) -> String {
    let inner = |prefix: &str| value.strip_prefix(prefix)?.strip_suffix(')').and_then(number);
    if let Some(seconds) = inner("Duration::from_secs(") {
        return format!("{} s", grouped(seconds));
    }
    if let Some(milliseconds) = inner("Duration::from_millis(") {
        return format!("{} ms", grouped(milliseconds));
    }
    match number(value) {
        Some(kibibytes) if name.contains("KIBIBYTES") => bytes(kibibytes << 10),
        Some(count) if name.contains("BYTES") || name.ends_with("_SIZE") => bytes(count),
        Some(count) if name.ends_with("_MS") => format!("{} ms", grouped(count)),
        Some(count) if name.contains("PERMILLE") => format!("{count} ‰"),
        Some(count) => grouped(count),
        None => format!("`{value}`"),
    }
}

/// What products and shifts of whole numbers come to.
fn number(expression: &str) -> Option<u64> {
    if let Some((left, right)) = expression.split_once(" << ") {
        return Some(number(left)? << number(right)?);
    }
    let factors = expression.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().ok());
    factors.collect::<Option<Vec<_>>>().map(|factors| factors.iter().product())
}

fn bytes(count: u64) -> String {
    match count {
        count if count > 0 && count.is_multiple_of(1 << 20) => format!("{} MiB", grouped(count >> 20)),
        count if count > 0 && count.is_multiple_of(1 << 10) => format!("{} KiB", grouped(count >> 10)),
        count => format!("{} bytes", grouped(count)),
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[test]
fn values_have_their_units() {
    for (name, value, expected) in [
        ("A_BYTES", "16 << 20", "16 MiB"),
        ("A_BYTES_MAX", "64 * 1_024", "64 KiB"),
        ("BUFFER_BYTES", "1_000", "1,000 bytes"),
        ("OUTBOX_KIBIBYTES", "1 << 10", "1 MiB"),
        ("A_TIMEOUT", "Duration::from_secs(24 * 3600)", "86,400 s"),
        ("A_PACE", "Duration::from_millis(5)", "5 ms"),
        ("A_MAX", "4_096", "4,096"),
        ("A_SHARE", "A_MAX / 8", "`A_MAX / 8`"),
    ] {
        assert_eq!(shown(name, value), expected, "{name}");
    }
}
