//! Who somebody is to the registry, from what a provider says of them.

use std::collections::HashSet;

use granary_core::SubjectName;

use crate::jwt::json::{Json, Object};

/// The most groups of one person.
const MAX_GROUPS: usize = 512;

/// Somebody whom a provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the provider knows them by for ever: `sub`, GitHub's number.
    pub subject: String,
    /// What they are called there now.
    pub name: SubjectName,
    /// The groups that the configuration gives to everybody of the provider, then their own there; each once. What cannot be
    /// the name of a group is left out.
    pub groups: Vec<SubjectName>,
}

/// Why what a provider says names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersonError {
    /// There is no name.
    #[error("the provider says no {0}, which is to be the account's name")]
    NoName(String),
    /// The name cannot be an account's.
    #[error("the provider's {0} cannot be the name of an account")]
    BadName(String),
    /// The address is not known to be theirs.
    #[error("the provider does not say that the e-mail address is verified")]
    Unverified,
    /// They are in none of the organizations.
    #[error("you are a member of none of the organizations that may log in")]
    NotMember,
}

/// The name by this claim. What the first of `sources` that has it says counts.
pub(super) fn name(sources: &[&Object], claim: &str) -> Result<SubjectName, PersonError> {
    let source = sources.iter().find(|source| has_name(source, claim));
    let Some(Json::Text(text)) = source.and_then(|source| source.get(claim)) else {
        let unverified = claim == EMAIL && sources.iter().any(|source| source.contains_key(EMAIL));
        return Err(if unverified { PersonError::Unverified } else { PersonError::NoName(claim.to_owned()) });
    };
    text.parse().map_err(|_| PersonError::BadName(claim.to_owned()))
}

const EMAIL: &str = "email";

/// Whether a name can be taken from here. An address has to be a verified one, by the same source: anybody may claim any.
pub(super) fn has_name(source: &Object, claim: &str) -> bool {
    source.contains_key(claim) && (claim != EMAIL || source.get("email_verified") == Some(&Json::Bool(true)))
}

/// The texts of a claim that is a text or an array of them; of the first of `sources` that has it.
pub(super) fn groups<'a>(sources: &[&'a Object], claim: &str) -> Vec<&'a str> {
    match sources.iter().find_map(|source| source.get(claim)) {
        Some(Json::Text(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_text).collect(),
        _ => Vec::new(),
    }
}

/// What can be the name of a group, after those that everybody is in.
pub(super) fn group_names(everybody: &[SubjectName], named: &[&str]) -> Vec<SubjectName> {
    let mut seen = HashSet::new();
    let named = named.iter().filter_map(|name| match name.parse::<SubjectName>() {
        Ok(group) => Some(group),
        Err(error) => {
            tracing::debug!(group = name, %error, "no name of a group");
            None
        }
    });
    let groups = everybody.iter().cloned().chain(named).filter(|group| seen.insert(group.clone()));
    groups.take(MAX_GROUPS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn object(text: &str) -> Object {
        let Json::Object(object) = Json::read(text).unwrap() else { panic!() };
        object
    }

    #[test]
    fn a_name_is_what_the_first_source_says() {
        let (token, more) =
            (object(r#"{"preferred_username":"ada"}"#), object(r#"{"preferred_username":"eve"}"#));
        assert_eq!(name(&[&token, &more], "preferred_username").unwrap().as_str(), "ada");
        assert_eq!(name(&[&object("{}"), &more], "preferred_username").unwrap().as_str(), "eve");
        let none = PersonError::NoName("nickname".to_owned());
        assert_eq!(name(&[&token, &more], "nickname"), Err(none));
        for bad in [r#"{"n":""}"#, r#"{"n":"a b"}"#, r#"{"n":"../x"}"#, r#"{"n":"a\u0000"}"#, r#"{"n":"-a"}"#]
        {
            assert_eq!(name(&[&object(bad)], "n"), Err(PersonError::BadName("n".to_owned())), "{bad}");
        }
        assert_eq!(name(&[&object(r#"{"n":1}"#)], "n"), Err(PersonError::NoName("n".to_owned())));
    }

    #[test]
    fn an_address_has_to_be_verified_by_who_says_it() {
        let good = object(r#"{"email":"ada@example.org","email_verified":true}"#);
        assert_eq!(name(&[&good], "email").unwrap().as_str(), "ada@example.org");
        let claimed = object(r#"{"email":"root@example.org"}"#);
        let verified = object(r#"{"email_verified":true}"#);
        for bad in [
            &object(r#"{"email":"a@b","email_verified":false}"#),
            &object(r#"{"email":"a@b","email_verified":"true"}"#),
            &claimed,
        ] {
            assert_eq!(name(&[bad, &verified], "email"), Err(PersonError::Unverified));
        }
        // One source's verification is not another one's.
        assert_eq!(name(&[&claimed, &good], "email").unwrap().as_str(), "ada@example.org");
        assert_eq!(name(&[&verified], "email"), Err(PersonError::NoName("email".to_owned())));
    }

    #[test]
    fn groups_are_names_each_once() {
        let of = |text: &str| -> Vec<String> {
            let claims = object(text);
            let everybody = ["people".parse().unwrap()];
            let named = group_names(&everybody, &groups(&[&claims], "groups"));
            named.iter().map(ToString::to_string).collect()
        };
        assert_eq!(of("{}"), ["people"]);
        assert_eq!(of(r#"{"groups":"team"}"#), ["people", "team"]);
        assert_eq!(of(r#"{"groups":["team","/path","team","people",1,"a b"]}"#), ["people", "team"]);
        assert_eq!(of(r#"{"groups":{"team":true}}"#), ["people"]);
    }
}
