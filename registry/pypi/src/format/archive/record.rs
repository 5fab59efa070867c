//! `RECORD`: the list of a wheel's files.

use granary_archive::{EntryKind, Names};

use super::error::ArchiveError;

/// Compares `RECORD` with the files of the wheel: each is in both. The signatures of `RECORD` may be left
/// out of it, and so may `RECORD`.
pub(super) fn check_record(record: &[u8], dist_info: &str, names: &Names) -> Result<(), ArchiveError> {
    let record = std::str::from_utf8(record).map_err(|error| ArchiveError::RecordLine {
        line: record[..error.valid_up_to()].split(|&byte| byte == b'\n').count(),
    })?;
    let exempt = ["RECORD", "RECORD.jws", "RECORD.p7s"].map(|name| format!("{dist_info}/{name}"));
    let is_exempt = |path: &str| exempt.iter().any(|exempt| exempt == path);

    let mut files: Vec<&str> =
        names.iter().filter(|&(_, kind)| kind != EntryKind::Folder).map(|(name, _)| name).collect();
    files.sort_unstable();
    let mut listed: Vec<bool> = files.iter().map(|path| is_exempt(path)).collect();

    let mut rest = record;
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let (path, after) = first_of_row(rest).ok_or(ArchiveError::RecordLine { line })?;
        rest = after;
        if path.is_empty() {
            continue;
        }
        match files.binary_search(&&*path) {
            Ok(index) => listed[index] = true,
            Err(_) if is_exempt(&path) => {}
            Err(_) => return Err(ArchiveError::OnlyInRecord { name: path }),
        }
    }
    match listed.iter().position(|listed| !listed) {
        Some(index) => Err(ArchiveError::NotInRecord { name: files[index].to_owned() }),
        None => Ok(()),
    }
}

/// The first column of the first row, and the rows after it. Only a first column that is quoted may hold a
/// comma or a line end: the others are a digest and a number. An empty row gives an empty column.
fn first_of_row(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (row, after) = text.split_once('\n').unwrap_or((text, ""));
        let row = row.strip_suffix('\r').unwrap_or(row);
        let (path, columns) = row.split_once(',').unwrap_or((row, ""));
        let well_formed =
            !path.contains('"') && !columns.contains('"') && (!path.is_empty() || row.is_empty());
        return well_formed.then(|| (path.to_owned(), after));
    };
    let mut path = String::new();
    let mut rest = quoted;
    loop {
        let (piece, after) = rest.split_once('"')?;
        path.push_str(piece);
        // A doubled quote stands for one.
        if let Some(after) = after.strip_prefix('"') {
            path.push('"');
            rest = after;
            continue;
        }
        let (columns, after) = after.split_once('\n').unwrap_or((after, ""));
        let columns = columns.strip_suffix('\r').unwrap_or(columns);
        let is_separated = columns.is_empty() || columns.starts_with(',');
        let well_formed = is_separated && !columns.contains('"') && !path.is_empty();
        return well_formed.then_some((path, after));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn check(record: &str, files: &[&str]) -> Result<(), ArchiveError> {
        let mut names = Names::default();
        for file in files {
            names.push(file, EntryKind::File).unwrap();
        }
        names.push("folder", EntryKind::Folder).unwrap();
        check_record(record.as_bytes(), "a-1.dist-info", &names)
    }

    #[test]
    fn record_and_wheel_hold_the_same_files() {
        let files = ["a.py", "b,\"c\".py", "a-1.dist-info/RECORD", "a-1.dist-info/RECORD.jws"];
        let record = "a.py,sha256=x,1\r\n\"b,\"\"c\"\".py\",sha256=y,2\n\na-1.dist-info/RECORD,,\n";
        assert_eq!(check(record, &files), Ok(()));
        assert_eq!(check("a.py\n", &["a.py", "a-1.dist-info/RECORD"]), Ok(()));
        assert_eq!(
            check("a.py,,", &["a.py", "b.py"]),
            Err(ArchiveError::NotInRecord { name: "b.py".into() })
        );
        assert_eq!(
            check("a.py,,\nb.py,,\n", &["a.py"]),
            Err(ArchiveError::OnlyInRecord { name: "b.py".into() })
        );
        assert_eq!(check("folder,,\n", &[]), Err(ArchiveError::OnlyInRecord { name: "folder".into() }));
    }

    #[test]
    fn malformed_lines_are_named() {
        for (record, line) in
            [("a.py,,\n\"b.py", 2), ("\"a\"x,,\n", 1), (",sha256=x,1\n", 1), ("a\"b,,\n", 1)]
        {
            assert_eq!(check(record, &["a.py"]), Err(ArchiveError::RecordLine { line }), "{record:?}");
        }
        let names = Names::default();
        assert_eq!(check_record(b"\xff", "a-1.dist-info", &names), Err(ArchiveError::RecordLine { line: 1 }));
    }
}
