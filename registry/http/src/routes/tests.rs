#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::ready;

use granary_core::Action;
use http::{Method, Response};
use proptest::prelude::*;

use super::{Access, Hosts, Lookup, Mount, MountedChannel, RouteError, Routes, Table};
use crate::{Body, RequestPath};

const READ: Access = Access::Channel(Action::Read);
const OPEN: Access = Access::Open("a test");

fn routes(list: &[(Method, &'static str, Access)]) -> Routes<()> {
    list.iter().fold(Routes::new(), |routes, (method, pattern, access)| {
        routes.route(method.clone(), pattern, *access, |()| ready(Response::new(Body::empty())))
    })
}

fn table(
    prefix: &str,
    segments: usize,
    list: &[(Method, &'static str, Access)],
) -> Result<Table<()>, RouteError> {
    Table::build([(Mount::new(prefix, MountedChannel::Segments(segments)), routes(list))])
}

/// The pattern and the variables for a path, or why there are none.
fn find(table: &Table<()>, method: &Method, path: &str) -> String {
    match table.find(method, &RequestPath::parse(path).unwrap()) {
        Lookup::Found(found) => {
            let params: Vec<String> =
                found.params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{} {}{}", found.route.method(), found.route.pattern(), params.concat())
        }
        Lookup::MethodNotAllowed { allow } => format!("allow {allow:?}"),
        Lookup::NotFound => "not found".to_owned(),
    }
}

fn pypi() -> Table<()> {
    table(
        "/pypi",
        2,
        &[
            (Method::POST, "/{channel}/", Access::Channel(Action::Publish)),
            (Method::GET, "/{channel}/+simple/", READ),
            (Method::GET, "/{channel}/+simple", READ),
            (Method::GET, "/{channel}/+simple/{project}/", READ),
            (Method::GET, "/{channel}/+simple/{project}", READ),
            (Method::GET, "/{channel:1}/simple/{project}/", READ),
            (Method::GET, "/{channel}/+f/{digest}/{file}", READ),
            (Method::GET, "/{channel}/pypi/{project}/json", READ),
            (Method::GET, "/{channel}/+doc/{project}/{path*}", READ),
            (Method::from_bytes(b"PUSH").unwrap(), "/{channel}/", Access::Channel(Action::Publish)),
        ],
    )
    .unwrap()
}

#[test]
fn paths_and_methods_find_their_route() {
    let table = pypi();
    for (method, path, expected) in [
        ("POST", "/pypi/main/", "POST /pypi/{channel}/ channel=main"),
        ("POST", "/pypi/root/dev/", "POST /pypi/{channel}/ channel=root/dev"),
        ("PUSH", "/pypi/root/dev/", "PUSH /pypi/{channel}/ channel=root/dev"),
        ("POST", "/pypi/main", "not found"),
        ("POST", "/pypi/a/b/c/", "not found"),
        ("GET", "/pypi/main/", "allow [POST, PUSH]"),
        ("PUT", "/pypi/main/+simple/", "allow [GET, HEAD]"),
        // No channel is called so.
        ("POST", "/pypi/main/+x/", "not found"),
        ("POST", "/pypi/.x/", "not found"),
        ("GET", "/pypi/main/+simple/", "GET /pypi/{channel}/+simple/ channel=main"),
        ("HEAD", "/pypi/main/+simple/", "GET /pypi/{channel}/+simple/ channel=main"),
        ("GET", "/pypi/root/dev/+simple/", "GET /pypi/{channel}/+simple/ channel=root/dev"),
        ("GET", "/pypi/root/dev/+simple", "GET /pypi/{channel}/+simple channel=root/dev"),
        (
            "GET",
            "/pypi/root/dev/+simple/x/",
            "GET /pypi/{channel}/+simple/{project}/ channel=root/dev project=x",
        ),
        (
            "GET",
            "/pypi/root/dev/+simple/x",
            "GET /pypi/{channel}/+simple/{project} channel=root/dev project=x",
        ),
        // From left to right: the second segment is a literal of the one-segment channel's route.
        (
            "GET",
            "/pypi/a/+simple/+simple/",
            "GET /pypi/{channel}/+simple/{project}/ channel=a project=+simple",
        ),
        ("GET", "/pypi/a/simple/x/", "GET /pypi/{channel:1}/simple/{project}/ channel=a project=x"),
        ("GET", "/pypi/a/b/simple/x/", "not found"),
        (
            "GET",
            "/pypi/m/+f/abc/x-1.whl",
            "GET /pypi/{channel}/+f/{digest}/{file} channel=m digest=abc file=x-1.whl",
        ),
        ("GET", "/pypi/m/+f/abc/x-1.whl/", "not found"),
        ("GET", "/pypi/m/pypi/x/json", "GET /pypi/{channel}/pypi/{project}/json channel=m project=x"),
        (
            "GET",
            "/pypi/m/+doc/x/a/b.html",
            "GET /pypi/{channel}/+doc/{project}/{path*} channel=m project=x path=a/b.html",
        ),
        ("GET", "/pypi/m/+doc/x/a/", "GET /pypi/{channel}/+doc/{project}/{path*} channel=m project=x path=a"),
        ("GET", "/pypi/m/+doc/x/", "not found"),
        ("GET", "/conda/main/", "not found"),
        ("GET", "/", "not found"),
        ("get", "/pypi/main/+simple/", "allow [GET, HEAD]"),
    ] {
        assert_eq!(
            find(&table, &Method::from_bytes(method.as_bytes()).unwrap(), path),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn the_more_specific_route_with_the_method_wins() {
    let table = table(
        "",
        1,
        &[
            (Method::GET, "/", OPEN),
            (Method::GET, "/users/{name}", OPEN),
            (Method::GET, "/users/me", OPEN),
            (Method::POST, "/users/login", OPEN),
            (Method::GET, "/{any*}", OPEN),
            (Method::GET, "/{x}/b/{y}", OPEN),
            (Method::GET, "/a/{x}/c", OPEN),
            (Method::HEAD, "/users/me", OPEN),
        ],
    )
    .unwrap();
    for (method, path, expected) in [
        (Method::GET, "/", "GET /"),
        (Method::GET, "/users/me", "GET /users/me"),
        (Method::HEAD, "/users/me", "HEAD /users/me"),
        (Method::GET, "/users/you", "GET /users/{name} name=you"),
        (Method::GET, "/users/login", "GET /users/{name} name=login"),
        (Method::POST, "/users/login", "POST /users/login"),
        (Method::GET, "/users/you/", "GET /{any*} any=users/you"),
        (Method::GET, "/a/b/c", "GET /a/{x}/c x=b"),
        // The literal branch leads nowhere; the walk comes back.
        (Method::GET, "/a/b/d", "GET /{x}/b/{y} x=a y=d"),
        (Method::GET, "/a/z/d", "GET /{any*} any=a/z/d"),
        (Method::DELETE, "/users/login", "allow [GET, HEAD, POST]"),
    ] {
        assert_eq!(find(&table, &method, path), expected, "{method} {path}");
    }
}

#[test]
fn a_host_of_its_own_fixes_the_channel_or_the_prefix() {
    let list = [(Method::GET, "/{channel}/v1/ping", READ), (Method::GET, "/{channel}/", READ)];
    let prefixed = table("/conan", 1, &list).unwrap();
    let fixed =
        Table::build([(Mount::new("", MountedChannel::Fixed("main".into())), routes(&list))]).unwrap();
    assert_eq!(
        find(&prefixed, &Method::GET, "/conan/main/v1/ping"),
        "GET /conan/{channel}/v1/ping channel=main"
    );
    assert_eq!(find(&fixed, &Method::GET, "/v1/ping"), "GET /{channel}/v1/ping channel=main");
    assert_eq!(find(&fixed, &Method::GET, "/"), "GET /{channel}/ channel=main");
    assert_eq!(find(&fixed, &Method::GET, "/main/v1/ping"), "not found");

    let hosts = Hosts::new(prefixed).with_host("Conan.Example", fixed).unwrap();
    for (host, own) in [
        (Some("conan.example"), true),
        (Some("CONAN.example:8443"), true),
        (Some("conan.example."), true),
        (Some("other.example"), false),
        (Some("[::1]:80"), false),
        (None, false),
    ] {
        let found = matches!(
            hosts.table(host).find(&Method::GET, &RequestPath::parse("/v1/ping").unwrap()),
            Lookup::Found(_)
        );
        assert_eq!(found, own, "{host:?}");
    }
    assert_eq!(
        hosts.iter().map(|(name, table)| (name, table.iter().count())).collect::<Vec<_>>(),
        [(None, 2), (Some("conan.example"), 2)]
    );
    assert_eq!(
        hosts.with_host("conan.example", table("", 1, &[]).unwrap()).unwrap_err(),
        RouteError::DuplicateHost("conan.example".into())
    );
}

#[test]
fn patterns_that_are_refused() {
    for pattern in [
        "a",
        "",
        "//",
        "/a//b",
        "/{",
        "/{}",
        "/{A}",
        "/{a}/{a}",
        "/{a*}/b",
        "/a%20b",
        "/../a",
        "/{a",
        "/a}",
        "/{channel*}x",
    ] {
        let error = table("", 1, &[(Method::GET, pattern, OPEN)]).unwrap_err();
        assert!(matches!(error, RouteError::Pattern { .. }), "{pattern}");
    }
    for prefix in ["pypi", "/pypi/", "/", "/{x}"] {
        assert!(
            matches!(table(prefix, 1, &[(Method::GET, "/a", OPEN)]), Err(RouteError::Pattern { .. })),
            "{prefix}"
        );
    }
    // A channel's access needs a channel.
    assert!(matches!(table("", 1, &[(Method::GET, "/a/{x}", READ)]), Err(RouteError::Pattern { .. })));
    assert!(matches!(table("", 0, &[(Method::GET, "/{channel}", READ)]), Err(RouteError::Pattern { .. })));
}

#[test]
fn routes_that_match_the_same_are_refused() {
    for (first, second) in [
        ("/a", "/a"),
        ("/{x}/a", "/{y}/a"),
        ("/{channel}/{x}/", "/{channel}/"),
        ("/{channel:1}/{x}/", "/{channel}/"),
        ("/{x*}", "/{y*}"),
    ] {
        let error = table("", 2, &[(Method::GET, first, OPEN), (Method::GET, second, OPEN)]).unwrap_err();
        let (first, second) = (first.to_owned(), second.to_owned());
        assert_eq!(error, RouteError::Ambiguous { method: Method::GET, first, second });
        // With another method they are two.
    }
    table("", 2, &[(Method::GET, "/{channel}/{x}/", OPEN), (Method::POST, "/{channel}/", OPEN)]).unwrap();
    table("", 2, &[(Method::GET, "/{x}", OPEN), (Method::GET, "/{x}/", OPEN)]).unwrap();
}

#[test]
fn a_table_lists_every_route_with_its_access() {
    let table = pypi();
    let listed: Vec<String> = table.iter().map(|route| format!("{route:?}")).collect();
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[0], "POST /pypi/{channel}/ (channel: publish)");
    assert_eq!(listed[9], "PUSH /pypi/{channel}/ (channel: publish)");
}

proptest! {
    #[test]
    fn any_path_is_answered_and_what_matches_fits(path in "/(pypi|a|\\+simple|simple|\\+f|x|/){0,9}") {
        let table = pypi();
        if let Ok(parsed) = RequestPath::parse(&path)
            && let Lookup::Found(found) = table.find(&Method::GET, &parsed)
        {
            // Putting the variables into the pattern gives the path back.
            let mut text = found.route.pattern().to_string();
            for (name, value) in found.params.iter() {
                for variable in [format!("{{{name}}}"), format!("{{{name}:1}}"), format!("{{{name}*}}")] {
                    text = text.replace(&variable, value);
                }
            }
            prop_assert_eq!(text.trim_end_matches('/'), path.trim_end_matches('/'));
        }
    }
}
