//! The syntax of a search: words that a name has to hold, `NOT` before one that it must not, and filters `key:value`, of which
//! several values are alternatives and a `-` before the key the contrary. Quotes hold blanks together.

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// Words in the name, with whether they have to be there.
    words: Vec<(String, bool)>,
    filters: Vec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    key: &'static str,
    values: Vec<String>,
    wanted: bool,
}

/// Splits a text at its blanks, but for those in quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for letter in text.chars() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) => part.push(letter),
            None if letter == '"' || letter == '\'' => (quote, begun) = (Some(letter), true),
            None if letter.is_whitespace() => {
                if begun {
                    parts.push(std::mem::take(&mut part));
                }
                begun = false;
            }
            None => {
                part.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        parts.push(part);
    }
    parts
}

impl Search {
    /// Reads a search that knows these keys. What looks like a filter and has another key is passed over.
    pub(crate) fn parse(text: &str, keys: &[&'static str]) -> Self {
        let mut search = Self::default();
        let mut negated = false;
        for part in split(text) {
            if let Some((key, values)) = part.split_once(':') {
                let (key, wanted) = key.strip_prefix('-').map_or((key, true), |key| (key, false));
                if let Some(key) = keys.iter().find(|known| **known == key) {
                    let values =
                        values.split(',').map(|value| value.trim_matches(['"', '\'']).to_lowercase());
                    search.filters.push(Filter { key, values: values.collect(), wanted });
                }
            } else if part == "NOT" && !negated {
                negated = true;
            } else {
                search.words.push((part.to_lowercase(), !negated));
                negated = false;
            }
        }
        search
    }

    /// Whether a name fits.
    pub(crate) fn fits_name(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.words.iter().all(|(word, wanted)| name.contains(word.as_str()) == *wanted)
    }

    /// Whether what a filter of this key is about fits all of them.
    pub(crate) fn fits(&self, key: &str, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut filters = self.filters.iter().filter(|filter| filter.key == key);
        filters.all(|filter| filter.values.iter().any(|value| text.contains(value.as_str())) == filter.wanted)
    }

    /// Whether a truth fits all filters of this key; what is neither yes nor no fits nothing.
    pub(crate) fn fits_truth(&self, key: &str, truth: bool) -> bool {
        let mut filters = self.filters.iter().filter(|filter| filter.key == key);
        let is = |value: &String| super::body::truth_of(value) == Some(truth);
        filters.all(|filter| filter.values.iter().any(is) == filter.wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const KEYS: [&str; 2] = ["channel", "description"];

    #[test]
    fn words_and_what_must_not_be_there() {
        let search = Search::parse("Acme lib NOT old", &KEYS);
        for (name, fits) in [("acme-lib", true), ("lib-ACME", true), ("acme", false), ("acme-lib-old", false)]
        {
            assert_eq!(search.fits_name(name), fits, "{name}");
        }
        assert!(Search::parse("", &KEYS).fits_name("x"));
    }

    #[test]
    fn filters_are_alternatives_and_may_be_turned_round() {
        let search = Search::parse(r#"channel:main,dev -description:"out of date" colour:red x"#, &KEYS);
        assert!(search.fits("channel", "my-dev") && !search.fits("channel", "prod"));
        assert!(search.fits("description", "fine") && !search.fits("description", "It is Out of date."));
        assert!(search.fits_name("x") && !search.fits_name("y"), "an unknown key is passed over");
    }

    #[test]
    fn quotes_hold_together() {
        assert_eq!(split(r#" a "b c"d 'e' "" "#), ["a", "b cd", "e", ""]);
        assert_eq!(split("\"open"), ["open"]);
    }

    #[test]
    fn truths_are_told_in_many_ways() {
        let search = Search::parse("private:yes", &["private"]);
        assert!(search.fits_truth("private", true) && !search.fits_truth("private", false));
        assert!(!Search::parse("private:perhaps", &["private"]).fits_truth("private", false));
    }
}
