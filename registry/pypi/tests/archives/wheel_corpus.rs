//! Wheels and zip sdists, good and hostile.

use granary_archive::ArchiveError as A;
use granary_archive::{MAX_ENTRIES, PathProblem};
use granary_pypi::format::ArchiveError as E;

use crate::zip_writer::{Entry, STORED, UTF8, Zip, entry, extra, u64s, wheel, wheel_entries};
use crate::{Case, METADATA, WHEEL, ZIP_SDIST, noise, read};

#[test]
fn good_wheels_give_their_metadata() {
    let mut unicode = entry("demo_pkg/größe.txt", b"x");
    unicode.flags = UTF8;
    let mut folder = entry("demo_pkg/data/", b"").stored();
    folder.mode = 0o040_755;
    let mut with_zip64 = entry("demo_pkg/b.bin", noise(5000));
    with_zip64.zip64 = true;
    let descriptor64 = with_zip64.clone().with_descriptor();
    let mut named = entry("demo_pkg/named.py", b"x");
    named.local_extra = extra(0x7075, b"\x01\0\0\0\0demo_pkg/named.py");
    let mut everything = wheel(&[unicode, folder, named, entry("demo_pkg/a.bin", noise(100_000)).stored()]);
    everything.zip64_end = true;
    everything.reversed = true;

    let all_descriptors =
        Zip::of(wheel_entries(&[entry("empty", b"")]).into_iter().map(Entry::with_descriptor));
    let all_stored = Zip::of(wheel_entries(&[entry("empty", b"")]).into_iter().map(Entry::stored));
    let good = [
        wheel(&[]),
        everything,
        wheel(&[with_zip64.clone()]),
        wheel(&[descriptor64]),
        Zip::of(wheel_entries(&[]).into_iter().map(|mut one| {
            one.zip64 = true;
            one
        })),
        all_descriptors,
        all_stored,
        wheel(&[entry("demo_pkg-1.0.data/scripts/run", b"#!python"), entry("other.dist-infos/x", b"")]),
        // A file and its namesake in other case: a problem of some file systems, not of the archive.
        wheel(&[entry("demo_pkg/A.h", b"1"), entry("demo_pkg/a.h", b"2")]),
        // What looks like a header inside of data.
        wheel(&[entry("demo_pkg/nested.whl", wheel(&[]).build()).stored()]),
    ];
    for (index, zip) in good.iter().enumerate() {
        let contents = read(WHEEL, &zip.build()).unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!(contents.metadata.as_deref(), Some(METADATA));
        assert_eq!(contents.wheel.as_deref(), Some(&b"Wheel-Version: 1.0\n"[..]));
        assert_eq!(contents.entries, zip.entries.len());
        let unpacked: usize = zip.entries.iter().map(|entry| entry.data.len()).sum();
        assert_eq!(contents.unpacked_size, unpacked as u64);
    }
}

#[test]
fn a_source_distribution_may_be_a_zip_archive() {
    let good =
        Zip::of([entry("Demo.Pkg-1.0/setup.py", b""), entry("Demo.Pkg-1.0/PKG-INFO", METADATA)]).build();
    assert_eq!(read(ZIP_SDIST, &good).unwrap().metadata.as_deref(), Some(METADATA));
    let without = Zip::of([entry("demo_pkg-1.0/setup.py", b"")]).build();
    assert_eq!(read(ZIP_SDIST, &without).unwrap().metadata, None);
    for entries in [["demo_pkg-1.0/a", "demo-pkg-1.0/b"], ["other-1.0/a", "other-1.0/b"], ["a", "b"]] {
        let error = read(ZIP_SDIST, &Zip::of(entries.map(|name| entry(name, b""))).build()).unwrap_err();
        assert!(matches!(error, E::OutsideFolder { .. }), "{error}");
    }
}

