//! Validation of where a channel's packages come from.

use std::time::Duration;

use granary_core::{ChannelName, Format, PackagePattern};
use serde::{Deserialize, Serialize};

use crate::problem::Problems;
use crate::source::{ChannelSource, MirrorSource, Priority, ProxySource, Removal, VirtualSource};
use crate::value::Raw;

/// The most patterns of a list, and the most subdirs and channels of one.
const MAX_PATTERNS: usize = 100;
const MAX_SUBDIRS: usize = 50;
const MAX_CHANNELS: usize = 20;
/// The shortest pause between two synchronisations.
const SHORTEST_SCHEDULE: Duration = Duration::from_mins(1);

/// Where a channel's packages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Uploads.
    #[default]
    Hosted,
    /// A channel of another registry, asked for what clients ask for.
    Proxy(Proxy),
    /// A copy of a channel of another registry.
    Mirror(Mirror),
    /// Other channels, seen as one.
    Virtual(Virtual),
}

impl Source {
    /// What such a channel is called.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hosted => "hosted",
            Self::Proxy(_) => "proxy",
            Self::Mirror(_) => "mirror",
            Self::Virtual(_) => "virtual",
        }
    }
}

/// A channel of another registry, asked for what clients ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Proxy {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// Names that are shown; all when empty.
    pub include: Vec<PackagePattern>,
    /// Names that are not shown after all.
    pub exclude: Vec<PackagePattern>,
    /// How old an index may be before it is asked for again, in milliseconds.
    pub revalidate_after_ms: u64,
    /// Whether the URL may lead to an address that the internet does not reach.
    pub allow_private_addresses: bool,
}

/// A copy of a channel of another registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mirror {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// What is copied; when empty, what the other registry names.
    pub subdirs: Vec<String>,
    /// Packages that are copied, as patterns over `NAME VERSION BUILD`; all when empty.
    pub include: Vec<PackagePattern>,
    /// Packages that are not copied after all.
    pub exclude: Vec<PackagePattern>,
    /// The pause between two synchronisations, in milliseconds.
    pub schedule_ms: u64,
    /// Whether packages go that the other registry lists no longer.
    pub follow_removal: bool,
    /// Whether the URL may lead to an address that the internet does not reach.
    pub allow_private_addresses: bool,
}

/// Other channels, seen as one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Virtual {
    /// Their names, the most trusted one first.
    pub channels: Vec<String>,
    /// Whether packages of one name come from several channels.
    pub is_flexible: bool,
}

pub(super) fn source(
    problems: &mut Problems,
    format: Format,
    own_name: Option<&ChannelName>,
    spec: &ChannelSource,
) -> Option<Source> {
    let sources = [
        ("hosted", spec.hosted.is_some()),
        ("proxy", spec.proxy.is_some()),
        ("mirror", spec.mirror.is_some()),
        ("virtual", spec.virtual_.is_some()),
    ];
    let named: Vec<&str> = sources.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect();
    if named.len() > 1 {
        problems.add("spec.source", format!("a channel has one source; keep one of {}", named.join(", ")));
    }
    for name in named.iter().filter(|name| **name != "hosted" && format != Format::Conda) {
        problems.add(
            format!("spec.source.{name}"),
            format!("{name} channels of the format {format} are not served yet; write `hosted: {{}}` or leave spec.source out"),
        );
    }
    // All of them are read, so that every problem is told at once.
    let proxy = spec.proxy.as_ref().map(|spec| proxy(problems, spec));
    let mirror = spec.mirror.as_ref().map(|spec| mirror(problems, spec));
    let union = spec.virtual_.as_ref().map(|spec| union(problems, format, own_name, spec));
    match (proxy, mirror, union) {
        (Some(proxy), ..) => proxy.map(Source::Proxy),
        (_, Some(mirror), _) => mirror.map(Source::Mirror),
        (_, _, Some(union)) => Some(Source::Virtual(union)),
        (None, None, None) => Some(Source::Hosted),
    }
}

