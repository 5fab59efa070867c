//! How many requests somebody may send to this process: a credential by who it is of, the rest by where it comes from.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use granary_identity::{Caller, network_of};
use http::StatusCode;

pub use governor::clock::MonotonicClock;

use crate::Refusal;

/// A burst is what somebody may send in so many seconds.
const BURST_SECONDS: u32 = 10;
/// After how many requests those who have sent nothing of late are forgotten.
const FORGET_AFTER: u32 = 4096;

/// The most requests a second to one process, in bursts of ten times as many; nothing for any number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Of one caller with a credential.
    pub per_caller: Option<NonZeroU32>,
    /// Without a credential, from one address. One holder's IPv6 addresses are one, as with wrong passwords.
    pub per_address: Option<NonZeroU32>,
}

/// Counts requests. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RateLimits<C: Clock + Clone = MonotonicClock> {
    callers: Option<Arc<Limit<String, C>>>,
    addresses: Option<Arc<Limit<IpAddr, C>>>,
}

struct Limit<K: Hash + Eq + Clone, C: Clock + Clone> {
    counts: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    since_forgotten: AtomicU32,
}

impl<C: Clock + Clone> RateLimits<C> {
    /// Counts by this clock.
    pub fn new(rates: Rates, clock: &C) -> Self {
        Self {
            callers: rates.per_caller.map(|most| Arc::new(Limit::new(most, clock.clone()))),
            addresses: rates.per_address.map(|most| Arc::new(Limit::new(most, clock.clone()))),
        }
    }

    /// Counts a request that carries no credential.
    ///
    /// # Errors
    /// 429 for one too many. Where the address is not known, nothing is counted.
    pub fn count_address(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        match (&self.addresses, address) {
            (Some(limit), Some(address)) => limit.count(&network_of(address)),
            _ => Ok(()),
        }
    }

    /// Counts a request of somebody who was recognised.
    ///
    /// # Errors
    /// 429 for one too many.
    pub fn count_caller(&self, caller: &Caller) -> Result<(), Refusal> {
        match &self.callers {
            Some(limit) if !caller.is_anonymous() => limit.count(&caller.actor().into_owned()),
            _ => Ok(()),
        }
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Limit<K, C> {
    fn new(most: NonZeroU32, clock: C) -> Self {
        let burst = most.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
        let quota = Quota::per_second(most).allow_burst(burst);
        let counts = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { counts, clock, since_forgotten: AtomicU32::new(0) }
    }

    fn count(&self, who: &K) -> Result<(), Refusal> {
        // Whoever counts to the end clears up, and the counting goes on from there.
        if self.since_forgotten.fetch_add(1, Ordering::Relaxed) == FORGET_AFTER {
            self.since_forgotten.store(0, Ordering::Relaxed);
            self.counts.retain_recent();
        }
        self.counts.check_key(who).map_err(|early| {
            let pause = early.wait_time_from(self.clock.now());
            let pause = Duration::from_secs(pause.as_secs() + u64::from(pause.subsec_nanos() > 0));
            let refusal =
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests; wait before you go on");
            Refusal { retry_after: Some(pause), ..refusal }
        })
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> fmt::Debug for Limit<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("known", &self.counts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use governor::clock::FakeRelativeClock;
    use granary_core::Principal;
    use granary_identity::Recognition;

    use super::*;

    fn limits(per_caller: u32, per_address: u32) -> (RateLimits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rates =
            Rates { per_caller: NonZeroU32::new(per_caller), per_address: NonZeroU32::new(per_address) };
        (RateLimits::new(rates, &clock), clock)
    }

    fn caller(name: &str) -> Caller {
        let principal =
            Principal::User { name: name.parse().unwrap(), groups: Vec::new(), admin: false, scope: None };
        Caller { principal, recognition: Recognition::Password }
    }

    #[test]
    fn a_burst_is_borne_and_then_the_rate() {
        let (limits, clock) = limits(2, 0);
        let (ada, bob) = (caller("ada"), caller("bob"));
        for _ in 0..20 {
            limits.count_caller(&ada).unwrap();
        }
        let refusal = limits.count_caller(&ada).unwrap_err();
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        limits.count_caller(&bob).unwrap();
        clock.advance(Duration::from_secs(1));
        assert!(limits.count_caller(&ada).is_ok() && limits.count_caller(&ada).is_ok());
        limits.count_caller(&ada).unwrap_err();
        // Nobody in particular is counted by address alone, and here is no limit for that.
        for _ in 0..100 {
            limits.count_caller(&Caller::ANONYMOUS).unwrap();
            limits.count_address(Some("192.0.2.1".parse().unwrap())).unwrap();
        }
    }

    #[test]
    fn addresses_of_one_holder_are_counted_together() {
        let (limits, _) = limits(0, 1);
        let count = |address: &str| limits.count_address(Some(address.parse().unwrap()));
        for last in 0..10 {
            count(&format!("2001:db8::{last}")).unwrap();
        }
        count("2001:db8::ffff").unwrap_err();
        count("2001:db8:0:1::1").unwrap();
        limits.count_address(None).unwrap();
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (limits, clock) = limits(0, 1);
        for address in 0..FORGET_AFTER {
            limits.count_address(Some(IpAddr::V4(address.into()))).unwrap();
        }
        clock.advance(Duration::from_mins(1));
        limits.count_address(Some(IpAddr::V4(u32::MAX.into()))).unwrap();
        assert!(limits.addresses.unwrap().counts.len() <= 1);
    }
}