#[test]
fn paths_that_could_leave_their_folder_are_refused() {
    let long = "d/".repeat(2500);
    let long_part = "x".repeat(256);
    let table: [(&[u8], PathProblem); 17] = [
        (b"/etc/passwd", PathProblem::Absolute),
        (b"C:/x", PathProblem::Absolute),
        (b"c:x", PathProblem::Absolute),
        (b"../x", PathProblem::Dots),
        (b"a/../../x", PathProblem::Dots),
        (b"a/..", PathProblem::Dots),
        (b"./a", PathProblem::Dots),
        (b"a//b", PathProblem::Empty),
        (b"", PathProblem::Empty),
        (b"/", PathProblem::Empty),
        (b"a\\..\\b", PathProblem::Backslash),
        (b"a\0b", PathProblem::Control),
        (b"a\nb", PathProblem::Control),
        (b"\xc0\xae\xc0\xae/x", PathProblem::Encoding),
        (b"a\xff", PathProblem::Encoding),
        (long.as_bytes(), PathProblem::Length),
        (long_part.as_bytes(), PathProblem::Length),
    ];
    for (name, expected) in table {
        let error = read(WHEEL, &wheel(&[entry(name, b"x")]).build()).unwrap_err();
        let found = match error {
            E::Archive(A::Path { problem, .. }) => problem,
            other => panic!("{name:?}: {other}"),
        };
        assert_eq!(found, expected, "{name:?}");
    }
}

