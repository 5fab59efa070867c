//! Gzipped tar archives, good and hostile.

use flate2::{Compression, GzBuilder};
use granary_archive::ArchiveError as A;
use granary_archive::PathProblem;
use granary_pypi::format::ArchiveError as E;
use std::io::Write as _;

use crate::tar_writer::{
    Entry, GNU, OLD, file, folder, gzip, hardlink, of_kind, pax, sdist, sdist_entries, symlink, tar, tar_gz,
};
use crate::{Case, METADATA, SDIST, noise, read};

/// A path below the top folder that is too long for a plain header.
fn long_path() -> String {
    format!("demo_pkg-1.0/{}/end.py", ["folder-with-a-long-name"; 10].join("/"))
}

#[test]
fn good_source_distributions_give_their_metadata() {
    let long = long_path();
    let in_format =
        |magic| -> Vec<Entry> { sdist_entries(&[]).into_iter().map(|one| Entry { magic, ..one }).collect() };
    let base256 = Entry {
        size_field: Some([&[0x80_u8][..], &[0; 9], &[0x02, 0x00]].concat()),
        ..file("demo_pkg-1.0/big", noise(512))
    };
    let good = [
        sdist(&[]),
        tar_gz(&in_format(GNU)),
        tar_gz(&in_format(OLD)),
        sdist(&[file("demo_pkg-1.0/a.bin", noise(100_000)), file("demo_pkg-1.0/empty", b"")]),
        sdist(&[pax(&[("path", &long), ("mtime", "1.5")]), file("short", b"x")]),
        sdist(&[of_kind(b'L', "././@LongLink", [long.as_bytes(), b"\0"].concat()), file("short", b"x")]),
        sdist(&[Entry { prefix: b"demo_pkg-1.0/deep".to_vec(), ..file("end.py", b"x") }]),
        sdist(&[of_kind(b'g', "pax_global_header", "16 comment=abcd\n")]),
        sdist(&[base256]),
        sdist(&[pax(&[("size", "3")]), file("demo_pkg-1.0/same", b"abc")]),
        sdist(&[
            folder("demo_pkg-1.0/doc/"),
            folder("demo_pkg-1.0/doc"),
            symlink("demo_pkg-1.0/doc/readme", "../README"),
            symlink("demo_pkg-1.0/doc/top", ".."),
            symlink("demo_pkg-1.0/here", "./doc/readme"),
            hardlink("demo_pkg-1.0/copy", "demo_pkg-1.0/setup.py"),
        ]),
        tar_gz(&[folder("./"), file("./Demo.Pkg-1.0.0/PKG-INFO", METADATA)]),
        tar_gz(&[
            Entry { kind: 0, ..file("demo-pkg-1.0/sub/", b"") },
            file("demo-pkg-1.0/PKG-INFO", METADATA),
        ]),
    ];
    for (index, bytes) in good.iter().enumerate() {
        let contents = read(SDIST, bytes).unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!(contents.metadata.as_deref(), Some(METADATA), "{index}");
    }
    assert_eq!(read(SDIST, &tar_gz(&[file("demo_pkg-1.0/setup.py", b"")])).unwrap().metadata, None);
}

#[test]
fn the_gzip_header_may_hold_all_that_it_can() {
    let builder =
        GzBuilder::new().filename("demo_pkg-1.0.tar").comment("hello").extra(vec![1, 2, 3]).mtime(7);
    let mut encoder = builder.write(Vec::new(), Compression::fast());
    encoder.write_all(&tar(&sdist_entries(&[]))).unwrap();
    assert!(read(SDIST, &encoder.finish().unwrap()).is_ok());
}

