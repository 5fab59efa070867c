//! Tables: a tree of segments, walked from left to right with the more specific branch first.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use super::pattern::{self, Capture, Shape, Step};
use super::{Access, Handler, Mount, RouteError, Routes};
use crate::RequestPath;

/// A route of a table.
pub struct Route<C> {
    method: Method,
    pattern: Arc<str>,
    access: Access,
    handler: Handler<C>,
    fixed_channel: Option<String>,
}

impl<C> Route<C> {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The pattern with the prefix of its mount: the same text for every request, so fit for a metric.
    pub fn pattern(&self) -> &Arc<str> {
        &self.pattern
    }

    /// What a caller needs.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What answers.
    pub fn handler(&self) -> &Handler<C> {
        &self.handler
    }
}

impl<C> fmt::Debug for Route<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.pattern, self.access)
    }
}

/// Where a path ends in the tree, for one method.
struct Endpoint {
    method: Method,
    /// Its place in the list of routes.
    route: usize,
    captures: Vec<Capture>,
}

impl Endpoint {
    /// Whether what stands in the channel's place could be the name of one, which begins with a letter or a
    /// digit. So `+simple` is never taken for the second half of a name.
    fn fits(&self, path: &RequestPath) -> bool {
        let mut channels = self.captures.iter().filter(|capture| capture.name == "channel");
        channels.all(|capture| {
            captured(capture, path).iter().all(|text| text.starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    }
}

#[derive(Default)]
struct Node {
    literals: HashMap<String, Self>,
    variable: Option<Box<Self>>,
    /// For paths that end here, without and with a trailing slash, and for those that go on.
    plain: Vec<Endpoint>,
    slashed: Vec<Endpoint>,
    tail: Vec<Endpoint>,
}

impl Node {
    fn endpoints_for(&mut self, shape: &Shape) -> &mut Vec<Endpoint> {
        let mut node = self;
        for step in &shape.steps {
            node = match step {
                Step::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Step::Variable => node.variable.get_or_insert_default(),
                // Always the last one.
                Step::Tail => return &mut node.tail,
            };
        }
        if shape.trailing_slash { &mut node.slashed } else { &mut node.plain }
    }

    /// The endpoint of the most specific pattern that has the method; `seen` collects the methods of the others.
    /// Each node is visited once at most.
    fn find<'a>(
        &'a self,
        rest: &[String],
        trailing_slash: bool,
        wanted: &mut Wanted<'_>,
    ) -> Option<&'a Endpoint> {
        let Some((segment, after)) = rest.split_first() else {
            return wanted.pick(if trailing_slash { &self.slashed } else { &self.plain });
        };
        let literal = self.literals.get(segment);
        let variable = self.variable.as_deref();
        literal
            .and_then(|node| node.find(after, trailing_slash, wanted))
            .or_else(|| variable.and_then(|node| node.find(after, trailing_slash, wanted)))
            .or_else(|| wanted.pick(&self.tail))
    }
}

/// What is looked for, and the methods that were found instead.
struct Wanted<'r> {
    method: &'r Method,
    path: &'r RequestPath,
    seen: Vec<Method>,
}

impl Wanted<'_> {
    fn pick<'a>(&mut self, endpoints: &'a [Endpoint]) -> Option<&'a Endpoint> {
        let fitting = || endpoints.iter().filter(|endpoint| endpoint.fits(self.path));
        let with = |method: &Method| fitting().find(|endpoint| endpoint.method == method);
        let found =
            with(self.method).or_else(|| (self.method == Method::HEAD).then(|| with(&Method::GET))?);
        if found.is_none() {
            self.seen.extend(fitting().map(|endpoint| endpoint.method.clone()));
        }
        found
    }
}

/// All routes of one host.
pub struct Table<C> {
    routes: Vec<Route<C>>,
    root: Node,
}

impl<C> Table<C> {
    /// Mounts sets of routes side by side.
    pub fn build(mounts: impl IntoIterator<Item = (Mount, Routes<C>)>) -> Result<Self, RouteError> {
        let mut table = Self { routes: Vec::new(), root: Node::default() };
        for (mount, routes) in mounts {
            for declared in routes.declared {
                let mounted = pattern::mount(&mount, declared.pattern, declared.access)?;
                let index = table.routes.len();
                for shape in mounted.shapes {
                    let endpoints = table.root.endpoints_for(&shape);
                    if let Some(first) = endpoints.iter().find(|other| other.method == declared.method) {
                        let first = table.routes.get(first.route).map(|route| route.pattern.to_string());
                        return Err(RouteError::Ambiguous {
                            method: declared.method,
                            first: first.unwrap_or_else(|| mounted.text.clone()),
                            second: mounted.text,
                        });
                    }
                    let captures = shape.captures;
                    endpoints.push(Endpoint { method: declared.method.clone(), route: index, captures });
                }
                table.routes.push(Route {
                    method: declared.method,
                    pattern: mounted.text.into(),
                    access: declared.access,
                    handler: declared.handler,
                    fixed_channel: mounted.fixed_channel,
                });
            }
        }
        Ok(table)
    }

