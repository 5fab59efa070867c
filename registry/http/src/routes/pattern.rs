//! Patterns: read once, when the table is built.

use super::{Access, Mount, MountedChannel, RouteError};

/// A step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Literal(String),
    /// Any one segment.
    Variable,
    /// All the rest, at least one segment.
    Tail,
}

/// A parameter, and which segments of the path hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) name: &'static str,
    pub(super) start: usize,
    /// How many segments; `None` for all the rest.
    pub(super) count: Option<usize>,
}

/// One of the shapes that a pattern stands for: one for each number of segments that a channel may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) steps: Vec<Step>,
    pub(super) captures: Vec<Capture>,
    pub(super) trailing_slash: bool,
}

/// A pattern under its mount.
#[derive(Debug)]
pub(super) struct Mounted {
    /// As a reader would write it.
    pub(super) text: String,
    pub(super) shapes: Vec<Shape>,
    /// The value of `{channel}` where the path does not name one.
    pub(super) fixed_channel: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Segment {
    Literal(&'static str),
    Variable(&'static str),
    Channel { single: bool },
    Tail(&'static str),
}

fn parse_segment(text: &'static str) -> Result<Segment, &'static str> {
    let Some(inner) = text.strip_prefix('{') else {
        if text.is_empty() {
            return Err("it holds an empty segment");
        }
        return if text.contains(['{', '}', '%', '\\']) || text == "." || text == ".." {
            Err("a literal segment holds a character that no path has")
        } else {
            Ok(Segment::Literal(text))
        };
    };
    let inner = inner.strip_suffix('}').ok_or("a variable has no closing brace")?;
    let (name, tail) = match inner.strip_suffix('*') {
        Some(name) => (name, true),
        None => (inner, false),
    };
    match (name, tail) {
        ("channel", false) => Ok(Segment::Channel { single: false }),
        ("channel:1", false) => Ok(Segment::Channel { single: true }),
        (name, _)
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') =>
        {
            Err("the name of a variable is of small letters and '_'")
        }
        (name, true) => Ok(Segment::Tail(name)),
        (name, false) => Ok(Segment::Variable(name)),
    }
}

/// Puts a pattern under its mount.
pub(super) fn mount(mount: &Mount, pattern: &'static str, access: Access) -> Result<Mounted, RouteError> {
    let written = format!("{}{pattern}", mount.prefix);
    let wrong = |problem| RouteError::Pattern { pattern: written.clone(), problem };
    let prefix: Vec<&str> = match mount.prefix.as_str() {
        "" => Vec::new(),
        prefix => {
            prefix.strip_prefix('/').ok_or(wrong("the prefix does not begin with '/'"))?.split('/').collect()
        }
    };
    if prefix.iter().any(|segment| segment.is_empty() || segment.contains(['{', '}', '%', '\\'])) {
        return Err(wrong("the prefix is not of plain segments"));
    }
    let rest = pattern.strip_prefix('/').ok_or(wrong("it does not begin with '/'"))?;
    let (inner, trailing_slash) = match rest.strip_suffix('/') {
        Some(inner) => (inner, true),
        None => (rest, rest.is_empty()),
    };
    let mut segments = Vec::new();
    if !inner.is_empty() {
        for text in inner.split('/') {
            segments.push(parse_segment(text).map_err(wrong)?);
        }
    } else if rest == "/" {
        return Err(wrong("it holds an empty segment"));
    }
    check(&segments, access).map_err(wrong)?;

    let has_channel = segments.iter().any(|segment| matches!(segment, Segment::Channel { .. }));
    let single = segments.iter().any(|segment| matches!(segment, Segment::Channel { single: true }));
    let (channel_lengths, fixed_channel) = match &mount.channel {
        _ if !has_channel => (0..=0, None),
        MountedChannel::Fixed(name) => (0..=0, Some(name.clone())),
        MountedChannel::Segments(most) => (1..=if single { 1 } else { *most }, None),
    };
    let shapes: Vec<Shape> =
        channel_lengths.map(|length| shape(&prefix, &segments, length, trailing_slash)).collect();
    if shapes.is_empty() {
        return Err(wrong("the channels of this mount have no segments"));
    }
    Ok(Mounted { text: written, shapes, fixed_channel })
}

fn check(segments: &[Segment], access: Access) -> Result<(), &'static str> {
    let mut names: Vec<&str> = segments
        .iter()
        .filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Variable(name) | Segment::Tail(name) => Some(*name),
            Segment::Channel { .. } => Some("channel"),
        })
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count {
        return Err("a variable occurs twice");
    }
    if let Some((_, before)) = segments.split_last()
        && before.iter().any(|segment| matches!(segment, Segment::Tail(_)))
    {
        return Err("'{name*}' may only come last");
    }
    // Without a channel nobody could say whether the caller may.
    if matches!(access, Access::Channel(_)) && names.binary_search(&"channel").is_err() {
        return Err("it needs access to a channel and names none");
    }
    Ok(())
}

fn shape(prefix: &[&str], segments: &[Segment], channel_length: usize, trailing_slash: bool) -> Shape {
    let mut steps: Vec<Step> = prefix.iter().map(|text| Step::Literal((*text).to_owned())).collect();
    let mut captures = Vec::new();
    for segment in segments {
        let start = steps.len();
        match *segment {
            Segment::Literal(text) => steps.push(Step::Literal(text.to_owned())),
            Segment::Variable(name) => {
                captures.push(Capture { name, start, count: Some(1) });
                steps.push(Step::Variable);
            }
            Segment::Tail(name) => {
                captures.push(Capture { name, start, count: None });
                steps.push(Step::Tail);
            }
            Segment::Channel { .. } if channel_length == 0 => {}
            Segment::Channel { .. } => {
                captures.push(Capture { name: "channel", start, count: Some(channel_length) });
                steps.extend(std::iter::repeat_n(Step::Variable, channel_length));
            }
        }
    }
    // The root has no segment that a slash could be missing behind.
    Shape { trailing_slash: trailing_slash || steps.is_empty(), steps, captures }
}
