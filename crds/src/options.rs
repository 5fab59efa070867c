//! The options of the server: one table, made from the fields of the spec and their doc comments, which the
//! environment, `--help` and the reference page share.

mod reference;

use std::path::PathBuf;
use std::sync::LazyLock;

pub use reference::{help_text, reference_page};

use crate::problem::{Problem, Problems};
use crate::registry::{LogFormat, PackageRegistrySpec};
use crate::secret::Secret;
use crate::value::{Raw, Value};

/// The beginning of every variable.
const PREFIX: &str = "GRANARY_";

/// One option of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionDoc {
    /// Where it stands in the spec: `database.maxConnections`.
    pub path: String,
    /// What it is: `text`, `size`, `list of network`.
    pub kind: String,
    /// What holds when nobody sets it; empty when the option is then absent.
    pub default: String,
    /// What it does.
    pub help: &'static str,
}

impl OptionDoc {
    /// The environment variable that overrides it: `GRANARY_DATABASE_MAX_CONNECTIONS`.
    pub fn env(&self) -> String {
        let mut name = String::from(PREFIX);
        for letter in self.path.chars() {
            match letter {
                '.' => name.push('_'),
                _ if letter.is_ascii_uppercase() => name.extend(['_', letter]),
                _ => name.push(letter.to_ascii_uppercase()),
            }
        }
        name
    }
}

/// Every option, in the order of the spec.
pub fn options() -> &'static [OptionDoc] {
    static OPTIONS: LazyLock<Vec<OptionDoc>> = LazyLock::new(|| {
        let mut options = Vec::new();
        PackageRegistrySpec::default().describe("", "", &mut options);
        options
    });
    &OPTIONS
}

/// A field of the spec, which is an option or holds options.
pub(crate) trait Setting {
    /// Adds the options at this path, with their present values as the defaults.
    fn describe(&self, path: &str, help: &'static str, out: &mut Vec<OptionDoc>);

    /// Sets the option at this path (camel-case segments, relative to `self`) from a text.
    fn set(&mut self, path: &[&str], text: &str) -> Result<(), String>;
}

/// A field that is one option.
pub(crate) trait Leaf: Sized {
    fn kind() -> String;
    fn show(&self) -> String;
    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Leaf> Setting for T {
    fn describe(&self, path: &str, help: &'static str, out: &mut Vec<OptionDoc>) {
        let (kind, default) = (T::kind(), self.show());
        out.push(OptionDoc { path: path.to_owned(), kind, default, help });
    }

    fn set(&mut self, _path: &[&str], text: &str) -> Result<(), String> {
        *self = T::parse(text)?;
        Ok(())
    }
}

impl<T: Setting + Default> Setting for Option<T> {
    fn describe(&self, path: &str, help: &'static str, out: &mut Vec<OptionDoc>) {
        T::default().describe(path, help, out);
    }

    fn set(&mut self, path: &[&str], text: &str) -> Result<(), String> {
        self.get_or_insert_default().set(path, text)
    }
}

impl<T: Leaf> Leaf for Vec<T> {
    fn kind() -> String {
        format!("list of {}", T::kind())
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::parse).collect()
    }
}

impl Leaf for String {
    fn kind() -> String {
        "text".to_owned()
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Leaf for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }

