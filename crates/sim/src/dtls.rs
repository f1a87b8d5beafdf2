//! DTLS of the clients: str0m's, but configured once (each configuration tries out all of the cryptography, which costs as
//! much as a handshake), and with an eye on the SRTP keys, by which [`crate::seals`] opens what the server sends.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use str0m::Rtc;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{CryptoError, from_feature_flags};

pub(crate) mod legacy;

/// The keying material of both directions (RFC 5764, 4.2), and what it is for.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) profile: SrtpProfile,
    pub(crate) material: Vec<u8>,
    /// The client is the DTLS client: the first key is its.
    pub(crate) active: bool,
}

/// Where a connection's keys are once DTLS has them.
#[derive(Clone, Default)]
pub(crate) struct KeySlot(Arc<Mutex<Option<Keys>>>);

impl KeySlot {
    pub(crate) fn get(&self) -> Option<Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

thread_local! {
    /// The provider is not told whose connection it serves.
    static BUILDING: RefCell<Option<KeySlot>> = const { RefCell::new(None) };
}

/// Runs `build`, in which one connection with [`provider`] is made; gives where its keys will be.
pub(crate) fn watch<T>(build: impl FnOnce() -> T) -> (T, KeySlot) {
    let slot = KeySlot::default();
    BUILDING.with_borrow_mut(|b| *b = Some(slot.clone()));
    let built = build();
    BUILDING.with_borrow_mut(|b| *b = None);
    (built, slot)
}

/// The crypto provider of clients; `legacy`: of one that speaks no AES-GCM in SRTP.
pub(crate) fn provider(legacy: bool) -> Arc<CryptoProvider> {
    static USUAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| configure(false));
    static LEGACY: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| configure(true));
    if legacy { LEGACY.clone() } else { USUAL.clone() }
}

fn configure(legacy: bool) -> Arc<CryptoProvider> {
    // As str0m does: ICE has shown the way back already.
    let mut config = dimpl::Config::builder().use_server_cookie(false).mtu(Rtc::builder().mtu());
    if legacy {
        config = config.with_crypto_provider(legacy::provider());
    }
    let config = Arc::new(config.build().expect("the defaults are sound"));
    let configured = Box::leak(Box::new(Configured(config)));
    Arc::new(CryptoProvider { dtls_provider: configured, ..from_feature_flags() })
}

#[derive(Debug)]
struct Configured(Arc<dimpl::Config>);

impl DtlsProvider for Configured {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let certificate = dimpl::DtlsCertificate {
            certificate: cert.certificate.clone(),
            private_key: cert.private_key.clone(),
        };
        let config = self.0.clone();
        let inner = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            _ => dimpl::Dtls::new_auto(config, certificate, now),
        };
        let slot = BUILDING.with_borrow(Option::clone).unwrap_or_default();
        Ok(Box::new(Instance { inner, slot }))
    }
}

struct Instance {
    inner: dimpl::Dtls,
    slot: KeySlot,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

impl DtlsInstance for Instance {
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
            *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
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
