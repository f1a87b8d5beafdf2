//! The SRTP keys of a peer, seen on their way out of str0m's DTLS: a sink does its RTCP itself.
//!
//! The provider is `&'static` and is not told whose connection it serves, hence the thread-local around the build.
use std::cell::RefCell;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{CryptoError, from_feature_flags};

/// Keying material of both directions (RFC 5764, 4.2).
pub struct Keys {
    pub profile: SrtpProfile,
    pub material: Vec<u8>,
    /// We are the DTLS client: the first key is ours.
    pub active: bool,
}

/// Where a connection finds its keys.
pub type KeySlot = Arc<Mutex<Option<Keys>>>;

thread_local! {
    static BUILDING: RefCell<Option<KeySlot>> = const { RefCell::new(None) };
}

/// Runs `build`, in which one connection with [`provider`] is made.
pub fn watch<T>(build: impl FnOnce() -> T) -> (T, KeySlot) {
    let slot = KeySlot::default();
    BUILDING.with_borrow_mut(|b| *b = Some(slot.clone()));
    let built = build();
    BUILDING.with_borrow_mut(|b| *b = None);
    (built, slot)
}

/// The crypto provider for connections made inside [`watch`].
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        static WATCHED: Watched = Watched;
        Arc::new(CryptoProvider { dtls_provider: &WATCHED, ..from_feature_flags() })
    });
    PROVIDER.clone()
}

#[derive(Debug)]
struct Watched;

impl DtlsProvider for Watched {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let inner = from_feature_flags().dtls_provider.new_dtls(cert, now, version, mtu)?;
        let slot = BUILDING.with_borrow(Option::clone).unwrap_or_default();
        Ok(Box::new(WatchedInstance { inner, slot }))
    }
}

struct WatchedInstance {
    inner: Box<dyn DtlsInstance>,
    slot: KeySlot,
}

impl std::fmt::Debug for WatchedInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedInstance")
    }
}

impl DtlsInstance for WatchedInstance {
    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.inner.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let active = self.inner.is_active();
        let output = self.inner.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let keys = Keys { profile: *profile, material: material.to_vec(), active };
            *self.slot.lock().unwrap() = Some(keys);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}
