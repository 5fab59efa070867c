//! The JSON body of a request, read field by field: every problem at once, in the words of pydantic, which clients show.
//!
//! A body is JSON whatever its `Content-Type` says: the examples of Quetz' own documents send it with that of a form.

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::error::{ApiError, Problem, Step};
use super::times;

/// An object that is read field by field.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    loc: Vec<Step>,
    problems: Vec<Problem>,
}

/// The place of a byte among the characters of a text.
fn place_of(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let before: usize = lines.map(|line| line.chars().count()).sum();
    before + error.column().saturating_sub(1)
}

impl Fields {
    /// The object that a body is.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn of_body(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = || vec![Step::from("body")];
        let text = String::from_utf8_lossy(bytes);
        if text.trim().is_empty() {
            return Err(Problem::missing(body(), Value::Null).into());
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            let mut loc = body();
            loc.push(Step::Place(place_of(&text, &error)));
            let ctx = Some(json!({ "error": error.to_string() }));
            let msg = "JSON decode error".to_owned();
            Problem { kind: "json_invalid", loc, msg, input: json!({}), ctx }
        })?;
        if value.is_null() {
            return Err(Problem::missing(body(), Value::Null).into());
        }
        Ok(Self::of(value, body())?)
    }

    fn of(value: Value, loc: Vec<Step>) -> Result<Self, Problem> {
        match value {
            Value::Object(map) => Ok(Self { map, loc, problems: Vec::new() }),
            input => Err(Problem {
                kind: "model_attributes_type",
                loc,
                msg: "Input should be a valid dictionary or object to extract fields from".to_owned(),
                input,
                ctx: None,
            }),
        }
    }

    /// Whether a field was written, be it as null.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    /// The names of all fields that were written.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The whole of it, for a problem that is not about one field.
    pub(crate) fn whole(&self) -> Value {
        Value::Object(self.map.clone())
    }

    fn at(&self, field: &str) -> Vec<Step> {
        let mut loc = self.loc.clone();
        loc.push(field.into());
        loc
    }

    fn problem(&mut self, kind: &'static str, field: &str, msg: &str, ctx: Option<Value>) {
        let input = self.map.get(field).cloned().unwrap_or_default();
        let problem = Problem { kind, loc: self.at(field), msg: msg.to_owned(), input, ctx };
        self.problems.push(problem);
    }

    /// Notes that the value of a field makes no sense.
    pub(crate) fn senseless(&mut self, field: &str, message: &str) {
        let input = self.map.get(field).cloned().unwrap_or_default();
        self.problems.push(Problem::value(self.at(field), message, input));
    }

    /// Notes that a field has to be there.
    fn missing(&mut self, field: &str) {
        self.problems.push(Problem::missing(self.at(field), self.whole()));
    }

    /// A text, where the field is there and not null.
    pub(crate) fn text(&mut self, field: &str) -> Option<String> {
        match self.map.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.problem("string_type", field, "Input should be a valid string", None);
                None
            }
        }
    }

    /// A text that has to be there.
    pub(crate) fn required_text(&mut self, field: &str) -> String {
        match self.map.get(field) {
            None => self.missing(field),
            Some(Value::Null) => {
                self.problem("string_type", field, "Input should be a valid string", None);
            }
            Some(_) => return self.text(field).unwrap_or_default(),
        }
        String::new()
    }

    /// A text of at most `most` characters.
    pub(crate) fn short_text(&mut self, field: &str, most: usize) -> Option<String> {
        let text = self.text(field)?;
        if text.chars().count() > most {
            let message = format!("String should have at most {most} characters");
            self.problem("string_too_long", field, &message, Some(json!({ "max_length": most })));
            return None;
        }
        Some(text)
    }

    /// Notes that a text is not of its pattern.
    pub(crate) fn mismatch(&mut self, field: &str, pattern: &str) {
        let message = format!("String should match pattern '{pattern}'");
        self.problem("string_pattern_mismatch", field, &message, Some(json!({ "pattern": pattern })));
    }

    /// One of some words.
    pub(crate) fn word<'w>(&mut self, field: &str, words: &[&'w str]) -> Option<&'w str> {
        let value = self.map.get(field).filter(|value| !value.is_null())?;
        let found = words.iter().find(|word| value.as_str() == Some(word)).copied();
        if found.is_none() {
            let problem = not_among(self.at(field), value.clone(), words);
            self.problems.push(problem);
        }
        found
    }

    /// Yes or no, in any of the ways in which people write it.
    pub(crate) fn truth(&mut self, field: &str) -> Option<bool> {
        let value = self.map.get(field).filter(|value| !value.is_null())?;
        let read = match value {
            Value::Bool(truth) => Some(*truth),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) => truth_of(text),
            _ => {
                self.problem("bool_type", field, "Input should be a valid boolean", None);
                return None;
            }
        };
        if read.is_none() {
            let message = "Input should be a valid boolean, unable to interpret input";
            self.problem("bool_parsing", field, message, None);
        }
        read
    }

    /// A whole number.
    pub(crate) fn number(&mut self, field: &str) -> Option<i64> {
        let value = self.map.get(field).filter(|value| !value.is_null())?;
        let (kind, message) = match value {
            Value::Number(number) => match number.as_i64() {
                Some(number) => return Some(number),
                None => {
                    ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
                }
            },
            Value::String(text) => match text.trim().parse() {
                Ok(number) => return Some(number),
                Err(_) => {
                    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
                }
            },
            _ => ("int_type", "Input should be a valid integer"),
        };
        self.problem(kind, field, message, None);
        None
    }

    /// A day.
    pub(crate) fn date(&mut self, field: &str) -> Option<Date> {
        let text = self.text(field)?;
        let read = text.parse().ok().or_else(|| times::read(&text).map(times::day));
        if read.is_none() {
            let message = "Input should be a valid date or datetime, such as 2026-12-31";
            self.problem("date_from_datetime_parsing", field, message, None);
        }
        read
    }

    /// A time, kept as it was written.
    pub(crate) fn time(&mut self, field: &str) -> Option<jiff::Timestamp> {
        let text = self.text(field)?;
        let read = times::read(&text);
        if read.is_none() {
            let message = "Input should be a valid datetime, such as 2026-12-31T23:59:59";
            self.problem("datetime_from_date_parsing", field, message, None);
        }
        read
    }

    /// The objects of a list, each read by `read`; none where the field is absent or null.
    pub(crate) fn objects<T>(
        &mut self,
        field: &str,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.map.get(field).filter(|value| !value.is_null())?.clone();
        let Value::Array(list) = value else {
            self.problem("list_type", field, "Input should be a valid list", None);
            return None;
        };
        let mut items = Vec::with_capacity(list.len());
        for (place, value) in list.into_iter().enumerate() {
            let mut loc = self.at(field);
            loc.push(Step::Place(place));
            match Self::of(value, loc) {
                Ok(mut fields) => {
                    items.extend(read(&mut fields));
                    self.problems.append(&mut fields.problems);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        Some(items)
    }

    /// An object in this one, read by `read`.
    pub(crate) fn object<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let value = self.map.get(field).filter(|value| !value.is_null())?.clone();
        match Self::of(value, self.at(field)) {
            Ok(mut fields) => {
                let read = read(&mut fields);
                self.problems.append(&mut fields.problems);
                Some(read)
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        let value = self.map.get(field).filter(|value| !value.is_null())?;
        let texts = value.as_array().map(|list| {
            list.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        match texts {
            Some(Some(texts)) => Some(texts),
            Some(None) => {
                self.problem("string_type", field, "Input should be a valid string", None);
                None
            }
            None => {
                self.problem("list_type", field, "Input should be a valid list", None);
                None
            }
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All problems that were noted.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.problems)) }
    }
}

/// What a value is told that is none of some words.
pub(crate) fn not_among(loc: Vec<Step>, input: Value, words: &[&str]) -> Problem {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let expected = match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => quoted.concat(),
    };
    let msg = format!("Input should be {expected}");
    Problem { kind: "enum", loc, msg, input, ctx: Some(json!({ "expected": expected })) }
}

/// Yes or no, as pydantic reads it.
pub(crate) fn truth_of(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn problems(error: ApiError) -> Value {
        let ApiError::Invalid(problems) = error else { panic!() };
        serde_json::to_value(problems).unwrap()
    }

    #[test]
    fn a_body_is_an_object() {
        for (body, kind) in [
            ("", "missing"),
            ("null", "missing"),
            ("{\"a\":", "json_invalid"),
            ("x", "json_invalid"),
            ("[]", "model_attributes_type"),
            ("3", "model_attributes_type"),
        ] {
            let error = problems(Fields::of_body(body.as_bytes()).unwrap_err());
            assert_eq!(error[0]["type"], kind, "{body}");
            assert_eq!(error[0]["loc"][0], "body", "{body}");
        }
    }

    #[test]
    fn all_problems_are_told_with_their_places() {
        let body = json!({"name": 3, "private": "maybe", "size": 1.5, "mode": "x", "roles": [{"channel": "a"}, {}, 7], "long": "abc"});
        let mut fields = Fields::of_body(body.to_string().as_bytes()).unwrap();
        assert_eq!(fields.text("name"), None);
        assert_eq!(fields.truth("private"), None);
        assert_eq!(fields.number("size"), None);
        assert_eq!(fields.word("mode", &["proxy", "mirror"]), None);
        assert_eq!(fields.short_text("long", 2), None);
        let roles = fields.objects("roles", |role| Some(role.required_text("channel"))).unwrap();
        assert_eq!(roles, ["a", ""]);
        let problems = problems(fields.finish().unwrap_err());
        let told: Vec<(String, String)> = problems
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| (problem["type"].as_str().unwrap().to_owned(), problem["loc"].to_string()))
            .collect();
        let expected = [
            ("string_type", r#"["body","name"]"#),
            ("bool_parsing", r#"["body","private"]"#),
            ("int_from_float", r#"["body","size"]"#),
            ("enum", r#"["body","mode"]"#),
            ("string_too_long", r#"["body","long"]"#),
            ("missing", r#"["body","roles",1,"channel"]"#),
            ("model_attributes_type", r#"["body","roles",2]"#),
        ];
        assert_eq!(told, expected.map(|(kind, loc)| (kind.to_owned(), loc.to_owned())));
        assert_eq!(problems[3]["msg"], "Input should be 'proxy' or 'mirror'");
    }

    #[test]
    fn what_is_right_is_read() {
        let body = json!({"a": "x", "b": "yes", "c": "7", "d": null, "e": "2026-12-31"});
        let mut fields = Fields::of_body(body.to_string().as_bytes()).unwrap();
        assert_eq!(fields.required_text("a"), "x");
        assert_eq!((fields.truth("b"), fields.number("c"), fields.text("d")), (Some(true), Some(7), None));
        assert_eq!(fields.date("e"), Some("2026-12-31".parse().unwrap()));
        assert!(fields.has("d") && !fields.has("f") && fields.finish().is_ok());
    }
}
