//! `granary import`: reads what another registry left behind, prints channels, and says what is not in them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use granary_import::{Import, Question, conan, devpi, htpasswd, quetz};
use granary_process::{Context, Failure};
use granary_store::{Database, DatabaseOptions};
use secrecy::ExposeSecret;

use crate::cli::{
    ConanServerArgs, DevpiArgs, HtpasswdArgs, ImportArgs, ImportOutput, ImportSource, QuetzArgs,
};
use crate::import_packages;

/// What a failure is about.
pub(crate) const QUETZ_DATABASE: &str = "the database of Quetz";
/// The exit code of `--strict` when something could not be carried over.
pub(crate) const INCOMPLETE: u8 = 2;
/// How many references of Conan a proof asks about at most.
const REFERENCES: usize = 4_000;
/// How many questions that are answered otherwise are shown.
const SHOWN: usize = 5;

/// Runs `granary import`.
pub async fn import(args: ImportArgs) -> Result<ExitCode, Failure> {
    match args.source {
        ImportSource::ConanServer(args) => conan_server(args),
        ImportSource::Htpasswd(args) => password_file(&args),
        ImportSource::Devpi(args) => devpi_export(args),
        ImportSource::Quetz(args) => quetz_database(args).await,
        ImportSource::QuetzPackages(args) => import_packages::quetz(args).await,
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).context(&format!("{} cannot be read", path.display()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn conan_server(args: ConanServerArgs) -> Result<ExitCode, Failure> {
    let text = read(&args.server_conf)?;
    let environment: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("CONAN_")).collect();
    let options = conan::ConanOptions {
        generation: if args.server_version == 1 { conan::Generation::One } else { conan::Generation::Two },
        channel: args.channel,
        registry: args.target.registry,
        namespace: args.target.namespace,
        writers_may_read: args.writers_may_read,
    };
    let name = args.server_conf.display().to_string();
    let read = conan::import(&text, &environment, options).context(&name)?;
    let questions = read.questions(REFERENCES);
    finish(&read.import, questions, &args.output, "the server.conf of a conan_server", "conan-server")
}

fn devpi_export(args: DevpiArgs) -> Result<ExitCode, Failure> {
    let path = if args.export.is_dir() { args.export.join(devpi::INDEX_FILE) } else { args.export.clone() };
    if args.export.join(".serverversion").exists() {
        return Err(Failure::new(format!(
            "{folder} is the folder of a server: run `devpi-export --serverdir {folder} EXPORT` and import EXPORT",
            folder = args.export.display()
        )));
    }
    let text = read(&path)?;
    let options = devpi::DevpiOptions {
        registry: args.target.registry,
        namespace: args.target.namespace,
        restrict_modify: args
            .restrict_modify
            .map(|names| names.iter().map(|name| devpi::Principal::parse(name.trim())).collect()),
    };
    let read = devpi::import(&text, options).context(&path.display().to_string())?;
    let questions = read.questions();
    finish(&read.import, questions, &args.output, "the export of a devpi-server", "devpi")
}

async fn quetz_database(args: QuetzArgs) -> Result<ExitCode, Failure> {
    let database = args.database.expose_secret();
    let snapshot = if let Some(url) = postgres_url(database) {
        let mut connection = connect(url).await?;
        quetz::read_postgres(&mut connection).await.context(QUETZ_DATABASE)?
    } else {
        let file = sqlite_file(database);
        let read = tokio::task::spawn_blocking(move || quetz::read_sqlite(&file));
        read.await.context(QUETZ_DATABASE)?.context(QUETZ_DATABASE)?
    };
    let options = quetz::QuetzOptions { registry: args.target.registry, namespace: args.target.namespace };
    let read = quetz::import(&snapshot, &options);
    finish(&read.import, read.questions(), &args.output, "the database of a Quetz", "quetz")
}

/// The URL without the driver that SQLAlchemy names in it (`postgresql+psycopg2://`); none if it is no such URL.
pub(crate) fn postgres_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let is_postgres = matches!(scheme.split('+').next(), Some("postgresql" | "postgres"));
    is_postgres.then(|| format!("postgresql://{rest}"))
}

/// The file of a database that is none in Postgres.
pub(crate) fn sqlite_file(database: &str) -> PathBuf {
    PathBuf::from(database.strip_prefix("sqlite:///").unwrap_or(database))
}

/// A connection to the Postgres of a Quetz.
pub(crate) async fn connect(url: String) -> Result<granary_store::Connection, Failure> {
    let options = DatabaseOptions {
        url,
        schema: "granary".parse().context("the schema")?,
        max_connections: 1,
        ca_file: None,
        client_certificate: None,
    };
    let database = Database::new(&options).context(QUETZ_DATABASE)?;
    database.connection().await.context(QUETZ_DATABASE)
}

/// Prints channels and report, writes the files that are asked for, and proves what is to be proved.
fn finish(
    import: &Import,
    questions: impl Iterator<Item = Question>,
    output: &ImportOutput,
    made_from: &str,
    authenticator: &str,
) -> Result<ExitCode, Failure> {
    let channels = import.valid_channels().context("the channels")?;
    let mut report = import.report.clone();
    let count = import.accounts.len();
    match &output.users_file {
        Some(file) if count > 0 => {
            write_users(file, import)?;
            let key = file.file_name().unwrap_or_default().to_string_lossy();
            let name = authenticator.parse().context("the authenticator")?;
            report.note(format!(
                "wrote {count} accounts to {}. Make it the key {key:?} of the Secret that identity.secretRef of the \
                 PackageRegistry names (elsewhere: a file in identity.secretsDir), and add to the spec:\n{}",
                file.display(),
                granary_import::authenticator_yaml(&name, "users", &key).trim_end()
            ));
        }
        None if count > 0 => {
            report.not_carried(format!(
                "the passwords of {count} accounts: --users-file FILE writes them to a file"
            ));
        }
        _ => {}
    }
    print!("{}", granary_import::channel_yaml(&import.channels, made_from).context("the channels")?);
    eprint!("{report}");
    if (output.prove || output.table.is_some()) && !prove(&channels, questions, output)? {
        return Ok(ExitCode::FAILURE);
    }
    let incomplete = output.strict && !report.is_complete();
    Ok(if incomplete { ExitCode::from(INCOMPLETE) } else { ExitCode::SUCCESS })
}

fn write_users(file: &Path, import: &Import) -> Result<(), Failure> {
    let what = format!("{} cannot be written", file.display());
    let mut written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).context(&what)?;
    let text = granary_import::users_file(&import.accounts);
    written.write_all(text.expose_secret().as_bytes()).context(&what)?;
    written.sync_all().context(&what)
}