#[test]
fn paths_that_could_leave_their_folder_are_refused() {
    for (name, expected) in [
        ("/etc/passwd", PathProblem::Absolute),
        ("demo_pkg-1.0/../x", PathProblem::Dots),
        ("../x", PathProblem::Dots),
        ("././x", PathProblem::Dots),
        ("demo_pkg-1.0//x", PathProblem::Empty),
        ("demo_pkg-1.0/", PathProblem::Empty),
        ("demo_pkg-1.0\\x", PathProblem::Backslash),
        ("demo_pkg-1.0/a\nb", PathProblem::Control),
    ] {
        let entry = Entry { kind: if name.ends_with('/') { b'2' } else { b'0' }, ..file(name, b"") };
        let error = read(SDIST, &sdist(&[entry])).unwrap_err();
        assert!(
            matches!(error, E::Archive(A::Path { problem, .. }) if problem == expected),
            "{name:?}: {error:?}"
        );
    }
    let error = read(SDIST, &sdist(&[file(b"demo_pkg-1.0/\xff", b"")])).unwrap_err();
    assert!(matches!(error, E::Archive(A::Path { problem: PathProblem::Encoding, .. })));
    let too_long = format!("demo_pkg-1.0/{}x", "d/".repeat(2500));
    let error = read(SDIST, &sdist(&[pax(&[("path", &too_long)]), file("x", b"")])).unwrap_err();
    assert!(matches!(error, E::Archive(A::Path { problem: PathProblem::Length, .. })));
}

