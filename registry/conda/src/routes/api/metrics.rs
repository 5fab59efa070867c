//! `/metrics/channels`: how often packages were downloaded, by days, months or years.

use std::collections::BTreeMap;
use std::sync::Arc;

use granary_core::Action;
use granary_http::Call;
use granary_store::Param;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::json;

use super::members::present;
use super::{Answer, absent, ok, param};
use crate::api::error::ApiError;
use crate::api::{page, times};
use crate::index::filter_of;
use crate::state::Conda;

/// The most entries of a channel's answer.
const MOST_ENTRIES: i64 = 100_000;

#[derive(Debug, Serialize)]
struct Entry {
    timestamp: String,
    count: i64,
}

#[derive(Debug, Default, Serialize)]
struct Series {
    series: Vec<Entry>,
}

/// What a query asks for.
struct Asked {
    letter: &'static str,
    metric: String,
    start: Option<Date>,
    end: Option<Date>,
}

impl Asked {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let query = &call.arrival.query;
        let day = |name: &str| Ok::<_, ApiError>(page::time(query, name)?.map(times::day));
        Ok(Self {
            // Downloads are counted by days.
            letter: page::word(query, "period", &["D", "M", "Y"])?,
            metric: query.first("metric_name").unwrap_or("download").to_owned(),
            start: day("start")?,
            end: day("end")?,
        })
    }

    fn field(&self) -> &'static str {
        match self.letter {
            "M" => "month",
            "Y" => "year",
            _ => "day",
        }
    }

    /// What there is: downloads, and of every other metric nothing.
    fn counts(&self) -> bool {
        self.metric == "download"
    }

    /// The beginning of the period after this one.
    fn next(&self, date: Date) -> Option<Date> {
        let span = match self.letter {
            "M" => 1.month(),
            "Y" => 1.year(),
            _ => 1.day(),
        };
        date.checked_add(span).ok()
    }

    /// With a zero for every period between the first and the last that has none.
    fn filled(&self, series: &[(Date, i64)]) -> Vec<(Date, i64)> {
        let (Some((first, _)), Some((last, _))) = (series.first(), series.last()) else { return Vec::new() };
        let known: BTreeMap<Date, i64> = series.iter().copied().collect();
        let periods = std::iter::successors(Some(*first), |date| self.next(*date));
        let periods = periods.take_while(|date| date <= last);
        periods.map(|date| (date, known.get(&date).copied().unwrap_or(0))).collect()
    }
}

fn entry((date, count): (Date, i64)) -> Entry {
    Entry { timestamp: format!("{date}T00:00:00"), count }
}

/// `GET /metrics/channels/CHANNEL/packages/PACKAGE/versions/SUBDIR/FILE`.
pub(super) async fn of_version(state: Arc<Conda>, call: Call) -> Answer {
    let asked = Asked::read(&call)?;
    let fill = page::truth(&call.arrival.query, "fill_zeros")?.unwrap_or(false);
    let package = present(&state, &call, Action::Read).await?;
    let (channel, subdir, file) = (call.channel()?, param(&call, "subdir"), param(&call, "file"));
    if state.version(channel, &package, subdir, file).await?.is_none() {
        return Err(absent(&call, format!("package version {subdir}/{file} not found"))?.into());
    }
    let mut series: Vec<(Date, i64)> = Vec::new();
    if asked.counts() {
        let (id, place, field) = (channel.id(), format!("{subdir}/{file}"), asked.field());
        let params: [Param<'_>; 6] = [&id, &package, &place, &field, &asked.start, &asked.end];
        for row in &state.store.database().query(&state.api_sql.series_of_file, &params).await? {
            series.push((row.try_get(0)?, row.try_get(1)?));
        }
    }
    if fill {
        series = asked.filled(&series);
    }
    let total: i64 = series.iter().map(|(_, count)| count).sum();
    let series: Vec<Entry> = series.into_iter().map(entry).collect();
    ok(&json!({
        "server_timestamp": times::told(state.store.clock().now()),
        "period": asked.letter,
        "metric_name": asked.metric,
        "total": total,
        "series": series,
    }))
}

/// `GET /metrics/channels/CHANNEL`: of the packages that the caller may read.
pub(super) async fn of_channel(state: Arc<Conda>, call: Call) -> Answer {
    let asked = Asked::read(&call)?;
    let (channel, filter) = (call.channel()?, filter_of(&call)?);
    let platform = call.arrival.query.first("platform");
    let mut packages: BTreeMap<String, Series> = BTreeMap::new();
    if asked.counts() {
        let (id, field) = (channel.id(), asked.field());
        let params: [Param<'_>; 6] = [&id, &field, &platform, &asked.start, &asked.end, &MOST_ENTRIES];
        for row in &state.store.database().query(&state.api_sql.series_of_channel, &params).await? {
            let package: &str = row.try_get(0)?;
            if filter.as_ref().is_none_or(|filter| filter.admits(package)) {
                let series = packages.entry(row.try_get(1)?).or_default();
                series.series.push(entry((row.try_get(2)?, row.try_get(3)?)));
            }
        }
    }
    ok(&json!({
        "server_timestamp": times::told(state.store.clock().now()),
        "period": asked.letter,
        "metric_name": asked.metric,
        "packages": packages,
    }))
}
