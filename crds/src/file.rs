//! Channels and registries in YAML files.

mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use granary_core::Format;

use crate::channel::Channel;
use crate::problem::Problem;
use crate::registry::PackageRegistrySpec;
use crate::validate::{ValidChannel, validate_channel};
use crate::{API_VERSION, GROUP};
use yaml::{Document, Outline, Place, YamlError, documents};

/// Something about a file that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column, counted from 1.
    pub column: Option<usize>,
    /// The field, where it is known.
    pub path: Option<String>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FileProblem {
    fn at(place: Option<Place>, path: Option<&str>, message: String) -> Self {
        let (line, column) = (place.map(|place| place.line), place.map(|place| place.column));
        Self { line, column, path: path.map(str::to_owned), message }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A channel and the line that its object begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The line, counted from 1.
    pub line: usize,
    /// The channel.
    pub channel: ValidChannel,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReading {
    /// The channels in which nothing is wrong.
    pub channels: Vec<Located>,
    /// What is wrong; a document with a problem gives no channel, and the others are read all the same.
    pub problems: Vec<FileProblem>,
    /// Objects that are not for the server, and were passed over.
    pub notices: Vec<FileProblem>,
}

/// Reads the `Channel` objects of a YAML file, which may hold several documents.
///
/// Objects of other groups and `PackageRegistry` objects are passed over with a notice; what belongs to the group
/// `granary.dev` and is neither is a problem, since it is most likely a slip of the pen.
pub fn read_channels(text: &str) -> FileReading {
    let mut reading = FileReading::default();
    for document in documents(text) {
        match read_document(&document) {
            Ok(Object::Channel(channel)) => {
                reading.channels.push(Located { line: document.start().line, channel: *channel });
            }
            Ok(Object::Other(notice)) => reading.notices.push(notice),
            Err(problems) => reading.problems.extend(problems),
        }
    }
    reading
}

enum Object {
    Channel(Box<ValidChannel>),
    Other(FileProblem),
}

fn read_document(document: &Document<'_>) -> Result<Object, Vec<FileProblem>> {
    let outline = document.outline().map_err(yaml_problem)?;
    let at =
        |path: &str, message: String| vec![FileProblem::at(Some(outline.place(path)), Some(path), message)];
    let Some(api_version) = outline.text("apiVersion") else {
        return Err(at("apiVersion", format!("is missing; write `apiVersion: {API_VERSION}`")));
    };
    let Some(kind) = outline.text("kind") else {
        return Err(at("kind", "is missing; write `kind: Channel`".to_owned()));
    };
    let ours = api_version.split('/').next() == Some(GROUP);
    match (ours, kind) {
        (true, _) if api_version != API_VERSION => {
            Err(at("apiVersion", format!("this version is not known; write `apiVersion: {API_VERSION}`")))
        }
        (true, "Channel") => {
            read_channel(document, &outline).map(|channel| Object::Channel(Box::new(channel)))
        }
        (false, "List") => Err(at(
            "kind",
            "lists are not read; write each object as a document, with `---` between them".to_owned(),
        )),
        (true, "PackageRegistry") | (false, _) => {
            let message = format!("passed over: {kind} of {api_version} is no channel");
            Ok(Object::Other(FileProblem::at(Some(outline.place("kind")), None, message)))
        }
        (true, _) => Err(at("kind", "this kind is not known; write `kind: Channel`".to_owned())),
    }
}

fn read_channel(document: &Document<'_>, outline: &Outline) -> Result<ValidChannel, Vec<FileProblem>> {
    let channel: Channel = document.read().map_err(yaml_problem)?;
    validate_channel(&channel).map_err(|problems| {
        let located = |problem: Problem| {
            FileProblem::at(Some(outline.place(&problem.path)), Some(&problem.path), problem.message)
        };
        let mut problems: Vec<_> = problems.into_iter().map(located).collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    })
}

fn yaml_problem(error: YamlError) -> Vec<FileProblem> {
    vec![FileProblem::at(error.place, None, error.message)]
}

/// Something about one file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderProblem {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: FileProblem,
}

impl fmt::Display for FolderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

/// What the files of a folder hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderReading {
    /// The channels in which nothing is wrong and that stand in nobody's way, each with its file.
    pub channels: Vec<(String, Located)>,
    /// What is wrong.
    pub problems: Vec<FolderProblem>,
    /// Objects that were passed over.
    pub notices: Vec<FolderProblem>,
}

/// Reads the files of a folder, given as name and text.
///
/// Channels that claim the same thing (a channel's name, an object's name, a bucket) and channels `a` beside `a/b`
/// are all left out, each with a problem that names the other: which of them was meant is not for the server to guess.
pub fn read_folder<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> FolderReading {
    let mut folder = FolderReading::default();
    for (file, text) in files {
        let reading = read_channels(text);
        let named = |problem| FolderProblem { file: file.to_owned(), problem };
        folder.problems.extend(reading.problems.into_iter().map(named));
        folder.notices.extend(reading.notices.into_iter().map(named));
        folder.channels.extend(reading.channels.into_iter().map(|found| (file.to_owned(), found)));
    }
    let conflicts = conflicts(&folder.channels);
    let refused: BTreeSet<usize> = conflicts.iter().map(|(index, _)| *index).collect();
    for (index, message) in conflicts {
        let (file, found) = &folder.channels[index];
        let problem = FileProblem { line: Some(found.line), column: None, path: None, message };
        folder.problems.push(FolderProblem { file: file.clone(), problem });
    }
    let mut index = 0;
    folder.channels.retain(|_| {
        index += 1;
        !refused.contains(&(index - 1))
    });
    folder
}

