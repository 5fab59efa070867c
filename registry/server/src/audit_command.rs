//! `granary audit`: the audit, page after page, as a table or as JSON lines.

use std::io::{self, BufWriter, Write};

use granary_core::{Clock, SystemClock};
use granary_process::{Context, Failure};
use granary_store::{AuditFilter, AuditOutcome, AuditPage, AuditRow};

use crate::admin;
use crate::cli::{AuditArgs, Outcome};

/// How many rows a table has, unless told.
const TABLE_ROWS: u64 = 100;
/// The columns of the table.
const COLUMNS: [&str; 8] = ["AT", "ACTOR", "ADDRESS", "ACTION", "CHANNEL", "PACKAGE", "OUTCOME", "TIMES"];

/// Runs `granary audit`. Who stops reading (`head`) ends it.
pub async fn audit(args: &AuditArgs) -> Result<(), Failure> {
    let assembled = admin::open(&args.config).await?;
    let now = SystemClock.now();
    let filter = AuditFilter {
        actor: args.actor.clone(),
        channel: args.channel.clone(),
        package: args.package.clone(),
        action: args.action.clone(),
        outcome: args.outcome.map(|outcome| match outcome {
            Outcome::Done => AuditOutcome::Done,
            Outcome::Refused => AuditOutcome::Refused,
        }),
        since: args.since.map(|since| since.resolve(now)),
        until: args.until.map(|until| until.resolve(now)),
    };
    let mut left = args.limit.unwrap_or(if args.json { u64::MAX } else { TABLE_ROWS });
    let mut page = AuditPage { before: None, limit: AuditPage::MOST };
    let mut output = BufWriter::new(io::stdout());
    let mut first = true;
    while first || left > 0 {
        page.limit = u16::try_from(left).unwrap_or(u16::MAX).min(AuditPage::MOST);
        let rows = assembled.store.audit_log(&filter, page).await.context("the audit")?;
        let written =
            if args.json { write_lines(&mut output, &rows) } else { write_table(&mut output, &rows, first) };
        match written.and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("standard output")?,
        }
        if rows.len() < usize::from(page.limit) {
            break;
        }
        left -= u64::from(page.limit);
        page.before = rows.last().map(|row| row.id);
        first = false;
    }
    Ok(())
}

fn write_lines(output: &mut impl Write, rows: &[AuditRow]) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *output, row)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// The rows in columns as wide as they have to be; with a head above the first page.
fn write_table(output: &mut impl Write, rows: &[AuditRow], head: bool) -> io::Result<()> {
    let lines = head.then(|| COLUMNS.map(str::to_owned)).into_iter().chain(rows.iter().map(cells));
    let lines: Vec<_> = lines.collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(output, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn cells(row: &AuditRow) -> [String; 8] {
    // Names of workloads are made by others: none of it shall steer a terminal.
    let shown = |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let or_dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), shown);
    [
        format!("{:.0}", row.at),
        shown(&row.actor),
        or_dash(&row.address),
        shown(&row.action),
        or_dash(&row.channel),
        or_dash(&row.package),
        row.outcome.clone(),
        row.times.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn row() -> AuditRow {
        AuditRow {
            id: 41,
            at: "2026-03-01T12:00:00.123456Z".parse().unwrap(),
            actor: "workload:ci:\u{1b}[31m".to_owned(),
            credential: "password".to_owned(),
            address: Some("192.0.2.7".to_owned()),
            action: "publish".to_owned(),
            channel: Some("pypi/dev".to_owned()),
            package: None,
            outcome: "refused".to_owned(),
            times: 50,
            request_id: Some("0123456789".to_owned()),
            detail: json!({ "file": "x.whl" }),
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_lines_are_what_programs_read() {
        let lines = text(|output| write_lines(output, &[row(), row()]));
        let line = "{\"id\":41,\"at\":\"2026-03-01T12:00:00.123456Z\",\"actor\":\"workload:ci:\\u001b[31m\",\
                    \"credential\":\"password\",\"address\":\"192.0.2.7\",\"action\":\"publish\",\
                    \"channel\":\"pypi/dev\",\"package\":null,\"outcome\":\"refused\",\"times\":50,\
                    \"request_id\":\"0123456789\",\"detail\":{\"file\":\"x.whl\"}}\n";
        assert_eq!(lines, line.repeat(2));
    }

    #[test]
    fn the_table_is_aligned_and_steers_no_terminal() {
        let table = text(|output| write_table(output, &[row()], true));
        let expected = "\
AT                    ACTOR              ADDRESS    ACTION   CHANNEL   PACKAGE  OUTCOME  TIMES
2026-03-01T12:00:00Z  workload:ci:?[31m  192.0.2.7  publish  pypi/dev  -        refused  50
";
        assert_eq!(table, expected);
        assert_eq!(text(|output| write_table(output, &[], true)).lines().count(), 1);
        assert_eq!(text(|output| write_table(output, &[], false)), "");
    }
}
