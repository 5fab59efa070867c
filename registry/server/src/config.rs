//! The configuration: a file, then the environment, checked as a whole.

use std::path::Path;

use granary_crds::{
    Database, PackageRegistrySpec, RegistryFile, ValidRegistry, apply_environment, read_registry,
    validate_registry,
};
use granary_process::{Context, Failure};
use granary_store::DatabaseOptions;

use crate::cli::ConfigArgs;

/// Reads the configuration of `serve` and of the commands beside it.
pub fn load(args: &ConfigArgs) -> Result<ValidRegistry, Failure> {
    let name = args
        .config
        .as_deref()
        .map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
    let text = match &args.config {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let listed =
        |problems: Vec<String>| Failure::new(format!("the configuration is wrong:\n{}", problems.join("\n")));
    let mut file: RegistryFile = read_registry(&text)
        .map_err(|problems| listed(problems.iter().map(|problem| format!("{name}: {problem}")).collect()))?;
    apply_environment(&mut file.spec, std::env::vars())
        .map_err(|problems| listed(problems.iter().map(ToString::to_string).collect()))?;
    validate_registry(&file.spec).map_err(|problems| {
        listed(problems.iter().map(|problem| format!("{name}: {}", file.locate(problem))).collect())
    })
}

/// Checks a configuration that was put together in the program.
pub fn validate(spec: &PackageRegistrySpec) -> Result<ValidRegistry, Failure> {
    validate_registry(spec).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new(lines.join("\n"))
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).context(&format!("the config file {} cannot be read", path.display()))
}

/// The database, which `serve` and the commands beside it need.
pub fn database(registry: &ValidRegistry) -> Result<&Database, Failure> {
    registry.database.as_ref().ok_or_else(|| {
        Failure::new(
            "no database is configured: set database.url, or GRANARY_DATABASE_URL, or use `granary dev`",
        )
    })
}

/// How the server reaches the database.
pub fn database_options(database: &Database) -> Result<DatabaseOptions, Failure> {
    options(database, &database.url)
}

/// How migrations reach the database: past a pooler.
pub fn migration_options(database: &Database) -> Result<DatabaseOptions, Failure> {
    options(database, database.migration_url())
}

fn options(database: &Database, url: &granary_crds::SecretSource) -> Result<DatabaseOptions, Failure> {
    Ok(DatabaseOptions {
        url: url.load().context("the database URL cannot be read")?.expose().to_owned(),
        schema: database.schema.as_str().parse().context("the database schema")?,
        max_connections: database.max_connections as usize,
        ca_file: database.ca_file.clone(),
        client_certificate: database.client_certificate.clone(),
    })
}
