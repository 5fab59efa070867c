#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use super::*;

/// A document of these texts, the ones with an even place as parts, and the bytes of these.
fn document(texts: &[&str]) -> (Outline, HashMap<Sha256, Bytes>) {
    let mut elsewhere = HashMap::new();
    let stretches = texts.iter().enumerate().map(|(place, text)| {
        if place % 2 == 0 {
            let (outline, bytes) = PartOutline::compress(text.as_bytes(), 3);
            elsewhere.insert(outline.key, bytes);
            Stretch::Part(outline)
        } else {
            Stretch::Held(Held::new(text))
        }
    });
    (Outline::new(stretches.collect::<Vec<_>>()), elsewhere)
}

fn sent(document: &Outline, elsewhere: &HashMap<Sha256, Bytes>, form: Form, range: Range<u64>) -> Vec<u8> {
    let bytes = |piece| match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Part(part, range) => match form {
            Form::Plain => part.expand(&elsewhere[&part.key]).unwrap().slice(range),
            Form::Zstd => elsewhere[&part.key].slice(range),
        },
    };
    document.pieces(form, range).map(bytes).inspect(|bytes| assert!(!bytes.is_empty())).flatten().collect()
}

#[test]
fn both_forms_hold_the_same_text_and_every_range_is_a_range_of_the_whole() {
    let long = "abc,".repeat(50_000);
    let texts = ["{\"a\":[1", ",", &long, "", "aaaaaaaaaaaaaaaabcabcabc", "]", "}"];
    let (document, elsewhere) = document(&texts);
    let plain = sent(&document, &elsewhere, Form::Plain, 0..u64::MAX);
    let expected: Vec<u8> =
        texts.iter().flat_map(|text| [SEPARATOR.as_slice(), text.as_bytes()].concat()).collect();
    assert_eq!(plain, expected);
    let zstd = sent(&document, &elsewhere, Form::Zstd, 0..u64::MAX);
    assert_eq!(zstd::stream::decode_all(zstd.as_slice()).unwrap(), plain);
    for (form, whole) in [(Form::Plain, plain), (Form::Zstd, zstd)] {
        let length = whole.len() as u64;
        assert_eq!(document.len(form), length);
        let step = usize::try_from((length / 40).max(1)).unwrap();
        for start in (0..length).step_by(step) {
            for range in
                [start..start, start..start + 1, start..start + 100, start..length, start..length + 5]
            {
                let expected =
                    &whole[usize::try_from(start).unwrap()..usize::try_from(range.end.min(length)).unwrap()];
                assert_eq!(sent(&document, &elsewhere, form, range.clone()), expected, "{form:?} {range:?}");
            }
        }
    }
}

#[test]
fn the_tag_tells_texts_and_forms_apart() {
    let (one, _) = document(&["a", ",", "b"]);
    let (same, _) = document(&["a", ",", "b"]);
    let (other, _) = document(&["a", ",", "c"]);
    let (longer, _) = document(&["a", ",", "b", "c"]);
    assert_eq!(one.etag(Form::Zstd), same.etag(Form::Zstd));
    for etag in [one.etag(Form::Plain), other.etag(Form::Zstd), longer.etag(Form::Zstd)] {
        assert_ne!(one.etag(Form::Zstd), etag);
    }
}

#[test]
fn what_is_no_part_is_refused() {
    let (part, bytes) = PartOutline::compress(b"some text", 3);
    assert!(matches!(part.expand(b"\x12\x34"), Err(ExpandError::Zstd(_))));
    let (_, shorter) = PartOutline::compress(b"some", 3);
    assert!(part.expand(&shorter).is_err());
    assert_eq!(part.expand(&bytes).unwrap(), [SEPARATOR.as_slice(), b"some text"].concat());
}