/// The hostile archives, each with the reason for which it is refused.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn corpus() -> Vec<Case> {
    let mut corpus: Vec<Case> = Vec::new();
    let plain = || entry("demo_pkg/x.py", b"print('hello')\n".repeat(20));
    let mut add = |label, zip: Zip, expected| corpus.push((label, zip.build(), expected));
    let with = |change: fn(&mut Entry)| {
        let mut one = plain();
        change(&mut one);
        wheel(&[one])
    };
    let archive = |change: fn(&mut Zip)| {
        let mut zip = wheel(&[plain()]);
        change(&mut zip);
        zip
    };

    // What one reader sees and the other does not. The entry with index 1 is `plain`.
    add("hidden entry", archive(|zip| zip.hidden = vec![1]), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the number of entries", .. }))
    });
    add("hidden entry, another twice", archive(|zip| (zip.hidden, zip.doubled) = (vec![1], vec![0])), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the place", .. }))
    });
    add("other name", with(|one| one.central_patch = Some((46, b"demo_pkg/y.py".to_vec()))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the name", .. }))
    });
    add(
        "other name by extra field",
        with(|one| one.local_extra = extra(0x7075, b"\x01\0\0\0\0evil.py")),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the name", .. })),
    );
    add(
        "other name by extra field of the directory",
        with(|one| one.central_extra = extra(0x7075, b"\x01\0\0\0\0x")),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the name", .. })),
    );
    add("other checksum", with(|one| one.central_patch = Some((16, vec![1, 2, 3, 4]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the checksum", .. }))
    });
    add("other length", with(|one| one.central_patch = Some((24, vec![1, 0, 0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. }))
    });
    add("other packed length", with(|one| one.central_patch = Some((20, vec![1, 0, 0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. }))
    });
    add("other compression", with(|one| one.central_patch = Some((10, vec![0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the compression", .. }))
    });
    add("other flags", with(|one| one.central_patch = Some((8, vec![8, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the flags", .. }))
    });
    add("other place", with(|one| one.central_patch = Some((42, vec![1, 0, 0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the place", .. }))
    });
    add(
        "64-bit length that only some readers take",
        with(|one| one.local_extra = extra(1, &u64s(&[9, 9]))),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. })),
    );
    add(
        "64-bit length in the directory alone",
        with(|one| one.central_extra = extra(1, &u64s(&[9, 9]))),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. })),
    );
    add(
        "64-bit length promised and not there",
        with(|one| one.local_patch = Some((18, vec![0xff; 4]))),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. })),
    );
    add("another count", archive(|zip| zip.end_patch = Some((8, vec![4, 0, 4, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the number of entries", .. }))
    });
    add("another start of the directory", archive(|zip| zip.end_patch = Some((16, vec![0, 0, 0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the place of the directory", .. }))
    });
    add("another size of the directory", archive(|zip| zip.end_patch = Some((12, vec![46, 0, 0, 0]))), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the place of the directory", .. }))
    });
    add(
        "two end records",
        archive(|zip| (zip.zip64_end, zip.end_patch) = (true, Some((8, vec![1, 0, 1, 0])))),
        |e| matches!(e, E::Archive(A::ReadersDisagree { what: "the two end records", .. })),
    );
    add(
        "a 64-bit end record elsewhere",
        archive(|zip| (zip.zip64_end, zip.end64_patch) = (true, Some((64, vec![0; 8])))),
        |e| *e == E::Archive(A::Malformed("the locator does not point to the end record before it")),
    );
    add(
        "a 64-bit end record with more in it",
        archive(|zip| (zip.zip64_end, zip.end64_patch) = (true, Some((4, vec![60])))),
        |e| *e == E::Archive(A::Malformed("the 64-bit end record")),
    );
    add(
        "a locator inside of the directory",
        archive(|zip| zip.before_end = b"PK\x06\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0".to_vec()),
        |e| *e == E::Archive(A::Malformed("the locator does not point to the end record before it")),
    );
    add("data between directory and end", archive(|zip| zip.before_end = b"evil".to_vec()), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the place of the directory", .. }))
    });
    add("several disks", archive(|zip| zip.end_patch = Some((4, vec![1, 0]))), |e| {
        *e == E::Archive(A::Malformed("an archive of several disks"))
    });

    // Data that no entry accounts for.
    add("a program in front", archive(|zip| zip.before = b"#!/bin/sh\n".to_vec()), |e| {
        *e == E::Archive(A::NotAnArchive { expected: "zip" })
    });
    add("a gap", with(|one| one.gap = b"evil".to_vec()), |e| {
        *e == E::Archive(A::Malformed("no header where an entry ends"))
    });
    add("a tail", archive(|zip| zip.after = b"evil".to_vec()), |e| *e == E::Archive(A::TrailingData));
    add("a second archive behind it", archive(|zip| zip.after = wheel(&[]).build()), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { .. }))
    });
    add("a comment", archive(|zip| zip.comment = b"hello".to_vec()), |e| *e == E::Archive(A::Comment));
    add(
        "a comment with an end record",
        archive(|zip| zip.comment = [b"PK\x05\x06".to_vec(), vec![0; 18]].concat()),
        |e| matches!(e, E::Archive(A::ReadersDisagree { .. })),
    );
    add("a comment on an entry", with(|one| one.central_patch = Some((32, vec![1, 0]))), |e| {
        *e == E::Archive(A::Comment)
    });
    add(
        "data behind a compressed entry",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].padding = b"evil".to_vec();
            Zip::of(entries)
        },
        |e| *e == E::Archive(A::Malformed("data behind the end of a compressed entry")),
    );

    // Entries that installers cannot or should not unpack.
    add("encrypted", with(|one| one.flags = 1), |e| matches!(e, E::Archive(A::Encrypted { .. })));
    add("strongly encrypted", with(|one| one.flags = 1 << 6), |e| {
        matches!(e, E::Archive(A::Encrypted { .. }))
    });
    add("bzip2", with(|one| one.method = 12), |e| matches!(e, E::Archive(A::Compression { method: 12, .. })));
    add("stored, its length behind it", wheel(&[plain().stored().with_descriptor()]), |e| {
        matches!(e, E::Archive(A::StoredWithoutLength { .. }))
    });
    add(
        "stored, with two lengths",
        with(|one| {
            one.method = STORED;
            one.local_patch = Some((22, vec![1, 0, 0, 0]));
        }),
        |e| matches!(e, E::Archive(A::Checksum { .. })),
    );
    add("a name in an unknown encoding", wheel(&[entry("demo_pkg/ü".as_bytes(), b"")]), |e| {
        matches!(e, E::Archive(A::NameEncoding { .. }))
    });
    add("a symbolic link", with(|one| one.mode = 0o120_777), |e| {
        matches!(e, E::Archive(A::SymbolicLink { .. }))
    });
    add("a device", with(|one| one.mode = 0o020_666), |e| matches!(e, E::Archive(A::SpecialFile { .. })));
    add("one name twice", wheel(&[plain(), plain()]), |e| matches!(e, E::Archive(A::Duplicate { .. })));
    add(
        "a file that is also a folder",
        wheel(&[entry("a", b""), entry("a.b", b""), entry("a/b", b"")]),
        |e| *e == E::Archive(A::NotAFolder { name: "a".into() }),
    );
    add("a folder with data", wheel(&[entry("a/", b"x")]), |e| {
        *e == E::Archive(A::Malformed("a folder with data"))
    });
    add("a cut-off extra field", with(|one| one.local_extra = vec![1, 0, 9, 0, 1]), |e| {
        *e == E::Archive(A::Malformed("an extra field is cut off"))
    });
    add("an extra field twice", with(|one| one.local_extra = extra(1, &[]).repeat(2)), |e| {
        *e == E::Archive(A::Malformed("an extra field is there twice"))
    });

    // Descriptors.
    let descriptor = |at: usize, bytes: &[u8]| {
        let mut one = plain().with_descriptor();
        one.descriptor_patch = Some((at, bytes.to_vec()));
        wheel(&[one])
    };
    add("no descriptor", descriptor(0, b"PK\x03\x04"), |e| {
        *e == E::Archive(A::Malformed("no data descriptor where one was announced"))
    });
    add("a wrong checksum in the descriptor", descriptor(4, b"\0\0\0\0"), |e| {
        matches!(e, E::Archive(A::Checksum { .. }))
    });
    add("a wrong length in the descriptor", descriptor(8, b"\x01\0\0\0"), |e| {
        matches!(e, E::Archive(A::Checksum { .. }))
    });
    // What makes a wheel.
    let without = |name: &str| {
        let mut entries = wheel_entries(&[]);
        entries.retain(|entry| !entry.name.ends_with(name.as_bytes()));
        Zip::of(entries)
    };
    add("no METADATA", without("METADATA"), |e| *e == E::Missing { name: "METADATA" });
    add("no WHEEL", without("WHEEL"), |e| *e == E::Missing { name: "WHEEL" });
    add("no RECORD", without("RECORD"), |e| *e == E::Missing { name: "RECORD" });
    add("no .dist-info", Zip::of([plain()]), |e| *e == E::Missing { name: ".dist-info folder" });
    add("a second .dist-info", wheel(&[entry("other-2.0.dist-info/METADATA", b"")]), |e| {
        *e == E::DistInfo { name: "other-2.0.dist-info".into() }
    });
    add("a second spelling of .dist-info", wheel(&[entry("Demo.Pkg-1.0.dist-info/METADATA", b"")]), |e| {
        matches!(e, E::DistInfo { .. })
    });
    add("a .dist-info in other case", wheel(&[entry("demo_pkg-1.0.DIST-INFO/METADATA", b"")]), |e| {
        matches!(e, E::DistInfo { .. })
    });
    add("another version's .dist-info", Zip::of([entry("demo_pkg-1.1.dist-info/METADATA", METADATA)]), |e| {
        matches!(e, E::DistInfo { .. })
    });
    add(
        "METADATA with a wrong checksum",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].local_patch = Some((14, vec![0; 4]));
            Zip::of(entries)
        },
        |e| *e == E::Archive(A::Checksum { name: "demo_pkg-1.0.dist-info/METADATA".into() }),
    );
    add(
        "METADATA with a wrong length",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].local_patch = Some((22, vec![1, 0, 0, 0]));
            Zip::of(entries)
        },
        |e| matches!(e, E::Archive(A::Checksum { .. })),
    );
    add(
        "a huge METADATA",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].data = vec![b'x'; (10 << 20) + 1];
            Zip::of(entries)
        },
        |e| matches!(e, E::Archive(A::MemberTooLarge { .. })),
    );
    add(
        "a huge METADATA that says it is small",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].data = vec![b'x'; (10 << 20) + 1];
            entries[1].local_patch = Some((22, vec![1, 0, 0, 0]));
            Zip::of(entries)
        },
        |e| matches!(e, E::Archive(A::MemberTooLarge { .. })),
    );
    add(
        "a huge METADATA without a length",
        {
            let mut entries = wheel_entries(&[]);
            entries[1].data = vec![b'x'; (10 << 20) + 1];
            entries[1] = entries[1].clone().with_descriptor();
            Zip::of(entries)
        },
        |e| matches!(e, E::Archive(A::MemberTooLarge { .. })),
    );
    add(
        "a file that RECORD does not list",
        {
            let mut zip = wheel(&[]);
            zip.entries.insert(0, entry("evil.py", b""));
            zip
        },
        |e| *e == E::NotInRecord { name: "evil.py".into() },
    );
    add(
        "a file that only RECORD lists",
        {
            let mut zip = wheel(&[plain()]);
            zip.entries.remove(1);
            zip
        },
        |e| *e == E::OnlyInRecord { name: "demo_pkg/x.py".into() },
    );
    add(
        "a RECORD that is not a table",
        {
            let mut zip = wheel(&[]);
            zip.entries.last_mut().unwrap().data = b"\"demo".to_vec();
            zip
        },
        |e| *e == E::RecordLine { line: 1 },
    );

    // Too much of it.
    add(
        "a bomb by its own words",
        {
            let mut one = plain();
            one.local_patch = Some((22, vec![0xfe, 0xff, 0xff, 0x0f]));
            one.central_patch = Some((24, vec![0xfe, 0xff, 0xff, 0x0f]));
            wheel(&[one])
        },
        |e| *e == E::Archive(A::UnpacksTooLarge),
    );
    add("a bomb without a length", wheel(&[entry("zeros", vec![0; 65 << 20]).with_descriptor()]), |e| {
        *e == E::Archive(A::UnpacksTooLarge)
    });
    let mut broken = wheel(&[plain().with_descriptor()]).build();
    let data = broken.windows(13).position(|window| window == b"demo_pkg/x.py").unwrap() + 13;
    broken[data] = 0xff;
    corpus.push(("broken compression", broken, |e| *e == E::Archive(A::Deflate)));
    corpus.push(("nothing", Vec::new(), |e| *e == E::Archive(A::NotAnArchive { expected: "zip" })));
    corpus
        .push(("no archive", b"<html>".to_vec(), |e| *e == E::Archive(A::NotAnArchive { expected: "zip" })));
    corpus.push(("an empty archive", Zip::default().build(), |e| matches!(e, E::Missing { .. })));
    corpus
}

