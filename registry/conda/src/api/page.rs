//! Which part of a list is asked for, and how a part is told.

use granary_http::path::Query;
use serde::Serialize;
use serde_json::Value;

use super::body::{not_among, truth_of};
use super::error::{ApiError, Problem};

/// How many entries a page has where nobody says.
const USUAL: i64 = 20;

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// How many entries stand before it.
    pub(crate) skip: i64,
    /// How many it has at most; without a limit, all.
    pub(crate) limit: Option<i64>,
}

impl Part {
    /// What a query asks for: `skip` and `limit`, of which a negative one is none.
    pub(crate) fn of(query: &Query) -> Result<Self, ApiError> {
        let skip = number(query, "skip")?.unwrap_or(0).max(0);
        let limit = number(query, "limit")?.unwrap_or(USUAL);
        Ok(Self { skip, limit: (limit >= 0).then_some(limit) })
    }

    /// Whether the entry at this place is in it.
    pub(crate) fn has(&self, place: i64) -> bool {
        place >= self.skip && self.limit.is_none_or(|limit| place < self.skip.saturating_add(limit))
    }

    /// The part of a list in memory.
    pub(crate) fn cut<T>(&self, list: Vec<T>) -> Vec<T> {
        let places = 0_i64..;
        places.zip(list).filter(|(place, _)| self.has(*place)).map(|(_, item)| item).collect()
    }

    /// The answer of a paginated route.
    pub(crate) fn told<T: Serialize>(self, result: T, total: usize) -> impl Serialize {
        #[derive(Serialize)]
        struct Pagination {
            skip: i64,
            limit: i64,
            all_records_count: usize,
        }
        #[derive(Serialize)]
        struct Paginated<T> {
            pagination: Pagination,
            result: T,
        }
        let limit = self.limit.unwrap_or(-1);
        Paginated { pagination: Pagination { skip: self.skip, limit, all_records_count: total }, result }
    }
}

/// A number of the query.
pub(crate) fn number(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    let problem = || Problem {
        kind: "int_parsing",
        loc: vec!["query".into(), name.into()],
        msg: "Input should be a valid integer, unable to parse string as an integer".to_owned(),
        input: text.into(),
        ctx: None,
    };
    Ok(Some(text.trim().parse().map_err(|_| problem())?))
}

/// Yes or no of the query.
pub(crate) fn truth(query: &Query, name: &str) -> Result<Option<bool>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    let problem = || Problem {
        kind: "bool_parsing",
        loc: vec!["query".into(), name.into()],
        msg: "Input should be a valid boolean, unable to interpret input".to_owned(),
        input: text.into(),
        ctx: None,
    };
    Ok(Some(truth_of(text).ok_or_else(problem)?))
}

/// A time of the query.
pub(crate) fn time(query: &Query, name: &str) -> Result<Option<jiff::Timestamp>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    let problem = || Problem {
        kind: "datetime_from_date_parsing",
        loc: vec!["query".into(), name.into()],
        msg: "Input should be a valid datetime or date".to_owned(),
        input: text.into(),
        ctx: None,
    };
    Ok(Some(super::times::read(text).ok_or_else(problem)?))
}

/// A text that has to be in the query.
pub(crate) fn required<'q>(query: &'q Query, name: &str) -> Result<&'q str, ApiError> {
    let missing = || Problem::missing(vec!["query".into(), name.into()], Value::Null);
    Ok(query.first(name).ok_or_else(missing)?)
}

/// One of some words of the query; the first where nobody says.
pub(crate) fn word<'w>(query: &Query, name: &str, words: &[&'w str]) -> Result<&'w str, ApiError> {
    let Some(text) = query.first(name) else { return Ok(words.first().copied().unwrap_or_default()) };
    let found = words.iter().find(|word| **word == text).copied();
    Ok(found.ok_or_else(|| not_among(vec!["query".into(), name.into()], text.into(), words))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_part_is_cut_as_it_is_asked_for() {
        let part = |query: &str| Part::of(&Query::parse(Some(query)).unwrap()).unwrap();
        assert_eq!(part(""), Part { skip: 0, limit: Some(20) });
        assert_eq!(part("limit=-1"), Part { skip: 0, limit: None });
        assert_eq!(part("skip=1&limit=2").cut(vec![1, 2, 3, 4]), [2, 3]);
        assert_eq!(part("skip=9").cut(vec![1, 2]), [0_i32; 0]);
        assert!(Part::of(&Query::parse(Some("limit=x")).unwrap()).is_err());
        let told = serde_json::to_value(part("limit=0").told([1], 7)).unwrap();
        assert_eq!(
            told,
            serde_json::json!({"pagination": {"skip": 0, "limit": 0, "all_records_count": 7}, "result": [1]})
        );
    }
}
