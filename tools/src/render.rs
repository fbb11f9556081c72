//! Answers of the server as an operator reads them.
//! Invariants: a table has one line a thing and a heading; sizes are in binary units with one digit.
//! Not here: `--json`, which prints the answer itself.

use std::fmt::Write as _;

use serde_json::Value;

/// Columns as wide as their widest cell.
fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Bytes in binary units.
#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// The drives of the pool.
pub(crate) fn drives(answer: &Value) -> String {
    let row = |drive: &Value| {
        let room = |field| drive.get(field).and_then(Value::as_u64).map_or("-".to_owned(), size);
        vec![
            text(drive, "path"),
            text(drive, "state"),
            text(drive, "plan"),
            text(drive, "shards"),
            room("free_bytes"),
            room("total_bytes"),
            text(drive, "id"),
        ]
    };
    let rows: Vec<Vec<String>> = items(answer, "drives").iter().map(row).collect();
    table(&["DRIVE", "STATE", "PLAN", "SHARDS", "FREE", "SIZE", "ID"], &rows)
}

/// A key with its secret, if the request made one.
fn new_key(answer: &Value) -> Option<String> {
    let key = answer.get("key")?;
    let mut out = String::new();
    let lines = [
        ("user", text(key, "user")),
        ("access key", text(key, "access_key")),
        ("secret key", text(key, "secret_key")),
    ];
    push_lines(&mut out, &lines);
    out.push_str("The secret is not shown again.\n");
    Some(out)
}

/// All users, or the key that was made with one.
pub(crate) fn users(answer: &Value) -> String {
    let row = |user: &Value| {
        vec![
            text(user, "name"),
            items(user, "keys").len().to_string(),
            moment(number(user, "created_ms")),
            text(user, "id"),
        ]
    };
    let rows: Vec<Vec<String>> = items(answer, "users").iter().map(row).collect();
    new_key(answer).unwrap_or_else(|| table(&["USER", "KEYS", "CREATED", "ID"], &rows))
}

/// The access keys of all users, or the one that was made.
pub(crate) fn keys(answer: &Value) -> String {
    let rows = items(answer, "users").iter().flat_map(|user| {
        items(user, "keys").iter().map(|key| {
            let is_enabled = key.get("enabled").and_then(Value::as_bool) == Some(true);
            vec![
                text(key, "access_key"),
                text(user, "name"),
                if is_enabled { "enabled" } else { "disabled" }.to_owned(),
                moment(number(key, "created_ms")),
                moment(number(key, "last_used_ms")),
            ]
        })
    });
    let heading = ["ACCESS KEY", "USER", "STATE", "CREATED", "LAST USED"];
    new_key(answer).unwrap_or_else(|| table(&heading, &rows.collect::<Vec<_>>()))
}

/// How scrub stands.
pub(crate) fn scrub(answer: &Value) -> String {
    let mut out = String::new();
    let phase = match answer.get("paused").and_then(Value::as_bool) {
        Some(true) => "paused".to_owned(),
        _ => text(answer, "phase"),
    };
    let lines = [
        ("scrub", phase),
        (
            "volumes of this pass",
            format!("{} of {}", number(answer, "volumes_done"), number(answer, "volumes")),
        ),
        ("read since the start", size(number(answer, "read_bytes"))),
        ("pages bad, mended", format!("{}, {}", number(answer, "pages_bad"), number(answer, "pages_mended"))),
        ("stripes lost", number(answer, "stripes_lost").to_string()),
        ("last full pass", moment(number(answer, "last_full_ms"))),
    ];
    push_lines(&mut out, &lines);
    out
}

/// How repair stands.
pub(crate) fn repair(answer: &Value) -> String {
    let mut out = String::new();
    let mut lines = vec![
        ("shards to be made anew", number(answer, "shards_left").to_string()),
        ("of these waiting", number(answer, "shards_waiting").to_string()),
        ("beyond repair", number(answer, "shards_lost").to_string()),
        ("made anew since the start", number(answer, "shards_repaired").to_string()),
        ("moved to emptier drives", number(answer, "shards_balanced").to_string()),
        ("read since the start", size(number(answer, "read_bytes"))),
    ];
    let waits_for = text(answer, "waits_for");
    if !waits_for.is_empty() {
        lines.push(("waits for", waits_for));
    }
    push_lines(&mut out, &lines);
    out
}

