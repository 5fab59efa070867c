#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// Where the second section begins.
const SECOND: &str = "package-5";

/// Two JSON lists of names in one.
struct Names(BTreeSet<String>);

impl RangeSource for Names {
    type Error = Infallible;

    fn prefix(&self) -> &'static str {
        "name:"
    }

    fn sections(&self) -> Vec<Section> {
        [("", "[["), (SECOND, "],[")]
            .map(|(start, head)| Section { start: start.to_owned(), head: head.to_owned() })
            .to_vec()
    }

    fn tail(&self) -> String {
        "]]".to_owned()
    }

    fn separator(&self) -> &'static str {
        ","
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Infallible> {
        let wanted =
            self.0.iter().filter(|name| name.as_str() >= from && to.is_none_or(|to| name.as_str() < to));
        Ok(wanted.map(|name| (name.clone(), format!(",\"{name}\"").into_bytes())).collect())
    }
}

fn text(document: &Document) -> String {
    let bytes: Vec<u8> = document.chunks(Encoding::Identity).flatten().collect();
    String::from_utf8(bytes).unwrap()
}

fn whole(source: &Names) -> (Vec<NameRange>, Document) {
    let ranges = run(render_ranges(&[], "", None, source));
    let document = assemble(&ranges, source, &mut HashMap::new());
    (ranges, document)
}

fn run<T>(future: impl Future<Output = Result<T, Infallible>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future).unwrap()
}

fn name(number: u32) -> String {
    format!("package-{number}")
}

#[test]
fn a_list_without_names_and_one_with_one_are_valid_json() {
    for (names, sections) in [
        (&[][..], [&[][..], &[]]),
        (&["a"], [&["a"], &[]]),
        (&["q"], [&[], &["q"]]),
        (&["a", SECOND, "q"], [&["a"], &[SECOND, "q"]]),
    ] {
        let (_, document) = whole(&Names(names.iter().map(|name| (*name).to_owned()).collect()));
        let read: [Vec<String>; 2] = serde_json::from_str(&text(&document)).unwrap();
        assert_eq!(read, sections);
    }
}

#[test]
fn one_new_name_renders_one_part_of_many() {
    let mut source = Names((0..50_000).map(name).collect());
    let (ranges, before) = whole(&source);
    assert!(ranges.len() > 10, "{}", ranges.len());
    source.0.insert("package-31415x".to_owned());
    let renewed = run(renew(&ranges, &["package-31415x"], &source));
    let after = assemble(&renewed, &source, &mut known_parts(before.parts().iter()));
    let old: BTreeSet<_> = before.parts().iter().map(|part| part.digest()).collect();
    let new_parts = after.parts().iter().filter(|part| !old.contains(&part.digest())).count();
    assert!((1..=2).contains(&new_parts), "{new_parts}");
    assert!(text(&after).contains("\"package-31415x\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes, what is renewed reads as if it were rendered anew, byte by byte.
    #[test]
    fn renewing_and_rendering_anew_agree(
        start in prop::collection::btree_set(0u32..20_000, 0..8000),
        steps in prop::collection::vec(prop::collection::vec(0u32..20_000, 1..400), 1..5),
    ) {
        let mut source = Names(start.into_iter().map(name).collect());
        let (mut ranges, _) = whole(&source);
        for step in steps {
            let names: Vec<String> = step.into_iter().map(name).collect();
            for name in &names {
                if !source.0.remove(name) {
                    source.0.insert(name.clone());
                }
            }
            let touched: Vec<&str> = names.iter().map(String::as_str).collect();
            ranges = run(renew(&ranges, &touched, &source));
            let renewed = assemble(&ranges, &source, &mut HashMap::new());
            let (_, anew) = whole(&source);
            prop_assert_eq!(renewed.etag(Encoding::Zstd), anew.etag(Encoding::Zstd));
            prop_assert_eq!(text(&renewed), text(&anew));
        }
    }

    /// Names that are the first of a range, coming and going.
    #[test]
    fn boundaries_may_come_and_go(choice in prop::collection::vec(any::<prop::sample::Index>(), 1..40)) {
        let all: Vec<String> = (0..30_000).map(name).collect();
        let boundaries: Vec<&String> = all.iter().filter(|name| is_boundary(name, MEAN_NAMES)).collect();
        let mut source = Names(all.iter().cloned().collect());
        let (mut ranges, _) = whole(&source);
        for chosen in choice.chunks(3) {
            let names: Vec<&str> = chosen.iter().map(|index| boundaries[index.index(boundaries.len())].as_str()).collect();
            for name in &names {
                if !source.0.remove(*name) {
                    source.0.insert((*name).to_owned());
                }
            }
            ranges = run(renew(&ranges, &names, &source));
            let (_, anew) = whole(&source);
            let renewed = assemble(&ranges, &source, &mut HashMap::new());
            prop_assert_eq!(renewed.etag(Encoding::Gzip), anew.etag(Encoding::Gzip));
        }
    }
}
