//! JSON in the form that signatures of conda's content trust are made over: what Python writes with
//! `json.dumps(value, indent=2, sort_keys=True)` (`conda_content_trust/common.py`, `canonserialize`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The canonical form of a value.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(values) if values.is_empty() => out.push_str("[]"),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                new_line(out, index > 0, depth + 1);
                write_value(out, value, depth + 1);
            }
            new_line(out, false, depth);
            out.push(']');
        }
        Value::Object(fields) if fields.is_empty() => out.push_str("{}"),
        Value::Object(fields) => {
            out.push('{');
            // By code points, which is by the bytes of UTF-8 as well.
            let fields: BTreeMap<&str, &Value> =
                fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
            for (index, (name, value)) in fields.into_iter().enumerate() {
                new_line(out, index > 0, depth + 1);
                write_text(out, name);
                out.push_str(": ");
                write_value(out, value, depth + 1);
            }
            new_line(out, false, depth);
            out.push('}');
        }
    }
}

fn new_line(out: &mut String, with_comma: bool, depth: usize) {
    out.push_str(if with_comma { ",\n" } else { "\n" });
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// A float as Python's `repr` has it: its exponent has a sign and two digits or more.
fn write_number(out: &mut String, number: &Number) {
    let float = number.as_f64().filter(|_| number.is_f64());
    let text = float.map_or_else(|| number.to_string(), |float| format!("{float:?}"));
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            // Writing to a text does not fail.
            write!(out, "{digits}e{sign}{exponent:0>2}").ok();
        }
        None => out.push_str(&text),
    }
}

/// Everything beyond ASCII is escaped, in UTF-16.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").ok();
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_what_python_writes() {
        let value = json!({"b": [1, -2, "é\u{1f600}\"\\\n\u{7f}\u{1}"], "a": {}, "c": [], "d": {"x": null, "B": true},
            "f": [1.5, 1e16, 1e-7, 0.0001, 1e22, 100.0]});
        let python = concat!(
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    -2,\n    \"\\u00e9\\ud83d\\ude00\\\"\\\\\\n\\u007f\\u0001\"\n  ],\n",
            "  \"c\": [],\n  \"d\": {\n    \"B\": true,\n    \"x\": null\n  },\n",
            "  \"f\": [\n    1.5,\n    1e+16,\n    1e-07,\n    0.0001,\n    1e+22,\n    100.0\n  ]\n}"
        );
        assert_eq!(canonical(&value), python);
    }
}
