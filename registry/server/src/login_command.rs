//! `granary login`: a terminal gets a token by somebody's word in a browser (RFC 8628).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use granary_core::{PackagePattern, Role};
use granary_crds::{HttpUrl, Outbound, Raw};
use granary_process::{Context, Failure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{assemble, cli, netrc};

/// How long the registry may take to answer one question.
const LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const MAX_BYTES: usize = 64 * 1024;
/// How the registry knows this program.
const CLIENT_ID: &str = "granary-cli";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How long to wait between two questions where nothing is said, and how much longer when told to slow down (sections 3.2
/// and 3.5).
const INTERVAL: u64 = 5;

/// Arguments of `login`.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// The registry's URL.
    #[arg(value_parser = url)]
    pub url: HttpUrl,
    /// What the token is for: stands in the list of tokens, and before whoever confirms it.
    #[arg(long, default_value = "")]
    pub label: String,
    /// After how long the token ends, such as `12h` or `90d`; 30 days when absent, or as long as the registry lets it live.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub expires: Option<Duration>,
    /// The most that the token may do; without it, all that the account may.
    #[arg(long, value_parser = cli::role)]
    pub role: Option<Role>,
    /// Only these channels, as format/name; `*` stands for any characters. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub channel: Vec<PackagePattern>,
    /// Only these packages. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub package: Vec<PackagePattern>,
    /// Write the token into `~/.netrc` (or the file that NETRC names), where pip, uv, twine and curl find it, instead of
    /// printing it.
    #[arg(long)]
    pub netrc: bool,
    /// Certificate authorities (PEM) to trust beside the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

fn url(text: &str) -> Result<HttpUrl, String> {
    text.parse().map_err(|error: granary_crds::ValueError| error.to_string())
}

fn span(text: &str) -> Result<Duration, String> {
    Raw::<Duration>::new(text).read().map_err(|error| error.to_string())
}

/// What the registry answers at first.
#[derive(Deserialize)]
struct Begun {
    device_code: Told,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// What it answers at last.
#[derive(Deserialize)]
struct Granted {
    access_token: Told,
    account: String,
}

/// What it answers until then, and where something is wrong.
#[derive(Deserialize)]
struct Refused {
    error: Code,
    #[serde(default)]
    error_description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    AuthorizationPending,
    SlowDown,
    AccessDenied,
    ExpiredToken,
    #[serde(other)]
    Other,
}

/// A secret in an answer.
struct Told(SecretString);

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// Why a question has no answer.
enum Unanswered {
    /// It may have one later.
    Later(reqwest::Error),
    /// It never will.
    Never(Failure),
}

/// Runs `granary login`.
pub async fn login(args: LoginArgs) -> Result<(), Failure> {
    let outbound = Outbound { ca_file: args.ca_file.clone(), https_proxy: None, no_proxy: Vec::new() };
    let client = assemble::http_client(&outbound)?;
    let url = Url::parse(args.url.as_str()).context("the URL")?;
    let begun: Begun = match ask(&client, &args.url, "/-/device", &wanted(&args)).await {
        Ok((StatusCode::OK, body)) => read(&body)?,
        Ok((status, body)) => return Err(told(status, &body)),
        Err(Unanswered::Later(error)) => return Err(Failure::because("the registry", &error)),
        Err(Unanswered::Never(failure)) => return Err(failure),
    };
    let page = begun.verification_uri_complete.as_ref().unwrap_or(&begun.verification_uri);
    eprintln!("Open {page}\nand allow the code {}", begun.user_code);
    let granted = wait(&client, &args.url, &begun).await?;
    let token = granted.access_token.0.expose_secret();
    if args.netrc {
        let host = url.host_str().unwrap_or_default();
        let file = netrc_file()?;
        netrc::put(&file, host, &granted.account, token).context(&file.display().to_string())?;
        eprintln!("Logged in as {}; the token is in {}", granted.account, file.display());
    } else {
        eprintln!("Logged in as {}", granted.account);
        println!("{token}");
    }
    Ok(())
}

fn wanted(args: &LoginArgs) -> Vec<(&'static str, String)> {
    let mut fields = vec![("client_id", CLIENT_ID.to_owned()), ("label", args.label.clone())];
    fields.extend(args.role.map(|role| ("role", role.as_str().to_owned())));
    fields.extend(args.channel.iter().map(|pattern| ("channel", pattern.as_str().to_owned())));
    fields.extend(args.package.iter().map(|pattern| ("package", pattern.as_str().to_owned())));
    fields.extend(args.expires.map(|span| ("expires_in", span.as_secs().to_string())));
    fields
}

/// Asks until somebody has said yes or no.
async fn wait(client: &Client, registry: &HttpUrl, begun: &Begun) -> Result<Granted, Failure> {
    let fields = [
        ("client_id", CLIENT_ID.to_owned()),
        ("grant_type", GRANT_TYPE.to_owned()),
        ("device_code", begun.device_code.0.expose_secret().to_owned()),
    ];
    let end = Instant::now() + Duration::from_secs(begun.expires_in);
    let mut interval = begun.interval.unwrap_or(INTERVAL);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(interval)).await;
        let (status, body) = match ask(client, registry, "/-/device/token", &fields).await {
            Ok(answer) => answer,
            Err(Unanswered::Later(_)) => {
                interval *= 2;
                continue;
            }
            Err(Unanswered::Never(failure)) => return Err(failure),
        };
        if status == StatusCode::OK {
            return read(&body);
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            interval *= 2;
            continue;
        }
        match serde_json::from_slice::<Refused>(&body).map(|refused| refused.error) {
            Ok(Code::AuthorizationPending) => {}
            Ok(Code::SlowDown) => interval += INTERVAL,
            Ok(Code::AccessDenied) => {
                return Err(Failure::new("somebody refused this terminal in the browser"));
            }
            Ok(Code::ExpiredToken) => break,
            Ok(Code::Other) | Err(_) => return Err(told(status, &body)),
        }
    }
    Err(Failure::new("nobody allowed the code in time; run the command again"))
}

/// Posts a form; redirects are not followed.
async fn ask(
    client: &Client,
    registry: &HttpUrl,
    path: &str,
    fields: &[(&'static str, String)],
) -> Result<(StatusCode, Vec<u8>), Unanswered> {
    let encode =
        |(name, value): &(&str, String)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let body: Vec<String> = fields.iter().map(encode).collect();
    let request = client
        .post(format!("{registry}{path}"))
        .timeout(LIMIT)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"));
    let mut response = request.send().await.map_err(Unanswered::Later)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unanswered::Later)? {
        if body.len() + chunk.len() > MAX_BYTES {
            let failure = Failure::new("what answers there is no registry: it says too much");
            return Err(Unanswered::Never(failure));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).context("what answers there is no registry")
}

fn told(status: StatusCode, body: &[u8]) -> Failure {
    let refused = serde_json::from_slice::<Refused>(body);
    let said = refused.map_or_else(|_| String::new(), |refused| format!(": {}", refused.error_description));
    Failure::new(format!("the registry answered {status}{said}"))
}

fn netrc_file() -> Result<PathBuf, Failure> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("NETRC")
        .or_else(|| Some(named("HOME")?.join(".netrc")))
        .ok_or_else(|| Failure::new("neither NETRC nor HOME says where the file is"))
}
