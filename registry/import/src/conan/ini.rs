//! INI files as Python's `ConfigParser` reads them, since that is what `conan_server` reads `server.conf` with.
//!
//! Format: the documentation of Python's module `configparser`, section "Supported INI File Structure", with the settings
//! of `conan_server`: keys keep their case; `:` or `=` ends a key, whichever comes first; lines that begin with `#` or `;`
//! are comments and nothing after a value is; deeper indentation goes on with the value before; `%(NAME)s` stands for another
//! value and `%%` for a percent sign; the section `DEFAULT` is part of every other; nothing may be there twice.

/// Why a file is none. `conan_server` does not start with such a file either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// A line before the first section.
    #[error("line {0}: stands before the first [section]")]
    NoSection(usize),
    /// A section a second time.
    #[error("line {0}: the section [{1}] is there already")]
    DuplicateSection(usize, String),
    /// A key a second time.
    #[error("line {0}: {2} is in [{1}] already")]
    DuplicateKey(usize, String, String),
    /// Neither section nor `KEY: VALUE`.
    #[error("line {0}: is neither a [section] nor KEY: VALUE")]
    Line(usize),
    /// A `%` that is neither `%%` nor `%(NAME)s`. The value is not repeated, since it may be a password.
    #[error("[{0}] {1}: a percent sign is written %%")]
    Percent(String, String),
    /// A `%(NAME)s` that names nothing.
    #[error("[{0}] {1}: %({2})s names nothing")]
    Unknown(String, String, String),
    /// Values that stand for each other.
    #[error("[{0}] {1}: %(…)s goes deeper than ten")]
    Depth(String, String),
}

/// How deep values may stand for others.
const MAX_DEPTH: usize = 10;

/// Keys and values of a section, in their order.
pub type Items = Vec<(String, String)>;

/// An INI file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    defaults: Items,
    sections: Vec<(String, Items)>,
}

/// Where the reader is.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    Defaults,
    Section(usize),
}

/// What Python takes for white space: beside what Unicode does, four separators of ASCII.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

impl Ini {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, IniError> {
        let mut ini = Self::default();
        let mut place = Place::Nowhere;
        let mut section_name = String::new();
        let mut indent = 0;
        // Whether a key has been read that a further line may go on with.
        let mut in_value = false;
        for (number, line) in (1..).zip(text.split('\n')) {
            let value = strip(line);
            let is_comment = value.starts_with(['#', ';']);
            if value.is_empty() || is_comment {
                if !is_comment && in_value {
                    ini.continue_value(place, "");
                }
                continue;
            }
            let line_indent = line.chars().take_while(|letter| is_space(*letter)).count();
            if in_value && line_indent > indent {
                ini.continue_value(place, value);
                continue;
            }
            indent = line_indent;
            if let Some(name) = section_header(value) {
                (place, in_value) = (ini.enter(name, number)?, false);
                name.clone_into(&mut section_name);
                continue;
            }
            let Some(items) = ini.items_mut(place) else { return Err(IniError::NoSection(number)) };
            let (key, value) = value.split_once([':', '=']).ok_or(IniError::Line(number))?;
            let key = strip(key);
            if key.is_empty() {
                return Err(IniError::Line(number));
            }
            if items.iter().any(|(other, _)| other == key) {
                return Err(IniError::DuplicateKey(number, section_name, key.to_owned()));
            }
            items.push((key.to_owned(), strip(value).to_owned()));
            in_value = true;
        }
        let all = ini.sections.iter_mut().flat_map(|(_, items)| items).chain(&mut ini.defaults);
        for (_, value) in all {
            value.truncate(value.trim_end_matches(is_space).len());
        }
        Ok(ini)
    }

    fn enter(&mut self, name: &str, line: usize) -> Result<Place, IniError> {
        if self.sections.iter().any(|(other, _)| other == name) {
            return Err(IniError::DuplicateSection(line, name.to_owned()));
        }
        if name == "DEFAULT" {
            return Ok(Place::Defaults);
        }
        self.sections.push((name.to_owned(), Vec::new()));
        Ok(Place::Section(self.sections.len() - 1))
    }

    fn items_mut(&mut self, place: Place) -> Option<&mut Items> {
        match place {
            Place::Nowhere => None,
            Place::Defaults => Some(&mut self.defaults),
            Place::Section(index) => self.sections.get_mut(index).map(|(_, items)| items),
        }
    }

    fn continue_value(&mut self, place: Place, line: &str) {
        if let Some((_, value)) = self.items_mut(place).and_then(|items| items.last_mut()) {
            value.push('\n');
            value.push_str(line);
        }
    }

