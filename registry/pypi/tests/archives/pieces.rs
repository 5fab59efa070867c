//! Archives in pieces: how the bytes are cut changes nothing, and no bytes make a reader panic.

use granary_pypi::format::{ArchiveContents, ArchiveError};
use proptest::prelude::*;

use crate::tar_writer::{file, gzip, pax, sdist, sdist_entries, symlink, tar};
use crate::zip_writer::{entry, wheel};
use crate::{SDIST, WHEEL, ZIP_SDIST, noise, read, read_pieces, tar_corpus, wheel_corpus};

const FILENAMES: [&str; 3] = [WHEEL, SDIST, ZIP_SDIST];

/// A wheel and a source distribution that hold every structure.
fn good(index: usize) -> Vec<u8> {
    if index == 1 {
        return sdist(&[
            pax(&[("path", "demo_pkg-1.0/a/b")]),
            file("x", noise(700)),
            symlink("demo_pkg-1.0/l", "a/b"),
        ]);
    }
    let mut zip64 = entry("demo_pkg/z", noise(50));
    zip64.zip64 = true;
    let mut zip = wheel(&[
        entry("demo_pkg/s", noise(50)).stored(),
        entry("demo_pkg/d", noise(200)).with_descriptor(),
        zip64.clone(),
        entry("demo_pkg/empty", b"").stored(),
    ]);
    zip.zip64_end = true;
    zip.build()
}

/// Reads bytes cut at these places, taken modulo the length.
fn read_cut(filename: &str, bytes: &[u8], cuts: &[usize]) -> Result<ArchiveContents, ArchiveError> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    read_pieces(filename, cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]))
}

#[test]
fn byte_by_byte_is_as_good_as_at_once() {
    for (index, filename) in FILENAMES.iter().enumerate() {
        let bytes = good(index);
        assert_eq!(read_pieces(filename, bytes.chunks(1)), read(filename, &bytes));
    }
    let hostile = wheel_corpus::corpus().into_iter().map(|case| (WHEEL, case));
    for (filename, (label, bytes, expected)) in
        hostile.chain(tar_corpus::corpus().into_iter().map(|case| (SDIST, case)))
    {
        // Bombs are judged by how far they are unpacked when a piece has passed, which is not the same place.
        let error = read_pieces(filename, bytes.chunks(7)).unwrap_err();
        assert!(expected(&error), "{label}: {error:?}");
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(index in 0..3_usize, cuts in prop::collection::vec(any::<usize>(), 0..20)) {
        let bytes = good(index);
        prop_assert_eq!(read_cut(FILENAMES[index], &bytes, &cuts), read(FILENAMES[index], &bytes));
    }

    #[test]
    fn changed_bytes_never_panic_and_cuts_change_nothing(
        index in 0..3_usize,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut bytes = good(index);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        prop_assert_eq!(read_cut(FILENAMES[index], &bytes, &cuts), read(FILENAMES[index], &bytes));
    }

    #[test]
    fn changed_bytes_inside_of_gzip_never_panic(
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut inner = tar(&sdist_entries(&[pax(&[("path", "demo_pkg-1.0/a")]), file("x", noise(700))]));
        for (at, byte) in changes {
            // The headers are what matters, and most of them are in the first blocks.
            let at = at % 4096;
            inner[at] = byte;
        }
        let bytes = gzip(&inner);
        prop_assert_eq!(read_cut(SDIST, &bytes, &cuts), read(SDIST, &bytes));
    }

    #[test]
    fn any_bytes_never_panic(
        index in 0..3_usize,
        start in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x1f\x8b\x08"]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let bytes = [start, &bytes].concat();
        prop_assert_eq!(read_cut(FILENAMES[index], &bytes, &cuts), read(FILENAMES[index], &bytes));
    }
}
