//! How often one address, or everybody together in one room, may do something: token buckets in a bounded map.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use crate::config::Rate;

/// Keys remembered at a time: 5 MB of addresses, 10 MB of rooms. When full, those whose bucket is full again are forgotten,
/// else all are.
const MAX_KEYS: usize = 65_536;

/// One kind of request, limited per key.
pub(crate) struct Buckets<K> {
    rate: Rate,
    by_key: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, by_key: Mutex::default() }
    }

    /// Takes one from the bucket of `key`; `false`: it is empty.
    pub(crate) fn take(&self, key: K, now: Instant) -> bool {
        let burst = f64::from(self.rate.burst);
        let refilled = |b: &Bucket| {
            let since = now.saturating_duration_since(b.at).as_secs_f64();
            (b.left + since * self.rate.per_second).min(burst)
        };
        let mut map = self.by_key.lock().expect("nothing panics while it is held");
        if map.len() >= MAX_KEYS && !map.contains_key(&key) {
            map.retain(|_, b| refilled(b) < burst);
            if map.len() >= MAX_KEYS {
                map.clear();
            }
        }
        let bucket = map.entry(key).or_insert(Bucket { left: burst, at: now });
        bucket.left = refilled(bucket);
        bucket.at = now;
        let enough = bucket.left >= 1.0;
        if enough {
            bucket.left -= 1.0;
        }
        enough
    }
}

/// Whose bucket an address takes from: one IPv6 user has a /64 at least.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::new(Rate { per_second: 2.0, burst: 3 });
        let (a, b) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::BROADCAST));
        let t = Instant::now();
        assert_eq!([(); 4].map(|()| buckets.take(a, t)), [true, true, true, false]);
        assert!(buckets.take(b, t), "another address has its own");
        let later = t + Duration::from_millis(500);
        assert_eq!([(); 2].map(|()| buckets.take(a, later)), [true, false]);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let buckets = Buckets::new(Rate { per_second: 0.0, burst: 1 });
        let t = Instant::now();
        assert!(buckets.take(network(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 4, 0, 0, 0, 1))), t));
        assert!(!buckets.take(network(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 4, 9, 9, 9, 9))), t));
        assert!(buckets.take(network(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 5, 0, 0, 0, 1))), t));
    }

    #[test]
    fn the_map_is_bounded() {
        let buckets = Buckets::new(Rate { per_second: 0.0, burst: 1 });
        let t = Instant::now();
        for i in 0..=u32::try_from(MAX_KEYS).unwrap() {
            assert!(buckets.take(i, t));
        }
        assert!(buckets.by_key.lock().unwrap().len() <= MAX_KEYS);
    }
}