fn proxy(problems: &mut Problems, spec: &ProxySource) -> Option<Proxy> {
    let path = "spec.source.proxy";
    let url = problems.read(&format!("{path}.url"), &spec.url);
    let include = patterns(problems, &format!("{path}.include"), &spec.include, 1);
    let exclude = patterns(problems, &format!("{path}.exclude"), &spec.exclude, 1);
    let revalidate_after = problems.read(&format!("{path}.revalidateAfter"), &spec.revalidate_after);
    Some(Proxy {
        url: url?.to_string(),
        include,
        exclude,
        revalidate_after_ms: millis(revalidate_after?),
        allow_private_addresses: spec.allow_private_addresses,
    })
}

fn mirror(problems: &mut Problems, spec: &MirrorSource) -> Option<Mirror> {
    let path = "spec.source.mirror";
    let url = problems.read(&format!("{path}.url"), &spec.url);
    if spec.subdirs.len() > MAX_SUBDIRS {
        problems.add(format!("{path}.subdirs"), format!("name at most {MAX_SUBDIRS} subdirs"));
    }
    for (index, subdir) in spec.subdirs.iter().enumerate() {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if subdir.is_empty() || subdir.len() > 64 || !subdir.bytes().all(legal) {
            problems.add(
                format!("{path}.subdirs[{index}]"),
                "write a subdir such as linux-64, osx-arm64 or noarch",
            );
        }
    }
    let include = patterns(problems, &format!("{path}.include"), &spec.include, 3);
    let exclude = patterns(problems, &format!("{path}.exclude"), &spec.exclude, 3);
    let schedule = problems.read(&format!("{path}.schedule"), &spec.schedule);
    if schedule.is_some_and(|schedule| schedule < SHORTEST_SCHEDULE) {
        problems.add(format!("{path}.schedule"), "write a pause of a minute or more, such as 1h");
    }
    Some(Mirror {
        url: url?.to_string(),
        subdirs: spec.subdirs.clone(),
        include,
        exclude,
        schedule_ms: millis(schedule?),
        follow_removal: spec.removal == Removal::Follow,
        allow_private_addresses: spec.allow_private_addresses,
    })
}

fn union(
    problems: &mut Problems,
    format: Format,
    own_name: Option<&ChannelName>,
    spec: &VirtualSource,
) -> Virtual {
    let path = "spec.source.virtual.channels";
    if spec.channels.is_empty() || spec.channels.len() > MAX_CHANNELS {
        problems.add(path, format!("name 1 to {MAX_CHANNELS} channels"));
    }
    for (index, name) in spec.channels.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match ChannelName::parse(format, name) {
            Err(error) => problems.add(path, error.to_string()),
            Ok(name) if Some(&name) == own_name => {
                problems.add(path, "this is the channel itself; name others");
            }
            Ok(name) if spec.channels[..index].iter().any(|other| other == name.as_str()) => {
                problems.add(path, "this channel is named already; name each once");
            }
            Ok(_) => {}
        }
    }
    Virtual { channels: spec.channels.clone(), is_flexible: spec.priority == Priority::Flexible }
}

/// Patterns of at most so many words.
fn patterns(
    problems: &mut Problems,
    path: &str,
    list: &[Raw<PackagePattern>],
    words: usize,
) -> Vec<PackagePattern> {
    if list.len() > MAX_PATTERNS {
        problems.add(path, format!("write at most {MAX_PATTERNS} patterns"));
    }
    for (index, pattern) in list.iter().enumerate() {
        let written: Vec<&str> = pattern.text().split(' ').collect();
        if written.len() > words || written.iter().any(|word| word.is_empty()) {
            let message = match words {
                1 => "write a pattern of names, with no space in it",
                _ => {
                    "write a name, a version and a build string with one space between them, such as `python 3.13.*`"
                }
            };
            problems.add(format!("{path}[{index}]"), message);
        }
    }
    problems.read_list(path, list)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