#[test]
fn each_hostile_archive_is_refused_for_its_own_reason() {
    for (label, bytes, expected) in corpus() {
        match read(WHEEL, &bytes) {
            Ok(_) => panic!("{label} was accepted"),
            Err(error) => assert!(expected(&error), "{label}: {error:?}"),
        }
    }
}

#[test]
fn too_many_entries_are_refused_before_their_directory_comes() {
    let mut bytes = Vec::new();
    for index in 0..=MAX_ENTRIES {
        bytes.extend_from_slice(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x06\0\0\0");
        bytes.extend_from_slice(format!("{index:06}").as_bytes());
    }
    assert_eq!(read(WHEEL, &bytes), Err(E::Archive(A::TooManyEntries)));
}

#[test]
fn a_directory_without_end_is_refused() {
    let bytes = [&b"PK\x01\x02"[..], &vec![0; 17 << 20]].concat();
    assert_eq!(read(WHEEL, &bytes), Err(E::Archive(A::DirectoryTooLarge)));
}

#[test]
fn no_beginning_of_an_archive_is_an_archive() {
    let bytes = wheel(&[entry("a", noise(100)), entry("b", noise(100)).with_descriptor()]).build();
    for end in 0..bytes.len() {
        assert!(read(WHEEL, &bytes[..end]).is_err(), "{end}");
    }
    assert!(read(WHEEL, &bytes).is_ok());
}
