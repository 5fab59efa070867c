//! `current_repodata.json`: of each name the packages of its newest version, and of what they depend on the newest version that
//! satisfies them where that is an older one. As conda-index has it; only conda's classic solver asks for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::match_spec::MatchSpec;
use super::name::{ArchiveKind, PackageFile};
use super::repodata::Section;
use super::version::{self, Version};

/// Of a record, what decides whether it is in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    depends: Vec<String>,
    build_number: i64,
    timestamp: f64,
    md5: String,
    track_features: Value,
    features: Value,
}

/// A package that may be in.
#[derive(Debug)]
pub struct Candidate {
    file: PackageFile,
    /// Its record, as `repodata.json` has it.
    record: String,
    told: Told,
    /// The digest of the `.tar.bz2` of the same name that stands beside it.
    legacy_bz2_md5: Option<String>,
}

impl Candidate {
    /// A package with its record.
    ///
    /// # Errors
    /// Where the record is none.
    pub fn new(file: PackageFile, record: String) -> Result<Self, serde_json::Error> {
        let told = serde_json::from_str(&record)?;
        Ok(Self { file, record, told, legacy_bz2_md5: None })
    }

    /// The record, with the digest of the file that stands beside it.
    fn with_legacy(&self) -> String {
        let Some(md5) = &self.legacy_bz2_md5 else { return self.record.clone() };
        let mut fields: BTreeMap<String, Value> = serde_json::from_str(&self.record).unwrap_or_default();
        fields.insert("legacy_bz2_md5".to_owned(), md5.as_str().into());
        Value::Object(fields.into_iter().collect()).to_string()
    }

    fn has_features(&self) -> bool {
        let is_told = |value: &Value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        };
        is_told(&self.told.track_features) || is_told(&self.told.features)
    }
}

/// The packages of some names, each name's best one first.
#[derive(Debug, Default)]
pub struct Candidates(BTreeMap<String, Vec<Candidate>>);

impl Candidates {
    /// Sorts packages by their names and by which is better. A `.tar.bz2` beside a `.conda` of the same name is left out.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Self {
        let mut names: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
        for candidate in candidates {
            names.entry(candidate.file.name().to_string()).or_default().push(candidate);
        }
        for group in names.values_mut() {
            let mut twins: BTreeMap<String, String> = group
                .iter()
                .filter(|candidate| candidate.file.kind() == ArchiveKind::TarBz2)
                .map(|candidate| (candidate.file.stem(), candidate.told.md5.clone()))
                .collect();
            for candidate in group.iter_mut().filter(|candidate| candidate.file.kind() == ArchiveKind::Conda)
            {
                candidate.legacy_bz2_md5 = twins.remove(&candidate.file.stem());
            }
            group.retain(|candidate| {
                candidate.file.kind() == ArchiveKind::Conda || twins.contains_key(&candidate.file.stem())
            });
            group.sort_by(|left, right| {
                version::order(right.file.version(), left.file.version())
                    .then_with(|| right.told.build_number.cmp(&left.told.build_number))
                    .then_with(|| right.told.timestamp.total_cmp(&left.told.timestamp))
                    .then_with(|| Reverse(left.file.build()).cmp(&Reverse(right.file.build())))
            });
        }
        Self(names)
    }

    fn matches<'a>(&'a self, spec: &MatchSpec) -> impl Iterator<Item = &'a Candidate> {
        let group = self.0.get(spec.name()).map(Vec::as_slice).unwrap_or_default();
        group.iter().filter(|candidate| spec.matches(candidate.file.version(), candidate.file.build()))
    }

    /// The packages of a name whose versions begin with this one.
    fn of_version<'a>(&'a self, name: &str, version: &str) -> impl Iterator<Item = &'a Candidate> {
        let start: Option<Version> = version.parse().ok();
        let version = version.to_owned();
        let group = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        group.iter().filter(move |candidate| {
            let other = candidate.file.version();
            match (&start, other.parse::<Version>()) {
                (Some(start), Ok(other)) => other.starts_with(start),
                _ => other == version,
            }
        })
    }

    /// Leaves of each name what is of its newest version.
    pub fn keep_newest(&mut self) {
        for group in self.0.values_mut() {
            let newest = newest(group.iter().map(|candidate| candidate.file.version()));
            let mut newest = newest.into_iter();
            group.retain(|_| newest.next().unwrap_or_default());
        }
    }

    /// The names whose older packages may be in, where these are the newest of all names: what some of these depends on and is
    /// not satisfied by them, and what has features.
    pub fn names_with_more(&self) -> BTreeSet<String> {
        let with_features = self.0.iter().filter(|(_, group)| group.iter().any(Candidate::has_features));
        let with_features = with_features.map(|(name, _)| name.clone());
        self.unsatisfied().into_iter().map(|spec| spec.name().to_owned()).chain(with_features).collect()
    }

    /// What these packages depend on and do not have.
    fn unsatisfied(&self) -> Vec<MatchSpec> {
        let depends: HashSet<&str> = self
            .0
            .values()
            .flatten()
            .flat_map(|candidate| candidate.told.depends.iter().map(String::as_str))
            .collect();
        let specs = depends.into_iter().map(MatchSpec::parse);
        specs.filter(|spec| self.matches(spec).next().is_none()).collect()
    }

    /// The entries of the document: these packages, which are the newest of all names, and what of `more` is needed, which are
    /// all packages of the names that [`Candidates::names_with_more`] tells.
    pub fn entries(&self, more: &Self) -> Vec<CurrentEntry> {
        let mut chosen: BTreeMap<String, &Candidate> = BTreeMap::new();
        let key = |candidate: &Candidate| candidate.file.to_string();
        for candidate in self.0.values().flatten() {
            chosen.insert(key(candidate), candidate);
        }
        for spec in self.unsatisfied() {
            if let Some(best) = more.matches(&spec).next() {
                for candidate in more.of_version(spec.name(), best.file.version()) {
                    chosen.insert(key(candidate), candidate);
                }
            }
        }
        let mut groups: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
        for candidate in chosen.values() {
            groups.entry(candidate.file.name().as_str()).or_default().push(candidate);
        }
        for (name, group) in groups {
            if !group.iter().any(|candidate| candidate.has_features()) {
                continue;
            }
            // The best one of all without any, from the newest version that is in on.
            let latest =
                group.iter().map(|candidate| candidate.file.version()).max_by(|a, b| version::order(a, b));
            let before = more.0.get(name).into_iter().flatten().find(|candidate| {
                !candidate.has_features()
                    && latest.is_none_or(|latest| version::order(candidate.file.version(), latest).is_le())
            });
            if let Some(candidate) = before {
                chosen.insert(key(candidate), candidate);
            }
        }
        let mut entries: Vec<CurrentEntry> = chosen
            .into_values()
            .map(|candidate| CurrentEntry {
                section: Section::of(candidate.file.kind()),
                name: candidate.file.name().to_string(),
                filename: candidate.file.to_string(),
                record: candidate.with_legacy(),
            })
            .collect();
        entries.sort_by(|left, right| {
            (left.section, &left.name, &left.filename).cmp(&(right.section, &right.name, &right.filename))
        });
        entries
    }
}

