//! Packages that are deleted by and by: `conda.retention` of a channel.

use std::cmp::Ordering;

use granary_core::{Format, PackagePattern};
use granary_crds::{CondaRetention, Source};
use granary_http::Refusal;
use granary_store::{Channel, DbError};
use jiff::{SignedDuration, Timestamp};

use crate::author::Author;
use crate::format::{PackageFile, Subdir, version};
use crate::state::Conda;

/// A build of a name, as far as it matters which of them is newer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Build {
    filename: String,
    version: String,
    number: i64,
    uploaded_at: Timestamp,
}

impl Build {
    /// The newer one first.
    fn newest_first(&self, other: &Self) -> Ordering {
        version::order(&other.version, &self.version)
            .then_with(|| other.number.cmp(&self.number))
            .then_with(|| other.uploaded_at.cmp(&self.uploaded_at))
            .then_with(|| self.filename.cmp(&other.filename))
    }
}

/// The builds of a name that go: neither among the newest `keep`, nor uploaded at `before` or later.
fn expired(mut builds: Vec<Build>, keep: usize, before: Timestamp) -> Vec<String> {
    builds.sort_by(Build::newest_first);
    let old = builds.into_iter().skip(keep).filter(|build| build.uploaded_at < before);
    old.map(|build| build.filename).collect()
}

impl Conda {
    /// Deletes what no channel is to keep any longer. Says how many packages went.
    pub(crate) async fn apply_retention(&self) -> Result<usize, Refusal> {
        let mut removed = 0;
        for channel in self.store.directory().all().await? {
            let is_ours =
                channel.format == Format::Conda && matches!(channel.settings.source, Source::Hosted);
            if let Some(retention) = channel.settings.conda.retention.as_ref().filter(|_| is_ours) {
                removed += self.retain(&channel, retention).await?;
            }
        }
        Ok(removed)
    }

    async fn retain(&self, channel: &Channel, retention: &CondaRetention) -> Result<usize, Refusal> {
        let database = self.store.database();
        let young = SignedDuration::from_hours(24 * i64::from(retention.older_than_days));
        let before = self.store.clock().now() - young;
        // They were read when the channel was written down.
        let patterns: Vec<PackagePattern> =
            retention.packages.iter().filter_map(|pattern| pattern.read().ok()).collect();
        let is_meant =
            |name: &str| retention.packages.is_empty() || patterns.iter().any(|each| each.matches(name));
        let keep = i64::from(retention.keep_newest);
        let rows = database.query(&self.sql.names_beyond_retention, &[&channel.id(), &keep, &before]).await?;
        let mut removed = 0;
        for row in &rows {
            let (subdir, name): (&str, &str) =
                (row.try_get(0).map_err(DbError::from)?, row.try_get(1).map_err(DbError::from)?);
            if !is_meant(name) {
                continue;
            }
            let rows = database.query(&self.sql.builds_of_name, &[&channel.id(), &subdir, &name]).await?;
            let builds = rows.iter().map(|row| {
                Ok(Build {
                    filename: row.try_get(0)?,
                    version: row.try_get(1)?,
                    number: row.try_get(2)?,
                    uploaded_at: row.try_get(3)?,
                })
            });
            let builds = builds.collect::<Result<Vec<_>, DbError>>()?;
            let files = expired(builds, usize::try_from(keep).unwrap_or(usize::MAX), before)
                .iter()
                .map(|file| file.parse().map_err(|error| DbError::decode("package file", error)))
                .collect::<Result<Vec<PackageFile>, _>>()?;
            let subdir: Subdir = subdir.parse().map_err(|error| DbError::decode("subdir", error))?;
            removed += self.remove(&Author::job("retention"), channel, &subdir, &files).await?.len();
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn build(version: &str, number: i64, day: i8) -> Build {
        let uploaded_at = jiff::civil::date(2026, 3, day).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        Build {
            filename: format!("{version}_{number}"),
            version: version.to_owned(),
            number,
            uploaded_at: uploaded_at.timestamp(),
        }
    }

    #[test]
    fn the_newest_stay_by_conda_s_order_of_versions() {
        let builds = [("1.9", 0, 5), ("1.10", 0, 1), ("1.10", 1, 2), ("1.10rc1", 0, 9), ("2!0.1", 0, 1)];
        let builds: Vec<Build> =
            builds.into_iter().map(|(version, number, day)| build(version, number, day)).collect();
        let april = build("", 0, 20).uploaded_at;
        assert_eq!(expired(builds.clone(), 5, april), Vec::<String>::new());
        assert_eq!(expired(builds.clone(), 2, april), ["1.10_0", "1.10rc1_0", "1.9_0"]);
        // What is young stays, however old its version is.
        assert_eq!(expired(builds, 2, build("", 0, 5).uploaded_at), ["1.10_0"]);
    }
}