/// The hostile archives, each with the reason for which it is refused.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn corpus() -> Vec<Case> {
    let mut corpus: Vec<Case> = Vec::new();
    let mut add = |label, bytes: Vec<u8>, expected| corpus.push((label, bytes, expected));
    let good = sdist(&[]);
    let plain = || file("demo_pkg-1.0/x", noise(600));

    // Gzip.
    add("nothing", Vec::new(), |e| *e == E::Archive(A::NotAnArchive { expected: "tar.gz" }));
    add("no archive", b"<html>".to_vec(), |e| *e == E::Archive(A::NotAnArchive { expected: "tar.gz" }));
    add("two members", [&good[..], &good].concat(), |e| *e == E::Archive(A::TrailingData));
    add("a tail", [&good[..], b"evil"].concat(), |e| *e == E::Archive(A::TrailingData));
    add("a truncated member", good[..good.len() - 1].to_vec(), |e| *e == E::Archive(A::Truncated));
    let patched = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    add("reserved flags", patched(3, 0x80), |e| {
        *e == E::Archive(A::Malformed("reserved flags in the gzip header"))
    });
    add("a wrong checksum", patched(good.len() - 8, good[good.len() - 8] ^ 1), |e| {
        matches!(e, E::Archive(A::Checksum { .. }))
    });
    add("a wrong length", patched(good.len() - 1, 1), |e| matches!(e, E::Archive(A::Checksum { .. })));
    add("broken compression", patched(10, 0xff), |e| *e == E::Archive(A::Deflate));
    add(
        "a header without end",
        [b"\x1f\x8b\x08\x08\0\0\0\0\0\xff".to_vec(), vec![b'x'; 5000]].concat(),
        |e| *e == E::Archive(A::Malformed("the gzip header is too long")),
    );
    add("a bomb", gzip(&vec![0; 65 << 20]), |e| *e == E::Archive(A::UnpacksTooLarge));
    add("a bomb in a file", sdist(&[file("demo_pkg-1.0/zeros", vec![0; 65 << 20])]), |e| {
        *e == E::Archive(A::UnpacksTooLarge)
    });

    // Tar.
    let inner = tar(&sdist_entries(&[]));
    add("no end", gzip(&inner[..2560]), |e| *e == E::Archive(A::Truncated));
    add("cut in a header", gzip(&inner[..700]), |e| *e == E::Archive(A::Truncated));
    add("cut in data", gzip(&inner[..1100]), |e| *e == E::Archive(A::Truncated));
    add("entries behind the end", gzip(&[tar(&sdist_entries(&[])), tar(&[plain()])].concat()), |e| {
        *e == E::Archive(A::TrailingData)
    });
    add("entries behind one block of zeros", gzip(&[vec![0; 512], inner.clone()].concat()), |e| {
        *e == E::Archive(A::TrailingData)
    });
    add("a wrong header checksum", sdist(&[Entry { checksum_error: 1, ..plain() }]), |e| {
        *e == E::Archive(A::Checksum { name: "a tar header".into() })
    });
    add("unknown magic", sdist(&[Entry { magic: *b"ustar\x0099", ..plain() }]), |e| {
        *e == E::Archive(A::Malformed("the magic of a tar header"))
    });
    add(
        "GNU fields for times",
        sdist(&[Entry { magic: GNU, prefix: b"00000000001".to_vec(), ..plain() }]),
        |e| *e == E::Archive(A::Malformed("a tar header with extra fields")),
    );
    for (label, size) in [("a size that is no number", &b"12x"[..]), ("a negative size", &[0xff; 12])] {
        add(label, sdist(&[Entry { size_field: Some(size.to_vec()), ..plain() }]), |e| {
            *e == E::Archive(A::Malformed("a number in a tar header"))
        });
    }
    add(
        "a size beyond all",
        sdist(&[Entry { size_field: Some([vec![0x80], vec![0xff; 11]].concat()), ..plain() }]),
        |e| *e == E::Archive(A::Malformed("a number in a tar header")),
    );
    // The desynchronisation of readers that take one of the two sizes.
    add("two sizes", sdist(&[pax(&[("size", "0")]), plain()]), |e| {
        matches!(e, E::Archive(A::ReadersDisagree { what: "the length", .. }))
    });
    add(
        "two names",
        sdist(&[pax(&[("path", "demo_pkg-1.0/a")]), of_kind(b'L', "L", "demo_pkg-1.0/b"), plain()]),
        |e| *e == E::Archive(A::ExtendedHeader { key: "path".into() }),
    );
    add(
        "a name twice in one header",
        sdist(&[pax(&[("path", "demo_pkg-1.0/a"), ("path", "b")]), plain()]),
        |e| *e == E::Archive(A::ExtendedHeader { key: "path".into() }),
    );
    add(
        "two extended headers",
        sdist(&[pax(&[("path", "demo_pkg-1.0/a")]), pax(&[("mtime", "1")]), plain()]),
        |e| *e == E::Archive(A::Malformed("two extended headers for one entry")),
    );
    add(
        "a name for all",
        sdist(&[Entry { kind: b'g', ..pax(&[("path", "demo_pkg-1.0/a")]) }, plain()]),
        |e| matches!(e, E::Archive(A::ExtendedHeader { .. })),
    );
    add("a sparse file by pax", sdist(&[pax(&[("GNU.sparse.major", "1")]), plain()]), |e| {
        *e == E::Archive(A::ExtendedHeader { key: "GNU.sparse.major".into() })
    });
    for (label, record) in [
        ("a pax record without length", "path=x\n"),
        ("a pax record too short", "3 path=x\n"),
        ("a pax record too long", "99 path=x\n"),
        ("a pax record without key", "8 pathx\n"),
    ] {
        add(label, sdist(&[of_kind(b'x', "pax", record), plain()]), |e| {
            *e == E::Archive(A::Malformed("a record of an extended header"))
        });
    }
    add("a huge extended header", sdist(&[of_kind(b'x', "pax", noise((1 << 20) + 1)), plain()]), |e| {
        matches!(e, E::Archive(A::MemberTooLarge { .. }))
    });
    for (label, kind) in [
        ("a character device", b'3'),
        ("a block device", b'4'),
        ("a pipe", b'6'),
        ("a sparse file", b'S'),
        ("unknown", b'Z'),
    ] {
        add(label, sdist(&[of_kind(kind, "demo_pkg-1.0/special", b"")]), |e| {
            matches!(e, E::Archive(A::SpecialFile { .. }))
        });
    }
    add("a folder with data", sdist(&[of_kind(b'5', "demo_pkg-1.0/d", b"x")]), |e| {
        *e == E::Archive(A::Malformed("a tar entry that is no file and has data"))
    });

    // The tree.
    add("a second top folder", sdist(&[file("other/x", b"")]), |e| matches!(e, E::OutsideFolder { .. }));
    add("a file beside the top folder", sdist(&[file("x", b"")]), |e| matches!(e, E::OutsideFolder { .. }));
    add("another project's folder", tar_gz(&[file("other-1.0/PKG-INFO", METADATA)]), |e| {
        matches!(e, E::OutsideFolder { .. })
    });
    add("another version's folder", tar_gz(&[file("demo_pkg-1.1/PKG-INFO", METADATA)]), |e| {
        matches!(e, E::OutsideFolder { .. })
    });
    add("PKG-INFO twice", sdist(&[file("demo_pkg-1.0/PKG-INFO", b"other")]), |e| {
        matches!(e, E::Archive(A::Duplicate { .. }))
    });
    add("a file twice", sdist(&[plain(), plain()]), |e| matches!(e, E::Archive(A::Duplicate { .. })));
    add("a huge PKG-INFO", tar_gz(&[file("demo_pkg-1.0/PKG-INFO", noise((10 << 20) + 1))]), |e| {
        matches!(e, E::Archive(A::MemberTooLarge { .. }))
    });
    add("PKG-INFO as a link", tar_gz(&[symlink("demo_pkg-1.0/PKG-INFO", "setup.py")]), |e| {
        matches!(e, E::Archive(A::SymbolicLink { .. }))
    });
    add("a file below a file", sdist(&[plain(), file("demo_pkg-1.0/x/y", b"")]), |e| {
        matches!(e, E::Archive(A::NotAFolder { .. }))
    });
    add(
        "a file below a link",
        sdist(&[symlink("demo_pkg-1.0/l", "."), file("demo_pkg-1.0/l/y", b"")]),
        |e| *e == E::Archive(A::NotAFolder { name: "demo_pkg-1.0/l".into() }),
    );

    // Links.
    for (label, path, target) in [
        ("an absolute link", "demo_pkg-1.0/l", "/etc/passwd"),
        ("a link out of the folder", "demo_pkg-1.0/l", "../x"),
        ("a link to what holds the folder", "demo_pkg-1.0/l", ".."),
        ("a link that climbs too far", "demo_pkg-1.0/d/l", "../../x"),
        ("a link that climbs behind another", "demo_pkg-1.0/l", "d/../.."),
        ("a link with a backslash", "demo_pkg-1.0/l", "..\\x"),
        ("a link with a drive", "demo_pkg-1.0/l", "C:/x"),
    ] {
        add(label, sdist(&[symlink(path, target)]), |e| matches!(e, E::Archive(A::LinkEscapes { .. })));
    }
    add("a link in place of the folder", tar_gz(&[symlink("demo_pkg-1.0", "/")]), |e| {
        matches!(e, E::Archive(A::LinkEscapes { .. }))
    });
    add("a hard link out of the folder", sdist(&[hardlink("demo_pkg-1.0/l", "other/x")]), |e| {
        matches!(e, E::Archive(A::LinkEscapes { .. }))
    });
    add("a hard link that climbs", sdist(&[hardlink("demo_pkg-1.0/l", "demo_pkg-1.0/../x")]), |e| {
        matches!(e, E::Archive(A::Path { problem: PathProblem::Dots, .. }))
    });
    add(
        "a link that is too long for its header",
        {
            let target = "../".repeat(100);
            sdist(&[of_kind(b'K', "K", target), symlink("demo_pkg-1.0/l", "x")])
        },
        |e| matches!(e, E::Archive(A::LinkEscapes { .. })),
    );
    corpus
}

#[test]
fn each_hostile_archive_is_refused_for_its_own_reason() {
    for (label, bytes, expected) in corpus() {
        match read(SDIST, &bytes) {
            Ok(_) => panic!("{label} was accepted"),
            Err(error) => assert!(expected(&error), "{label}: {error:?}"),
        }
    }
}

#[test]
fn no_beginning_of_an_archive_is_an_archive() {
    let bytes = sdist(&[file("demo_pkg-1.0/x", noise(700))]);
    for end in 0..bytes.len() {
        assert!(read(SDIST, &bytes[..end]).is_err(), "{end}");
    }
}