/// An entry of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentEntry {
    /// The list.
    pub section: Section,
    /// The package.
    pub name: String,
    /// The file.
    pub filename: String,
    /// The record: JSON.
    pub record: String,
}

/// Which of these versions of one name belong to its newest one: they begin with it, as `1.2` and `1.2.0` do with each other.
pub fn newest<'a>(versions: impl Iterator<Item = &'a str> + Clone) -> Vec<bool> {
    let Some(best) = versions.clone().max_by(|left, right| version::order(left, right)) else {
        return Vec::new();
    };
    let start = best.parse::<Version>();
    versions
        .map(|version| match (&start, version.parse::<Version>()) {
            (Ok(start), Ok(version)) => version.starts_with(start),
            _ => version == best,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn candidates(files: &[(&str, Value)]) -> Candidates {
        Candidates::new(
            files
                .iter()
                .map(|(file, record)| Candidate::new(file.parse().unwrap(), record.to_string()).unwrap()),
        )
    }

    fn chosen(files: &[(&str, Value)]) -> Vec<String> {
        let all = candidates(files);
        let mut newest = candidates(files);
        newest.keep_newest();
        let wanted = newest.names_with_more();
        let more = Candidates(all.0.into_iter().filter(|(name, _)| wanted.contains(name)).collect());
        newest.entries(&more).into_iter().map(|entry| entry.filename).collect()
    }

    #[test]
    fn the_newest_and_what_they_need() {
        let depends = |spec: &str| json!({"depends": [spec]});
        let none = json!({"depends": []});
        assert_eq!(
            chosen(&[
                ("a-1.9-0.conda", none.clone()),
                ("a-1.10-0.conda", depends("b <2")),
                ("a-1.10-1.tar.bz2", none.clone()),
                ("b-1.0-0.conda", depends("c <2")),
                ("b-1.0-1.conda", none.clone()),
                ("b-0.9-0.conda", none.clone()),
                ("b-2.0-0.conda", depends("absent")),
                ("c-1.0-0.conda", none.clone()),
                ("c-2.0-0.conda", none.clone()),
            ]),
            // What is there for others' sake does not bring more in.
            [
                "a-1.10-1.tar.bz2",
                "a-1.10-0.conda",
                "b-1.0-0.conda",
                "b-1.0-1.conda",
                "b-2.0-0.conda",
                "c-2.0-0.conda"
            ]
        );
    }

    #[test]
    fn what_has_features_stands_beside_what_has_none() {
        let featured = json!({"track_features": "x"});
        let none = json!({"track_features": ""});
        assert_eq!(
            chosen(&[
                ("a-2.0-0.conda", featured.clone()),
                ("a-1.5-0.conda", featured),
                ("a-1.0-0.conda", none.clone()),
                ("a-0.5-0.conda", none)
            ]),
            ["a-1.0-0.conda", "a-2.0-0.conda"]
        );
    }

    #[test]
    fn a_twin_lends_its_digest() {
        let files =
            [("a-1-0.conda", json!({"name": "a", "md5": "11"})), ("a-1-0.tar.bz2", json!({"md5": "00"}))];
        let newest = candidates(&files);
        let entries = newest.entries(&Candidates::default());
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].record, r#"{"legacy_bz2_md5":"00","md5":"11","name":"a"}"#);
    }
}