    /// The names of the sections.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }

    /// What a section holds, the keys of `DEFAULT` first, with every `%` resolved; none when there is no such section.
    pub fn items(&self, section: &str) -> Result<Option<Items>, IniError> {
        let Some((_, own)) = self.sections.iter().find(|(name, _)| name == section) else { return Ok(None) };
        let mut raw = self.defaults.clone();
        for (key, value) in own {
            match raw.iter_mut().find(|(other, _)| other == key) {
                Some((_, default)) => default.clone_from(value),
                None => raw.push((key.clone(), value.clone())),
            }
        }
        let mut items = Vec::with_capacity(raw.len());
        for (key, value) in &raw {
            let mut resolved = String::with_capacity(value.len());
            resolve(&raw, section, key, value, 1, &mut resolved)?;
            items.push((key.clone(), resolved));
        }
        Ok(Some(items))
    }
}

/// The name in `[NAME]`, up to the last bracket.
fn section_header(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('[')?;
    rest.rfind(']').filter(|end| *end > 0).map(|end| &rest[..end])
}

/// Puts values in the place of `%(NAME)s`.
fn resolve(
    items: &Items,
    section: &str,
    key: &str,
    value: &str,
    depth: usize,
    resolved: &mut String,
) -> Result<(), IniError> {
    let here = || (section.to_owned(), key.to_owned());
    if depth > MAX_DEPTH {
        let (section, key) = here();
        return Err(IniError::Depth(section, key));
    }
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        resolved.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            resolved.push('%');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|text| text.split_once(')'));
        let named = named.and_then(|(name, text)| Some((name, text.strip_prefix('s')?)));
        let Some((name, after)) = named.filter(|(name, _)| !name.is_empty()) else {
            let (section, key) = here();
            return Err(IniError::Percent(section, key));
        };
        let Some((_, value)) = items.iter().find(|(other, _)| other == name) else {
            let (section, key) = here();
            return Err(IniError::Unknown(section, key, name.to_owned()));
        };
        if value.contains('%') {
            resolve(items, section, key, value, depth + 1, resolved)?;
        } else {
            resolved.push_str(value);
        }
        rest = after;
    }
    resolved.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn items(text: &str) -> Items {
        Ini::parse(text).unwrap().items("s").unwrap().unwrap()
    }

    fn pairs(items: &[(&str, &str)]) -> Items {
        items.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_keep_their_case_and_their_order() {
        assert_eq!(
            items("[s]\nLib/1.0@a/b: x, y\nlib/* = *\n*/*@*/*:*"),
            pairs(&[("Lib/1.0@a/b", "x, y"), ("lib/*", "*"), ("*/*@*/*", "*")])
        );
    }

    #[test]
    fn only_whole_lines_are_comments() {
        assert_eq!(items("[s]\n# a: b\n  ; c: d\na: * # all"), pairs(&[("a", "* # all")]));
    }

    #[test]
    fn a_deeper_line_goes_on_with_the_value() {
        assert_eq!(
            items("  [s]\n  a: x,\n      y\n\n  b:\n    z\n # no value\n  c: 1"),
            pairs(&[("a", "x,\ny"), ("b", "\nz"), ("c", "1")])
        );
    }

    #[test]
    fn values_stand_for_others() {
        assert_eq!(
            items("[DEFAULT]\nteam: a, b\n[s]\nx: %(team)s, c\ny: 100%%\nz: %(x)s"),
            pairs(&[("team", "a, b"), ("x", "a, b, c"), ("y", "100%"), ("z", "a, b, c")])
        );
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for (text, error) in [
            ("a: b", IniError::NoSection(1)),
            ("[s]\n[s]", IniError::DuplicateSection(2, "s".into())),
            ("[s]\na: 1\na: 2", IniError::DuplicateKey(3, "s".into(), "a".into())),
            ("[s]\nword", IniError::Line(2)),
            ("[s]\n: x", IniError::Line(2)),
            ("[s]\n[]", IniError::Line(3 - 1)),
        ] {
            assert_eq!(Ini::parse(text), Err(error), "{text}");
        }
        for (text, error) in [
            ("[s]\npw: 100%sure", IniError::Percent("s".into(), "pw".into())),
            ("[s]\npw: %(no)s", IniError::Unknown("s".into(), "pw".into(), "no".into())),
            ("[s]\na: %(b)s\nb: %(a)s", IniError::Depth("s".into(), "a".into())),
        ] {
            assert_eq!(Ini::parse(text).unwrap().items("s"), Err(error), "{text}");
        }
    }
}