    /// Finds the route for a request.
    pub fn find(&self, method: &Method, path: &RequestPath) -> Lookup<'_, C> {
        let mut wanted = Wanted { method, path, seen: Vec::new() };
        let found = self.root.find(path.segments(), path.trailing_slash(), &mut wanted);
        match found.and_then(|endpoint| self.routes.get(endpoint.route).zip(Some(endpoint))) {
            Some((route, endpoint)) => {
                let captured = endpoint.captures.iter().map(|capture| (capture.name, value(capture, path)));
                let fixed = route.fixed_channel.iter().map(|name| ("channel", name.clone()));
                Lookup::Found(Match { route, params: Params { values: captured.chain(fixed).collect() } })
            }
            None if wanted.seen.is_empty() => Lookup::NotFound,
            None => Lookup::MethodNotAllowed { allow: allowed(wanted.seen) },
        }
    }

    /// Every route, in the order of declaration.
    pub fn iter(&self) -> impl Iterator<Item = &Route<C>> {
        self.routes.iter()
    }
}

impl<C> fmt::Debug for Table<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

/// The segments that hold a variable's value.
fn captured<'p>(capture: &Capture, path: &'p RequestPath) -> &'p [String] {
    let segments = path.segments().get(capture.start..).unwrap_or_default();
    segments.get(..capture.count.unwrap_or(segments.len())).unwrap_or_default()
}

fn value(capture: &Capture, path: &RequestPath) -> String {
    match captured(capture, path) {
        [only] => only.clone(),
        segments => segments.join("/"),
    }
}

/// The methods in the order of their names, each once; what answers `GET` answers `HEAD`.
fn allowed(mut methods: Vec<Method>) -> Vec<Method> {
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    methods.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    methods.dedup();
    methods
}

/// What a table knows about a request.
#[derive(Debug)]
pub enum Lookup<'t, C> {
    /// A route answers it.
    Found(Match<'t, C>),
    /// Routes have this path, none of them with this method.
    MethodNotAllowed {
        /// The methods that they have.
        allow: Vec<Method>,
    },
    /// No route has this path.
    NotFound,
}

/// A route with the values of its variables.
#[derive(Debug)]
pub struct Match<'t, C> {
    /// The route.
    pub route: &'t Route<C>,
    /// Its variables.
    pub params: Params,
}

/// The values of a route's variables, as the path holds them: decoded, not yet checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    values: Vec<(&'static str, String)>,
}

impl Params {
    /// The value of a variable; segments of a channel or of a tail are joined by `/`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Every variable with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// The tables of all hosts.
#[derive(Debug)]
pub struct Hosts<C> {
    default: Table<C>,
    by_name: HashMap<String, Table<C>>,
}

impl<C> Hosts<C> {
    /// One table for every host that has none of its own.
    pub fn new(default: Table<C>) -> Self {
        Self { default, by_name: HashMap::new() }
    }

    /// Gives a host a table of its own; its name is without a port.
    pub fn with_host(mut self, name: &str, table: Table<C>) -> Result<Self, RouteError> {
        let name = name.to_ascii_lowercase();
        if self.by_name.contains_key(&name) {
            return Err(RouteError::DuplicateHost(name));
        }
        self.by_name.insert(name, table);
        Ok(self)
    }

    /// The table for the host that a request names, with or without a port.
    pub fn table(&self, host: Option<&str>) -> &Table<C> {
        let named = host.filter(|_| !self.by_name.is_empty()).and_then(|host| {
            let name = without_port(host);
            self.by_name.get(name).or_else(|| self.by_name.get(&name.to_ascii_lowercase()))
        });
        named.unwrap_or(&self.default)
    }

    /// Every table: the default one first, with no name.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Table<C>)> {
        let named = self.by_name.iter().map(|(name, table)| (Some(name.as_str()), table));
        std::iter::once((None, &self.default)).chain(named)
    }
}

/// The host without its port, and without the dot that a full name may end in.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}
