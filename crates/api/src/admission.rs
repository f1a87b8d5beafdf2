//! How often one address may do something: token buckets in a bounded map.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use crate::config::Rate;

/// Addresses remembered at a time: 5 MB. When full, those whose bucket is full again are forgotten, else all are.
const MAX_ADDRESSES: usize = 65_536;

/// One kind of request, limited per address.
pub(crate) struct Buckets {
    rate: Rate,
    by_address: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, by_address: Mutex::default() }
    }

    /// Takes one from the bucket of `address`; `false`: it is empty.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> bool {
        let burst = f64::from(self.rate.burst);
        let refilled = |b: &Bucket| {
            let since = now.saturating_duration_since(b.at).as_secs_f64();
            (b.left + since * self.rate.per_second).min(burst)
        };
        let mut map = self.by_address.lock().expect("nothing panics while it is held");
        let key = network(address);
        if map.len() >= MAX_ADDRESSES && !map.contains_key(&key) {
            map.retain(|_, b| refilled(b) < burst);
            if map.len() >= MAX_ADDRESSES {
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

/// One IPv6 user has a /64 at least.
fn network(address: IpAddr) -> IpAddr {
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
        assert!(buckets.take(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 4, 0, 0, 0, 1)), t));
        assert!(!buckets.take(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 4, 9, 9, 9, 9)), t));
        assert!(buckets.take(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 5, 0, 0, 0, 1)), t));
    }

    #[test]
    fn the_map_is_bounded() {
        let buckets = Buckets::new(Rate { per_second: 0.0, burst: 1 });
        let t = Instant::now();
        for i in 0..=u32::try_from(MAX_ADDRESSES).unwrap() {
            assert!(buckets.take(IpAddr::V4(i.into()), t));
        }
        assert!(buckets.by_address.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
