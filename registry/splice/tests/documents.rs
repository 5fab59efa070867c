//! The proof of the design: whatever the parts, the spliced document is one valid stream of the right text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod support;

use std::collections::HashSet;
use std::sync::Arc;

use granary_core::Sha256;
use granary_splice::{Chunks, Document, Encoding, Level, Part, SEPARATOR};
use proptest::prelude::*;
use support::{Random, Stretch, collect, document, encoded, gunzip, libzstd, plain, ruzstd};

fn assert_decodes(document: &Document) {
    let plain = plain(document);
    assert!(encoded(document, Encoding::Identity) == plain, "identity");
    assert!(gunzip(&encoded(document, Encoding::Gzip)).unwrap() == plain, "gzip");
    let frame = encoded(document, Encoding::Zstd);
    assert!(libzstd(&frame).unwrap() == plain, "libzstd, streaming");
    assert!(zstd::bulk::decompress(&frame, plain.len()).unwrap() == plain, "libzstd, at once");
    assert!(ruzstd(&frame).unwrap() == plain, "ruzstd");
    let announced = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
    assert_eq!(announced, Some(plain.len() as u64));
}

fn document_of(texts: &[&[u8]], level: Level) -> Document {
    Document::new(texts.iter().map(|text| Arc::new(Part::render(text, level))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_document_decodes_to_its_text(document in document()) {
        assert_decodes(&document);
    }

    #[test]
    fn any_cut_of_a_text_holds_the_same_text(
        text in support::text(),
        level in support::level(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(text.len()));
        let pieces: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &text[start..end]).collect();
        let document = document_of(&pieces, level);
        assert_decodes(&document);
        let joined: Vec<u8> = document.parts().iter().flat_map(|part| part.plain().to_vec()).collect();
        prop_assert!(joined == text);
    }

    #[test]
    fn a_range_is_a_slice_of_the_whole(
        document in document(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        for encoding in Encoding::ALL {
            let whole = encoded(&document, encoding);
            for (start, end) in &places {
                let (start, end) = (start.index(whole.len() + 1), end.index(whole.len() + 1));
                let range = collect(document.range(encoding, start as u64..end as u64));
                prop_assert!(range == whole[start..end.max(start)], "{start}..{end} of {}", whole.len());
            }
        }
    }
}

#[test]
fn every_short_range_is_a_slice_of_the_whole() {
    let document = document_of(&[b"one", b"", b"three"], Level::QUICK);
    for encoding in Encoding::ALL {
        let whole = encoded(&document, encoding);
        let length = whole.len() as u64;
        for start in 0..=length {
            for end in start..=length {
                let range = collect(document.range(encoding, start..end));
                assert_eq!(range, whole[start as usize..end as usize]);
            }
            assert_eq!(collect(document.range(encoding, start..u64::MAX)), whole[start as usize..]);
        }
        for nothing in [length..length + 1, length + 5..u64::MAX, u64::MAX..u64::MAX] {
            assert_eq!(document.range(encoding, nothing).count(), 0);
        }
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = document.range(encoding, 9..3);
        assert_eq!((backwards.remaining(), backwards.count()), (0, 0));
    }
}

#[test]
fn a_document_without_parts_or_text_is_valid() {
    for document in [document_of(&[], Level::QUICK), document_of(&[b""], Level::QUICK)] {
        assert_decodes(&document);
    }
    let empty = Document::new([]);
    assert!(empty.is_empty());
    assert_eq!(Encoding::ALL.map(|encoding| empty.len(encoding)), [0, 20, 17]);
}

#[test]
fn large_parts_of_many_blocks_decode() {
    let level = |zstd| Level::new(zstd, 4).unwrap();
    let text = |stretches: &[Stretch]| {
        let mut out = Vec::new();
        for stretch in stretches {
            stretch.append(&mut out);
        }
        out
    };
    let records = text(&[Stretch::Records { count: 16_000, seed: 1 }]);
    assert!(records.len() > 1 << 20);
    // Matches that reach back over most of the largest window, in a part that is larger than it.
    let noise = Stretch::Noise { length: 256 << 10, seed: 2 };
    let far = text(&[
        noise.clone(),
        Stretch::Run { byte: b'-', length: 7 << 20 },
        noise.clone(),
        Stretch::Run { byte: b'+', length: 7 << 20 },
        noise,
    ]);
    let parts = [
        Part::render(&records, level(3)),
        Part::render(&far, level(18)),
        Part::render(b"[]", level(1)),
        Part::render(&far, level(-5)),
        Part::render(&records, level(9)),
    ];
    let length = parts[1].encoded(Encoding::Zstd).len();
    assert!(length < 300 << 10, "{length}: the far matches are not used");
    assert_decodes(&Document::new(parts.map(Arc::new)));
}

/// The same parts in the same frame, but without the two blocks in front of each.
fn without_resets(document: &Document) -> (Vec<u8>, Vec<u8>) {
    const HEAD: usize = 14;
    const RESET: usize = 28;
    let plain: Vec<u8> = document.parts().iter().flat_map(|part| part.plain().to_vec()).collect();
    let whole = encoded(document, Encoding::Zstd);
    let mut frame = whole[..HEAD - 8].to_vec();
    frame.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    for part in document.parts() {
        frame.extend_from_slice(&part.encoded(Encoding::Zstd)[RESET..]);
    }
    frame.extend_from_slice(&whole[whole.len() - 3..]);
    (frame, plain)
}

#[test]
fn without_the_resets_many_documents_come_out_wrong() {
    let mut random = Random::new(7);
    let (mut wrong, total) = (0, 200);
    for seed in 0..total {
        let parts = (0..5).map(|i| {
            let (length, seed) = (200 + random.below(3_000), seed * 100 + i);
            let stretch = match random.below(3) {
                0 => Stretch::Period { period: 1 + random.below(9), length, seed },
                1 => Stretch::Run { byte: b'x', length },
                _ => Stretch::Echo { length, seed },
            };
            let mut text = Vec::new();
            stretch.append(&mut text);
            let zstd = [-5, 1, 3, 9, 16, 19][random.below(6)];
            Arc::new(Part::render(text, Level::new(zstd, 6).unwrap()))
        });
        let document = Document::new(parts);
        assert_decodes(&document);

        let (frame, plain) = without_resets(&document);
        let decoded = zstd::bulk::decompress(&frame, plain.len());
        wrong += u64::from(decoded.map_or(true, |decoded| decoded != plain));
    }
    println!("{wrong} of {total} documents are wrong without the resets");
    assert!(wrong > total / 10, "only {wrong} of {total}: the resets are not tested");
}

#[test]
fn concatenated_frames_would_be_noticed() {
    // The decoders of this test stop at the first frame or member, like the clients that matter.
    let document = document_of(&[b"[", b"]"], Level::QUICK);
    for (encoding, decode) in [
        (Encoding::Zstd, libzstd as fn(&[u8]) -> std::io::Result<Vec<u8>>),
        (Encoding::Zstd, ruzstd),
        (Encoding::Gzip, gunzip),
    ] {
        let twice = encoded(&document, encoding).repeat(2);
        assert!(std::panic::catch_unwind(|| decode(&twice)).is_err(), "{encoding:?}");
    }
}

#[test]
fn the_tag_tells_content_encoding_and_level_apart() {
    let level = |zstd, deflate| Level::new(zstd, deflate).unwrap();
    let texts: [&[&[u8]]; 7] = [&[], &[b""], &[b"a"], &[b"b"], &[b"a", b"b"], &[b"b", b"a"], &[b"ab"]];
    let mut tags = HashSet::new();
    for texts in texts {
        let document = document_of(texts, Level::QUICK);
        for encoding in Encoding::ALL {
            let tag = document.etag(encoding).to_owned();
            assert_eq!(tag, document_of(texts, Level::QUICK).etag(encoding), "the same on every server");
            assert!(!document.parts().iter().any(|part| part.is_encoded(Encoding::Zstd)));
            let opaque = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap();
            assert!(opaque.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{tag}");
            assert!(tags.insert(tag));
        }
    }
    let tags = |level| {
        let document = document_of(&[b"a"], level);
        Encoding::ALL.map(|encoding| document.etag(encoding).to_owned())
    };
    let [identity, gzip, zstd] = tags(level(3, 6));
    assert_eq!(tags(level(4, 6)), [identity.clone(), gzip.clone(), tags(level(4, 1))[2].clone()]);
    assert_eq!(tags(level(3, 7))[0], identity);
    assert_ne!(tags(level(3, 7))[1], gzip);
    assert_ne!(tags(level(4, 6))[2], zstd);
}

#[test]
fn equal_parts_give_equal_bytes() {
    let mut text = Vec::new();
    Stretch::Records { count: 2_000, seed: 3 }.append(&mut text);
    let encode =
        || Encoding::ALL.map(|encoding| encoded(&document_of(&[&text, b"]"], Level::THOROUGH), encoding));
    assert!(encode() == encode());
}

#[test]
fn a_part_is_compressed_when_asked_and_not_before() {
    let text = b"text ".repeat(1000);
    let part = Arc::new(Part::render(&text, Level::QUICK));
    let document = Document::new([part.clone()]);
    let rendered = part.memory();
    assert!((text.len()..text.len() + 300).contains(&rendered), "{rendered}");
    assert_eq!(part.plain(), text);
    assert_eq!(part.plain_len(), (text.len() + SEPARATOR.len()) as u64);
    assert_eq!(part.digest(), Sha256::of(&text));
    assert_eq!(Encoding::ALL.map(|encoding| document.is_encoded(encoding)), [true, false, false]);

    document.len(Encoding::Zstd);
    assert_eq!(Encoding::ALL.map(|encoding| document.is_encoded(encoding)), [true, false, true]);
    assert_eq!(part.memory(), rendered + part.encoded(Encoding::Zstd).len());

    document.len(Encoding::Gzip);
    assert_eq!(Encoding::ALL.map(|encoding| document.is_encoded(encoding)), [true, true, true]);
}

fn can_be_a_body<T: Iterator + Send + Sync + 'static>(_: &T) {}

#[test]
fn chunks_share_the_bytes_of_the_parts_and_outlive_the_document() {
    let document = document_of(&[b"first", b"second"], Level::QUICK);
    for encoding in Encoding::ALL {
        let chunks: Vec<_> = document.chunks(encoding).collect();
        for part in document.parts() {
            let bytes = part.encoded(encoding);
            assert!(
                chunks.iter().any(|chunk| chunk.as_ptr() == bytes.as_ptr() && chunk.len() == bytes.len())
            );
        }
    }
    let mut chunks: Chunks = document.chunks(Encoding::Identity);
    can_be_a_body(&chunks);
    drop(document);
    assert_eq!(chunks.remaining(), 45);
    assert_eq!(chunks.next().unwrap(), [SEPARATOR, &b"first"[..]].concat());
    assert_eq!(chunks.remaining(), 23);
}

#[test]
fn levels_out_of_range_are_refused() {
    assert_eq!(Level::new(20, 6).unwrap_err().to_string(), "zstd level 20 is not in -7..=19");
    assert!(Level::new(-8, 6).is_err());
    assert_eq!(Level::new(3, 10).unwrap_err().to_string(), "deflate level 10 is not in 1..=9");
    assert!(Level::new(3, 0).is_err());
}
