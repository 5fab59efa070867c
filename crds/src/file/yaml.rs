//! YAML text: its documents, where each field of one stands, and errors with their place.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, MessageFormatter as _, Options, Spanned, UserMessageFormatter};

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

/// What the YAML reader refused.
#[derive(Debug)]
pub(super) struct YamlError {
    pub place: Option<Place>,
    pub message: String,
}

/// One document of a file: its text and the number of lines before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    text: &'a str,
    lines_before: usize,
}

/// Whether a line ends one document and begins another. Such a line is a marker wherever it stands: YAML allows it in no
/// text, quoted or not.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line says nothing.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
}

/// Splits a file into its documents and leaves out the empty ones, so that an error in one does not hide the others.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut starts = vec![(0, 0)];
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > 0 {
            starts.push((offset, number));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(offset, _)| *offset).chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&(start, lines_before), end)| Document { text: &text[start..end], lines_before })
        .filter(|document| !document.text.lines().all(is_empty))
        .collect()
}

impl Document<'_> {
    /// The place of the first line that says something.
    pub fn start(&self) -> Place {
        let line = self.text.lines().position(|line| !is_empty(line)).unwrap_or(0);
        Place { line: self.lines_before + line + 1, column: 1 }
    }

    /// Reads the document as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, YamlError> {
        let options: Options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! { max_documents: 1 },
        };
        serde_saphyr::from_str_with_options(self.text, options).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &Error) -> YamlError {
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        YamlError { place: error.location().map(|location| self.place(location)), message }
    }

    fn place(&self, location: Location) -> Place {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Place { line: self.lines_before + number(location.line()), column: number(location.column()) }
    }

    /// Reads where every field of the document stands.
    pub fn outline(&self) -> Result<Outline, YamlError> {
        let mut outline = Outline { start: self.start(), places: BTreeMap::new(), texts: BTreeMap::new() };
        let tree = self.read::<Tree>()?;
        outline.add(self, String::new(), tree);
        Ok(outline)
    }
}

/// Where the fields of a document stand, by paths such as `spec.permissions[2].role`, and the texts of its scalars.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    start: Place,
    places: BTreeMap<String, Place>,
    texts: BTreeMap<String, String>,
}

impl Outline {
    /// The text at this path, if a scalar stands there.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Whether anything stands at this path.
    pub fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The place of the field, or of the nearest thing around it that is there.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.start,
            }
        }
    }

    fn add(&mut self, document: &Document<'_>, path: String, tree: Tree) {
        match tree {
            Tree::Scalar(text) => {
                self.texts.insert(path, text);
            }
            Tree::List(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.places.insert(path.clone(), document.place(item.referenced));
                    self.add(document, path, item.value);
                }
            }
            Tree::Map(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.value } else { format!("{path}.{}", key.value) };
                    self.places.insert(path.clone(), document.place(key.referenced));
                    self.add(document, path, value);
                }
            }
        }
    }
}

/// A document of any shape, with the places of its keys and items.
enum Tree {
    Scalar(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML document")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(String::new()))
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