/// What a census found.
pub(crate) fn census(answer: &Value) -> String {
    let Some(report) = answer.get("report").filter(|report| !report.is_null()) else {
        return match answer.get("error").and_then(Value::as_str) {
            Some(error) => format!("the census ended early: {error}\n"),
            None => format!(
                "{} of {} volumes read, {} objects compared\n",
                number(answer, "volumes_done"),
                number(answer, "volumes"),
                number(answer, "names_done")
            ),
        };
    };
    let row = |name: &str, counts: &Value| {
        let mut row = vec![name.to_owned()];
        row.extend(["whole", "degraded", "lost", "unseen"].map(|field| text(counts, field)));
        row
    };
    let none = Value::Null;
    let counts = |field| report.get(field).unwrap_or(&none);
    let rows = [
        row("objects", counts("objects")),
        row("parts of uploads", counts("parts")),
        row("metadata runs", counts("runs")),
    ];
    let mut out = table(&["", "WHOLE", "DEGRADED", "LOST", "CHANGED"], &rows);
    let lines = [
        ("objects within metadata", number(report, "inline_objects").to_string()),
        ("volumes read", number(report, "volumes").to_string()),
        ("stripes", number(report, "stripes").to_string()),
        ("pages that verify", number(report, "whole_pages").to_string()),
    ];
    push_lines(&mut out, &lines);
    let findings = items(report, "findings");
    if !findings.is_empty() {
        let row = |finding: &Value| {
            let part = finding.get("part").and_then(Value::as_u64);
            let part = part.map(|part| format!(" part {part}")).unwrap_or_default();
            let state = match finding.get("lost").and_then(Value::as_bool) {
                Some(true) => "lost".to_owned(),
                _ => format!("{} bad pages", number(finding, "bad_pages")),
            };
            vec![state, format!("{}/{}{part}", text(finding, "bucket"), text(finding, "key"))]
        };
        let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
        out.push('\n');
        out.push_str(&table(&["NOT WHOLE", "OBJECT"], &rows));
    }
    out
}

/// What an fsck found.
pub(crate) fn fsck(answer: &Value) -> String {
    let none = Value::Null;
    let report = answer.get("report").unwrap_or(&none);
    let mut out = String::new();
    let findings = items(report, "findings");
    for finding in findings {
        // Writing to a string does not fail.
        writeln!(out, "{}: {}", text(finding, "kind"), text(finding, "what")).ok();
    }
    let count = number(report, "findings_count");
    if count > findings.len() as u64 {
        writeln!(out, "and {} more", count - findings.len() as u64).ok();
    }
    let lines = [
        ("names", number(report, "names").to_string()),
        ("byte sequences", number(report, "byte_sequences").to_string()),
        ("extents", number(report, "extents").to_string()),
        ("owners", number(report, "owners").to_string()),
        ("volumes", number(report, "volumes").to_string()),
        ("segment files", number(report, "segment_files").to_string()),
        ("shards out of reach", number(report, "shards_out_of_reach").to_string()),
        ("findings", count.to_string()),
    ];
    push_lines(&mut out, &lines);
    out
}

/// A dump that was written.
pub(crate) fn export(answer: &Value) -> String {
    format!("{}: {}, all metadata of one moment\n", text(answer, "file"), size(number(answer, "bytes")))
}

/// A support bundle that was written.
pub(crate) fn bundle(answer: &Value) -> String {
    let what = "look at it, then send it to whoever asked";
    format!("{}: {}; {what}\n", text(answer, "file"), size(number(answer, "bytes")))
}

/// What a gc freed, or would free.
pub(crate) fn gc(answer: &Value) -> String {
    let none = Value::Null;
    let report = answer.get("report").unwrap_or(&none);
    let is_dry = report.get("dry_run").and_then(Value::as_bool) == Some(true);
    let row = |name: &str, field: &str, what: &str| {
        let part = report.get(field).unwrap_or(&none);
        vec![name.to_owned(), number(part, "count").to_string(), size(number(part, "bytes")), what.to_owned()]
    };
    let rows = [
        row("deleted bytes", "deleted", "of objects and parts, without parity"),
        row("still being read", "held", "swept when their readers have ended"),
        row("dead volumes", "dead_volumes", "all segments"),
        row("sparse volumes", "sparse_volumes", "all segments, once what is live is moved"),
        row("left-over files", "left_over_files", "segment files that nothing names"),
    ];
    let heading = ["", if is_dry { "WOULD FREE" } else { "FREED" }, "BYTES", "OF WHAT"];
    let mut out = table(&heading, &rows);
    push_lines(&mut out, &[("live bytes moved", size(number(report, "moved_bytes")))]);
    out
}

