//! What `channeldata.json` says of a package beyond its record (CEP 38): from `info/about.json`, the recipe and `info/paths.json`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::package::PackageContents;

/// Taken from the newest version that has them.
pub(super) const OF_NEWEST: [&str; 15] = [
    "description",
    "dev_url",
    "doc_source_url",
    "doc_url",
    "home",
    "icon_hash",
    "icon_url",
    "identifiers",
    "keywords",
    "license",
    "recipe_origin",
    "source_git_url",
    "source_url",
    "summary",
    "tags",
];

/// True where any version has them.
pub(super) const OF_ANY: [&str; 7] =
    ["activate.d", "binary_prefix", "deactivate.d", "post_link", "pre_link", "pre_unlink", "text_prefix"];

/// A recipe, as far as anything of it is told: where the sources came from.
#[derive(Debug, Default, Deserialize)]
struct Recipe {
    #[serde(default)]
    source: Source,
}

/// Of several sources nothing is told.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Source {
    One {
        #[serde(default)]
        url: Option<Value>,
        #[serde(default)]
        git_url: Option<Value>,
    },
    Other(serde::de::IgnoredAny),
}

impl Default for Source {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

/// `info/paths.json`.
#[derive(Debug, Deserialize)]
struct Paths<'a> {
    #[serde(borrow, default)]
    paths: Vec<Path<'a>>,
}

#[derive(Debug, Deserialize)]
struct Path<'a> {
    #[serde(borrow, rename = "_path")]
    place: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    prefix_placeholder: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    file_mode: Option<std::borrow::Cow<'a, str>>,
}

/// What is told of a package, as a JSON object. What cannot be read tells nothing, and is in nobody's way.
pub fn facts(contents: &PackageContents) -> Map<String, Value> {
    let about = contents.about.as_deref().and_then(|about| serde_json::from_slice::<Value>(about).ok());
    let mut facts = about.as_ref().map(facts_of_about).unwrap_or_default();
    if let Some(recipe) = contents.recipe.as_deref().and_then(|recipe| std::str::from_utf8(recipe).ok()) {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_documents: 1 },
        };
        let recipe = serde_saphyr::from_str_with_options::<Recipe>(recipe, options).unwrap_or_default();
        if let Source::One { url, git_url } = recipe.source {
            for (name, value) in [("source_url", url), ("source_git_url", git_url)] {
                if let Some(value) = value {
                    facts.insert(name.to_owned(), value);
                }
            }
        }
    }
    let paths = contents.paths.as_deref().and_then(|paths| serde_json::from_slice::<Paths<'_>>(paths).ok());
    for path in paths.iter().flat_map(|paths| &paths.paths) {
        for name in told_by(path) {
            facts.insert(name.to_owned(), true.into());
        }
    }
    facts
}

/// What `info/about.json` tells.
pub fn facts_of_about(about: &Value) -> Map<String, Value> {
    let Some(about) = about.as_object() else { return Map::new() };
    let mut facts = Map::new();
    for name in OF_NEWEST {
        let Some(value) = about.get(name).filter(|value| !value.is_null()) else { continue };
        let value = match name {
            "description" | "summary" => one_line(value),
            _ => value.clone(),
        };
        facts.insert(name.to_owned(), value);
    }
    facts
}

/// Text on one line; a list of texts is one text.
fn one_line(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(texts) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).collect()
        }
        other => return other.clone(),
    };
    text.trim().replace('\n', " ").into()
}

fn told_by<'a>(path: &'a Path<'_>) -> impl Iterator<Item = &'static str> + use<'a> {
    let has_placeholder = path.prefix_placeholder.as_ref().is_some_and(|placeholder| !placeholder.is_empty());
    let mode = path.file_mode.as_deref().filter(|_| has_placeholder);
    let prefix = match mode {
        Some("binary") => Some("binary_prefix"),
        Some("text") => Some("text_prefix"),
        _ => None,
    };
    let scripts = [("etc/conda/activate.d", "activate.d"), ("etc/conda/deactivate.d", "deactivate.d")];
    let scripts = scripts.into_iter().filter(|(folder, _)| path.place.starts_with(folder));
    // bin/.NAME-post-link.sh, Scripts/.NAME-post-link.bat
    let links = [("-pre-link.", "pre_link"), ("-post-link.", "post_link"), ("-pre-unlink.", "pre_unlink")];
    let links = links.into_iter().filter(|(mark, _)| {
        path.place.match_indices("/.").any(|(at, dot)| path.place[at + dot.len()..].contains(mark))
    });
    prefix.into_iter().chain(scripts.chain(links).map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn told(about: &Value, recipe: &str, paths: &Value) -> Value {
        let contents = PackageContents {
            about: Some(about.to_string().into_bytes()),
            recipe: Some(recipe.as_bytes().to_vec()),
            paths: Some(paths.to_string().into_bytes()),
            ..PackageContents::default()
        };
        Value::Object(facts(&contents))
    }

    #[test]
    fn about_recipe_and_paths_tell_something() {
        let about = json!({"summary": " two\nlines ", "description": ["a", "\nb"], "home": "https://upstream.example", "license": null,
            "source_url": "https://upstream.example/of-about", "conda_version": "1"});
        let recipe = "package: {name: a}\nsource:\n  url: [https://upstream.example/a, https://upstream.example/b]\n  sha256: x\n";
        let paths = json!({"paths_version": 1, "paths": [
            {"_path": "bin/a", "prefix_placeholder": "/opt/x", "file_mode": "binary"},
            {"_path": "bin/b", "file_mode": "text"},
            {"_path": "etc/conda/activate.d/a.sh"},
            {"_path": "bin/.a-post-link.sh"},
            {"_path": "bin/a-pre-link.sh"}]});
        assert_eq!(
            told(&about, recipe, &paths),
            json!({"summary": "two lines", "description": "a b", "home": "https://upstream.example",
                "source_url": ["https://upstream.example/a", "https://upstream.example/b"],
                "binary_prefix": true, "activate.d": true, "post_link": true})
        );
    }

    #[test]
    fn what_cannot_be_read_tells_nothing() {
        let several = "source:\n  - url: https://upstream.example/a\n  - url: https://upstream.example/b\n";
        assert_eq!(told(&json!([]), several, &json!({"paths": "none"})), json!({}));
        assert_eq!(told(&json!({"home": 1}), "{% set x %}\n{{", &json!(null)), json!({"home": 1}));
        // Each alias doubles what it stands for.
        let bomb =
            (1..40).fold(String::new(), |text, n| text + &format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
        assert_eq!(told(&json!({}), &format!("a0: &a0 [x]\n{bomb}"), &json!({})), json!({}));
        assert_eq!(facts(&PackageContents::default()), Map::new());
    }
}
