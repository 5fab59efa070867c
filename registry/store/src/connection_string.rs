//! Connection strings of Postgres in both their forms, taken apart as far as parts of them have to be changed.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `postgresql://…` or `key=value` pairs. What is not changed stays as it was written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ConnectionString {
    /// A URL.
    Url {
        /// With `://`.
        scheme: String,
        /// Before `@`.
        credentials: Option<String>,
        /// All hosts with their ports.
        hosts: String,
        /// With its slash.
        path: String,
        /// Keys and values as they stand there.
        parameters: Vec<(String, String)>,
    },
    /// Pairs, without quotes and escapes.
    Pairs(Vec<(String, String)>),
}

impl ConnectionString {
    /// Takes a string apart that Postgres' own parser accepts; of others nothing is lost but what makes no sense.
    pub(crate) fn parse(text: &str) -> Self {
        for scheme in ["postgresql://", "postgres://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Self::parse_url(scheme, rest);
            }
        }
        Self::Pairs(parse_pairs(text))
    }

    fn parse_url(scheme: &str, rest: &str) -> Self {
        let (credentials, rest) = match rest.split_once('@') {
            Some((credentials, rest)) => (Some(credentials.to_owned()), rest),
            None => (None, rest),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        };
        Self::Url {
            scheme: scheme.to_owned(),
            credentials,
            hosts: hosts.to_owned(),
            path: path.to_owned(),
            parameters: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        }
    }

    /// Removes a parameter and gives back what it said last.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let (Self::Url { parameters: pairs, .. } | Self::Pairs(pairs)) = self;
        let taken = pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        pairs.retain(|(name, _)| name != key);
        taken
    }

    /// The value of a parameter; the last one counts.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (Self::Url { parameters: pairs, .. } | Self::Pairs(pairs)) = self;
        pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Another role and its password; a database that was named only by the role's name keeps that name.
    pub(crate) fn set_role(&mut self, role: &str, password: &str, database: Option<&str>) {
        self.take("user");
        self.take("password");
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        match self {
            Self::Url { credentials, path, parameters, .. } => {
                *credentials = Some(format!("{}:{}", encode(role), encode(password)));
                let is_unnamed = path.trim_start_matches('/').is_empty()
                    && !parameters.iter().any(|(key, _)| key == "dbname");
                if let (true, Some(database)) = (is_unnamed, database) {
                    *path = format!("/{}", encode(database));
                }
            }
            Self::Pairs(pairs) => {
                if let (false, Some(database)) = (pairs.iter().any(|(key, _)| key == "dbname"), database) {
                    pairs.push(("dbname".to_owned(), database.to_owned()));
                }
                pairs.push(("user".to_owned(), role.to_owned()));
                pairs.push(("password".to_owned(), password.to_owned()));
            }
        }
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { scheme, credentials, hosts, path, parameters } => {
                f.write_str(scheme)?;
                if let Some(credentials) = credentials {
                    write!(f, "{credentials}@")?;
                }
                write!(f, "{hosts}{path}")?;
                for (index, (key, value)) in parameters.iter().enumerate() {
                    write!(f, "{}{key}={value}", if index == 0 { '?' } else { '&' })?;
                }
                Ok(())
            }
            Self::Pairs(pairs) => {
                for (index, (key, value)) in pairs.iter().enumerate() {
                    let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                    write!(f, "{}{key}='{value}'", if index == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}

fn parse_pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = parse_value(after.trim_start());
        pairs.push((key.trim_end().to_owned(), value));
        rest = after.trim_start();
    }
    pairs
}

/// The value at the beginning, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let (mut letters, is_quoted) = match text.strip_prefix('\'') {
        Some(quoted) => (quoted.chars(), true),
        None => (text.chars(), false),
    };
    let mut value = String::new();
    loop {
        let before = letters.as_str();
        match letters.next() {
            None => return (value, ""),
            Some('\\') => value.extend(letters.next()),
            Some('\'') if is_quoted => return (value, letters.as_str()),
            Some(letter) if !is_quoted && letter.is_whitespace() => return (value, before),
            Some(letter) => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use tokio_postgres::Config;

    use super::*;

    const PASSWORD: &str = "p@ss/w:rd'\\ ?&=%ü";

    fn changed(url: &str) -> Config {
        let mut string = ConnectionString::parse(url);
        string.set_role("granary_app", PASSWORD, Some("admin"));
        string.to_string().parse().unwrap()
    }

    fn without_role(config: &Config) -> String {
        let mut config = config.clone();
        config.user("").password("");
        format!("{config:?}")
    }

    #[test]
    fn only_the_role_and_its_password_change() {
        for url in [
            "postgresql://admin:secret@db.example:5433/packages?sslmode=require&options=-c%20geqo%3Doff",
            "postgres://admin@a.example:5432,b.example:5433/packages?target_session_attrs=read-write",
            "postgresql://db.example/packages",
            "postgresql:///packages?host=%2Frun%2Fpostgres&port=5432&user=admin&password=x",
            "postgresql://a%40b:c%3Ad@[::1]:5432/p%C3%A4ckchen?connect_timeout=3",
            "host=a.example,b.example port=5432,5433 user=admin password=secret dbname=packages sslmode=require",
            r"host = '/run/post gres' user='a\'dmin' password = 'it\\s' dbname=packages options='-c geqo=off'",
            r"dbname=pack\ ages host=db.example application_name=''",
        ] {
            let (before, after): (Config, Config) = (url.parse().unwrap(), changed(url));
            assert_eq!(after.get_user(), Some("granary_app"), "{url}");
            assert_eq!(after.get_password(), Some(PASSWORD.as_bytes()), "{url}");
            assert_eq!(without_role(&before), without_role(&after), "{url}");
        }
    }

    #[test]
    fn a_database_that_goes_by_the_role_keeps_its_name() {
        for url in
            ["postgresql://admin@db.example", "postgres://admin@db.example/", "host=db.example user=admin"]
        {
            assert_eq!(changed(url).get_dbname(), Some("admin"), "{url}");
        }
        assert_eq!(changed("postgres://admin@db.example?dbname=x").get_dbname(), Some("x"));
    }

    #[test]
    fn a_parameter_of_ours_is_taken_out() {
        for (url, rest) in [
            ("postgresql://db.example/x?pgbouncer=true&port=1", "postgresql://db.example/x?port=1"),
            ("postgresql://db.example/x?pgbouncer=true", "postgresql://db.example/x"),
            ("host=db.example pgbouncer=true", "host='db.example'"),
        ] {
            let mut string = ConnectionString::parse(url);
            assert_eq!(string.take("pgbouncer").as_deref(), Some("true"));
            assert_eq!(string.to_string(), rest);
            assert_eq!(string.take("pgbouncer"), None);
        }
    }
}