    fn show(&self) -> String {
        self.display().to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl Leaf for Secret {
    fn kind() -> String {
        "secret".to_owned()
    }

    fn show(&self) -> String {
        String::new()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
}

impl<T: Value> Leaf for Raw<T> {
    fn kind() -> String {
        T::KIND.to_owned()
    }

    fn show(&self) -> String {
        self.text().to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        T::read(text).map_err(|error| error.to_string())?;
        Ok(Self::new(text))
    }
}

impl Leaf for u32 {
    fn kind() -> String {
        "number".to_owned()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a whole number".to_owned())
    }
}

impl Leaf for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write true or false".to_owned())
    }
}

impl Leaf for LogFormat {
    fn kind() -> String {
        "json or human".to_owned()
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| "write json or human".to_owned())
    }
}

/// Declares a part of the spec: its fields with their defaults, and from the same lines its options. What stands
/// under `kubernetes` is read by the operator alone: it is part of the spec and no option of the server. What stands under
/// `file` is read by both, but has too many parts for an option.
macro_rules! settings {
    (
        $(#[$about:meta])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde $serde:tt])?
                $(#[schemars $schemars:tt])?
                pub $field:ident: $type:ty = $default:expr,
            )+
        }
        $(file { $($file:tt)+ })?
        $(kubernetes { $($kubernetes:tt)+ })?
    ) => {
        $crate::options::settings! {
            @declare $(#[$about])+
            pub struct $name {
                $(
                    $(#[doc = $doc])+
                    $(#[serde $serde])?
                    $(#[schemars $schemars])?
                    pub $field: $type = $default,
                )+
                $($($file)+)?
                $($($kubernetes)+)?
            }
        }

        impl $crate::options::Setting for $name {
            fn describe(&self, path: &str, _: &'static str, out: &mut Vec<$crate::options::OptionDoc>) {
                $(
                    let field = $crate::options::join(path, stringify!($field));
                    self.$field.describe(&field, concat!($($doc),+), out);
                )+
            }

            fn set(&mut self, path: &[&str], text: &str) -> Result<(), String> {
                let Some((first, rest)) = path.split_first() else {
                    return Err("this is a group of options".to_owned());
                };
                $(
                    if *first == $crate::options::join("", stringify!($field)) {
                        return self.$field.set(rest, text);
                    }
                )+
                Err("there is no such option".to_owned())
            }
        }
    };
    // A part that has no option of the server at all.
    (
        $(#[$about:meta])+
        pub struct $name:ident {}
        kubernetes { $($kubernetes:tt)+ }
    ) => {
        $crate::options::settings! { @declare $(#[$about])+ pub struct $name { $($kubernetes)+ } }
    };
    (
        @declare $(#[$about:meta])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde $serde:tt])?
                $(#[schemars $schemars:tt])?
                pub $field:ident: $type:ty = $default:expr,
            )+
        }
    ) => {
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        #[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
        $(#[$about])+
        pub struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde $serde])?
                $(#[cfg_attr(feature = "kubernetes", schemars $schemars)])?
                pub $field: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}
pub(crate) use settings;

/// The path of a field: its name in camel case, as serde writes it, behind the path of what it is in.
pub(crate) fn join(path: &str, field: &str) -> String {
    let mut joined = path.to_owned();
    if !joined.is_empty() {
        joined.push('.');
    }
    let mut upper = false;
    for letter in field.chars() {
        if letter == '_' {
            upper = true;
        } else {
            joined.push(if upper { letter.to_ascii_uppercase() } else { letter });
            upper = false;
        }
    }
    joined
}

/// Overrides options of `spec` by the variables that name them, and returns those options.
///
/// A variable that is empty counts as not set. Lists are separated by commas. A variable that looks like an option
/// and is none is a problem; those that merely begin with `GRANARY_` are left to others, as are the ones that
/// Kubernetes sets for each Service of the namespace (`GRANARY_SERVICE_HOST`, `GRANARY_PORT_8080_TCP`).
pub fn apply_environment(
    spec: &mut PackageRegistrySpec,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<&'static OptionDoc>, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut applied = Vec::new();
    for (name, text) in environment {
        if !name.starts_with(PREFIX) || text.is_empty() {
            continue;
        }
        match options().iter().find(|option| option.env() == name) {
            Some(option) => {
                let path: Vec<&str> = option.path.split('.').collect();
                match spec.set(&path, &text) {
                    Ok(()) => applied.push(option),
                    Err(message) => problems.add(name, message),
                }
            }
            None if is_service_link(&name) => {}
            None => {
                if let Some(hint) = hint(&name) {
                    problems.add(name, format!("there is no such option; {hint}"));
                }
            }
        }
    }
    problems.finish(Some(applied))
}

/// Whether Kubernetes made the variable for a Service.
fn is_service_link(name: &str) -> bool {
    let after_port = name.rsplit_once("_PORT_").map(|(_, rest)| rest);
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || after_port.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// What a name that is no option was meant to be, if it was meant to be one: the option at most two letters away, or else
/// one of the group of options whose name it begins with.
fn hint(name: &str) -> Option<String> {
    let nearest = options().iter().map(OptionDoc::env).min_by_key(|env| distance(name, env));
    if let Some(env) = nearest.filter(|env| distance(name, env) <= 2) {
        return Some(format!("did you mean {env}?"));
    }
    let in_group = |option: &OptionDoc| {
        let (group, _) = option.path.split_once('.')?;
        let group = OptionDoc { path: format!("{group}."), ..option.clone() };
        name.starts_with(&group.env()).then(|| option.env())
    };
    let group: Vec<String> = options().iter().filter_map(in_group).collect();
    (!group.is_empty()).then(|| format!("write one of {}", group.join(", ")))
}

/// How many letters must be added, removed or changed to make one name the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
