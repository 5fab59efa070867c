//! The sorted keys of a bucket, from which listings are answered page by page.

use std::collections::BTreeSet;
use std::ops::Bound;

/// All keys of a bucket, in the order of their bytes, which is the order of an S3 listing.
#[derive(Debug, Default)]
pub(super) struct KeyIndex(BTreeSet<Box<str>>);

/// What a listing asks for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys that share what stands before this, after the prefix, are rolled up into one entry.
    pub delimiter: Option<String>,
    /// Only keys from here on, this one included.
    pub from: String,
    /// How many entries at most.
    pub limit: usize,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Key(String),
    /// Stands for all the keys that begin so.
    CommonPrefix(String),
}

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub entries: Vec<Entry>,
    /// Where the next page begins (`Query::from`), if there is one.
    pub next: Option<String>,
}

impl KeyIndex {
    pub fn insert(&mut self, key: &str) {
        self.0.insert(key.into());
    }

    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The entries that `query` asks for. Costs what the page holds, not what the bucket or a rolled up prefix holds.
    pub fn page(&self, query: &Query) -> Page {
        let mut entries = Vec::new();
        let mut from = Some(query.from.as_str().max(&query.prefix).to_owned());
        while let Some(start) = from.take() {
            let range = self.0.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
            for key in range.take_while(|key| key.starts_with(&query.prefix)) {
                if entries.len() == query.limit {
                    // The keys of a rolled up prefix were skipped, so this key begins the next page.
                    return Page { entries, next: Some(key.to_string()) };
                }
                if let Some(common) = query.common_prefix(key) {
                    entries.push(Entry::CommonPrefix(common.to_owned()));
                    from = after_all_with(common);
                    break;
                }
                entries.push(Entry::Key(key.to_string()));
            }
        }
        Page { entries, next: None }
    }
}

impl FromIterator<String> for KeyIndex {
    fn from_iter<I: IntoIterator<Item = String>>(keys: I) -> Self {
        Self(keys.into_iter().map(String::into_boxed_str).collect())
    }
}

impl Query {
    fn common_prefix<'key>(&self, key: &'key str) -> Option<&'key str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let found = key.get(self.prefix.len()..)?.find(delimiter)?;
        key.get(..self.prefix.len() + found + delimiter.len())
    }
}

/// The first string after `key`.
pub(super) fn just_after(key: &str) -> String {
    format!("{key}\0")
}

/// The first string after all those that begin with `prefix`; `None` if there is none.
fn after_all_with(prefix: &str) -> Option<String> {
    let mut head = prefix.to_owned();
    while let Some(last) = head.pop() {
        // The range of characters steps over the surrogates, which are none.
        if let Some(next) = (last..=char::MAX).nth(1) {
            head.push(next);
            return Some(head);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// A listing as the definition has it: look at every key.
    fn naive(keys: &[String], query: &Query) -> Vec<Entry> {
        let mut sorted = keys.to_vec();
        sorted.sort();
        sorted.dedup();
        let mut entries = Vec::new();
        for key in sorted.iter().filter(|key| key.starts_with(&query.prefix) && **key >= query.from) {
            let entry = match query.common_prefix(key) {
                Some(common) => Entry::CommonPrefix(common.to_owned()),
                None => Entry::Key(key.clone()),
            };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries
    }

    proptest! {
        #[test]
        fn pages_joined_are_the_whole_listing(
            keys in prop::collection::vec("[ab/\u{d7ff}\u{10ffff}]{0,6}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in prop::option::of("[/b]{0,2}"),
            from in "[ab/]{0,3}",
            limit in 1_usize..6,
        ) {
            let index: KeyIndex = keys.iter().cloned().collect();
            let mut query = Query { prefix, delimiter, from, limit };
            let expected = naive(&keys, &query);
            let mut got = Vec::new();
            loop {
                let page = index.page(&query);
                prop_assert!(page.entries.len() <= limit);
                got.extend(page.entries);
                match page.next {
                    Some(next) => query.from = next,
                    None => break,
                }
            }
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn nothing_comes_after_the_last_character() {
        assert_eq!(after_all_with("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(after_all_with("\u{10ffff}"), None);
        assert_eq!(after_all_with("\u{d7ff}"), Some("\u{e000}".to_owned()));
    }
}