/// Compares old rules and new grants; whether they agree.
fn prove(
    channels: &[granary_crds::ValidChannel],
    questions: impl Iterator<Item = Question>,
    output: &ImportOutput,
) -> Result<bool, Failure> {
    let questions: Vec<Question> = questions.collect();
    if let Some(path) = &output.table {
        let what = format!("{} cannot be written", path.display());
        let mut file = BufWriter::new(File::create(path).context(&what)?);
        for question in &questions {
            serde_json::to_writer(&mut file, question).context(&what)?;
            file.write_all(b"\n").context(&what)?;
        }
        file.flush().context(&what)?;
    }
    let proof = granary_import::prove(channels, questions);
    let (asked, allowed, differing) = (proof.asked, proof.allowed, proof.differing.len());
    eprintln!(
        "proof: {asked} questions (who, what, which package), of which the old rules allow {allowed}; \
         {} answered alike by the grants, {differing} not",
        asked - differing
    );
    for question in proof.differing.iter().take(SHOWN) {
        eprintln!("proof: differs: {}", serde_json::to_string(question).context("a question")?);
    }
    Ok(differing == 0)
}

/// Runs `granary import htpasswd`: the file goes on to be read as it is, so there is only something to say.
fn password_file(args: &HtpasswdArgs) -> Result<ExitCode, Failure> {
    let read = htpasswd::read(&read(&args.file)?);
    let key = args.file.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "# Of the spec of a PackageRegistry. The file is the key {key:?} of the Secret that identity.secretRef names\n\
         # (elsewhere: a file in identity.secretsDir).\n{}",
        granary_import::authenticator_yaml(&args.authenticator, "htpasswd", &key).trim_end()
    );
    for (name, kind) in &read.carried {
        eprintln!("carried over: {name} ({kind})");
    }
    eprint!("{}", read.report);
    let incomplete = args.strict && !read.report.is_complete();
    Ok(if incomplete { ExitCode::from(INCOMPLETE) } else { ExitCode::SUCCESS })
}