/// One object.
pub(crate) fn inspection(answer: &Value) -> String {
    let mut out = String::new();
    let lines = [
        ("object", format!("{}/{}", text(answer, "bucket"), text(answer, "key"))),
        ("size", format!("{} ({} bytes)", size(number(answer, "size_bytes")), number(answer, "size_bytes"))),
        ("etag", text(answer, "etag")),
        ("written", moment(number(answer, "modified_ms"))),
        ("data id", text(answer, "data_id")),
    ];
    push_lines(&mut out, &lines);
    if answer.get("version").is_some() {
        push_lines(&mut out, &[("version", text(answer, "version"))]);
    }
    if answer.get("encrypted_under").is_some() {
        push_lines(
            &mut out,
            &[("encrypted", format!("under a key of the {}", text(answer, "encrypted_under")))],
        );
    }
    if answer.get("inline").and_then(Value::as_bool) == Some(true) {
        out.push_str("its bytes are a metadata row: they are in the metadata log and runs\n");
        return out;
    }
    for extent in items(answer, "extents") {
        // Writing to a string does not fail.
        writeln!(
            out,
            "\nvolume {} sector {} byte {}: {} bytes; its first stripe:",
            text(extent, "volume"),
            number(extent, "sector"),
            number(extent, "byte_in_stripe"),
            number(extent, "len_bytes")
        )
        .ok();
        let row = |shard: &Value| vec![text(shard, "shard"), text(shard, "page"), text(shard, "drive")];
        let rows: Vec<Vec<String>> = items(extent, "shards").iter().map(row).collect();
        out.push_str(&table(&["SHARD", "PAGE", "DRIVE"], &rows));
    }
    out
}

fn push_lines(out: &mut String, lines: &[(&str, String)]) {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines {
        // Writing to a string does not fail.
        writeln!(out, "{name:<width$}  {value}").ok();
    }
}

/// Milliseconds since 1970 as a date.
fn moment(ms: u64) -> String {
    if ms == 0 {
        return "never".to_owned();
    }
    let form = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let moment =
        i64::try_from(ms / 1000).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    moment.and_then(|moment| moment.format(form).ok()).unwrap_or_else(|| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let answer = json!({"drives": [
            {"path": "/mnt/d1", "state": "healthy", "plan": "stay", "shards": 12, "free_bytes": 1_610_612_736_u64,
             "total_bytes": 2_147_483_648_u64, "id": "ab"},
            {"path": "/mnt/drive-with-a-name", "state": "missing", "plan": "leave", "shards": 0,
             "free_bytes": null, "total_bytes": null, "id": "cd"},
        ]});
        let expected = "\
DRIVE                   STATE    PLAN   SHARDS  FREE     SIZE     ID
/mnt/d1                 healthy  stay   12      1.5 GiB  2.0 GiB  ab
/mnt/drive-with-a-name  missing  leave  0       -        -        cd
";
        assert_eq!(drives(&answer), expected);
    }

    #[test]
    fn a_census_names_what_is_not_whole() {
        let counts = json!({"whole": 3, "degraded": 1, "lost": 0, "unseen": 0});
        let answer = json!({"running": false, "report": {
            "objects": counts, "parts": counts, "runs": counts, "inline_objects": 2, "volumes": 1, "stripes": 4,
            "whole_pages": 23, "all_whole": false,
            "findings": [{"bucket": "b", "key": "k", "bad_pages": 1, "lost": false}],
        }});
        let text = census(&answer);
        assert!(text.contains("objects           3      1         0     0"), "{text}");
        assert!(text.contains("1 bad pages  b/k"), "{text}");
    }

    #[test]
    fn an_fsck_says_each_finding_and_how_many_are_left_out() {
        let finding =
            json!({"kind": "file", "what": "/d1/segments/a.00 is left over; `basaltctl gc` removes it"});
        let answer =
            json!({"running": false, "report": {"names": 3, "findings_count": 5, "findings": [finding]}});
        let text = fsck(&answer);
        assert!(text.starts_with("file: /d1/segments/a.00 is left over"), "{text}");
        assert!(text.contains("and 4 more") && text.contains("findings             5"), "{text}");
    }

    #[test]
    fn a_gc_says_whether_it_was_a_dry_run() {
        let dead = json!({"count": 2, "bytes": 3_145_728});
        let answer = json!({"report": {"dry_run": true, "dead_volumes": dead}});
        let text = gc(&answer);
        assert!(
            text.contains("WOULD FREE") && text.contains("dead volumes      2           3.0 MiB"),
            "{text}"
        );
        assert!(!gc(&json!({"report": {"dry_run": false}})).contains("WOULD"));
    }

    #[test]
    fn sizes_and_moments_read_well() {
        assert_eq!((size(5), size(1536), size(1 << 40)), ("5 B".into(), "1.5 KiB".into(), "1.0 TiB".into()));
        assert_eq!(
            (moment(0), moment(1_790_000_000_000)),
            ("never".into(), "2026-09-21 14:13:20 UTC".into())
        );
    }
}