/// What only one object of a folder may have.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Claim<'a> {
    Channel(Format, &'a str),
    Object(Option<&'a str>, &'a str),
    Bucket(&'a str),
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(format, name) => write!(f, "the {format} channel {name}"),
            Self::Object(_, name) => write!(f, "the object name {name}"),
            Self::Bucket(name) => write!(f, "the bucket {name}"),
        }
    }
}

/// The channels that stand in another's way, by index, with what to tell their authors.
fn conflicts(channels: &[(String, Located)]) -> Vec<(usize, String)> {
    let mut claims: BTreeMap<Claim<'_>, Vec<usize>> = BTreeMap::new();
    for (index, (_, found)) in channels.iter().enumerate() {
        let channel = &found.channel;
        let object = Claim::Object(channel.namespace.as_deref(), &channel.object_name);
        let bucket = channel.bucket.name.as_ref().map(|bucket| Claim::Bucket(bucket.as_str()));
        for claim in [Claim::Channel(channel.format, channel.name.as_str()), object].into_iter().chain(bucket)
        {
            claims.entry(claim).or_default().push(index);
        }
    }
    let place = |index: usize| format!("{}, line {}", channels[index].0, channels[index].1.line);
    let mut conflicts = Vec::new();
    for (claim, indexes) in &claims {
        for index in indexes {
            let other = indexes.iter().find(|other| *other != index);
            if let Some(other) = other {
                let message =
                    format!("{claim} is claimed by two objects, also in {}; keep one of them", place(*other));
                conflicts.push((*index, message));
            }
        }
        // A channel `a` beside `a/b` would leave it open what `/a/b/` means.
        let Claim::Channel(format, name) = claim else { continue };
        let Some((parent, _)) = name.split_once('/') else { continue };
        if let Some(parents) = claims.get(&Claim::Channel(*format, parent)) {
            let rule = format!("a channel {parent} excludes channels {parent}/*");
            conflicts.extend(
                indexes.iter().map(|index| (*index, format!("{rule}; {parent} is in {}", place(parents[0])))),
            );
            conflicts.extend(
                parents.iter().map(|index| (*index, format!("{rule}; {name} is in {}", place(indexes[0])))),
            );
        }
    }
    conflicts.sort();
    conflicts
}

/// A registry's spec as it was read from a file.
#[derive(Debug, Clone)]
pub struct RegistryFile {
    /// What the file says.
    pub spec: PackageRegistrySpec,
    outline: Option<Outline>,
    bare: bool,
}

impl RegistryFile {
    /// Finds the line that a problem of the spec comes from. Problems of fields that the file does not hold (they come
    /// from the environment) have none.
    pub fn locate(&self, problem: &Problem) -> FileProblem {
        let path = match problem.path.strip_prefix("spec.") {
            Some(rest) if self.bare => rest,
            _ => problem.path.as_str(),
        };
        let place =
            self.outline.as_ref().filter(|outline| outline.has(path)).map(|outline| outline.place(path));
        FileProblem::at(place, Some(path), problem.message.clone())
    }
}

/// Reads the server's config file: one `PackageRegistry` object, or only its spec. An empty file is an empty spec.
pub fn read_registry(text: &str) -> Result<RegistryFile, Vec<FileProblem>> {
    let documents = documents(text);
    let Some(document) = documents.first() else {
        return Ok(RegistryFile { spec: PackageRegistrySpec::default(), outline: None, bare: true });
    };
    if let Some(second) = documents.get(1) {
        let message = "a config file holds one document; remove the others".to_owned();
        return Err(vec![FileProblem::at(Some(second.start()), None, message)]);
    }
    let outline = document.outline().map_err(yaml_problem)?;
    let bare = !outline.has("apiVersion") && !outline.has("kind");
    let spec = if bare {
        document.read().map_err(yaml_problem)?
    } else {
        for (path, wanted) in [("apiVersion", API_VERSION), ("kind", "PackageRegistry")] {
            if outline.text(path) != Some(wanted) {
                let message = format!("write `{path}: {wanted}`");
                return Err(vec![FileProblem::at(Some(outline.place(path)), Some(path), message)]);
            }
        }
        document.read::<RegistryObject>().map_err(yaml_problem)?.spec
    };
    Ok(RegistryFile { spec, outline: Some(outline), bare })
}

/// A `PackageRegistry` object, of which the server reads the spec.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegistryObject {
    #[serde(rename = "apiVersion")]
    _api_version: serde::de::IgnoredAny,
    #[serde(rename = "kind")]
    _kind: serde::de::IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    spec: PackageRegistrySpec,
    #[serde(rename = "status")]
    _status: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests;
