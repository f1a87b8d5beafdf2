//! The SRTP keys of a connection, seen on their way out of str0m's DTLS.
//!
//! str0m keeps them to itself, but its DTLS implementation is a parameter. Ours passes everything on to the usual one and
//! leaves a copy of the keying material with whoever has built the connection. The provider is `&'static` and is not
//! told whose connection it serves, hence the thread-local set around the build.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{CryptoError, from_feature_flags};

use super::peer_key;

/// The keying material of both directions (RFC 5764, 4.2), and what it is for.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) profile: SrtpProfile,
    pub(crate) material: Vec<u8>,
    /// We are the DTLS client: the first key is ours.
    pub(crate) active: bool,
    /// The peer sends no media ([`KeySlot::withhold`]).
    pub(crate) listens: bool,
}

/// Where a connection finds its keys once DTLS has them.
#[derive(Clone, Default)]
pub(crate) struct KeySlot(Arc<Place>);

#[derive(Default)]
struct Place {
    keys: Mutex<Option<Keys>>,
    withheld: AtomicBool,
}

impl KeySlot {
    /// The keys, once.
    pub(crate) fn take(&self) -> Option<Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, keys: Keys) {
        *self.0.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }

    /// str0m does not get the keys: of who sends no media it neither opens nor seals anything, and its two contexts hold
    /// 4 kB. To be said before the handshake.
    pub(crate) fn withhold(&self) {
        self.0.withheld.store(true, Ordering::Relaxed);
    }
}

thread_local! {
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

/// The crypto provider for connections made inside [`watch`].
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        static WATCHED: Watched = Watched;
        Arc::new(CryptoProvider {
            dtls_provider: &WATCHED,
            srtp_provider: &super::lazy::Provider,
            ..from_feature_flags()
        })
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
        let inner = new_dtls(cert, now, version, mtu)?;
        let slot = BUILDING.with_borrow(Option::clone).unwrap_or_default();
        Ok(Box::new(WatchedInstance { inner, slot, made: now }))
    }
}

/// As str0m makes it, but for signatures of keys that FFmpeg has ([`super::peer_key`]).
fn new_dtls(
    cert: &DtlsCert,
    now: Instant,
    version: DtlsVersion,
    mtu: Option<usize>,
) -> Result<dimpl::Dtls, CryptoError> {
    let certificate = dimpl::DtlsCertificate {
        certificate: cert.certificate.clone(),
        private_key: cert.private_key.clone(),
    };
    let config = configuration(mtu)?;
    Ok(match version {
        DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
        DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
        _ => dimpl::Dtls::new_auto(config, certificate, now),
    })
}

/// Made once: that looks whether all of the cryptography works, which costs as much as a handshake.
fn configuration(mtu: Option<usize>) -> Result<Arc<dimpl::Config>, CryptoError> {
    static MADE: OnceLock<(Option<usize>, Arc<dimpl::Config>)> = OnceLock::new();
    if let Some((_, made)) = MADE.get().filter(|(of, _)| *of == mtu) {
        return Ok(made.clone());
    }
    // DTLS is taken only from where ICE has been: the cookie would show the same again.
    let config = dimpl::Config::builder().use_server_cookie(false).with_crypto_provider(peer_key::provider());
    let config = if let Some(mtu) = mtu { config.mtu(mtu) } else { config };
    let config = config.build().map_err(|e| CryptoError::Other(format!("DTLS configuration: {e}")))?;
    let config = Arc::new(config);
    // All connections have one MTU, so the first is the one that is kept.
    let _ = MADE.set((mtu, config.clone()));
    Ok(config)
}

struct WatchedInstance {
    inner: dimpl::Dtls,
    slot: KeySlot,
    made: Instant,
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
            let listens = self.slot.0.withheld.load(Ordering::Relaxed);
            self.slot.put(Keys { profile: *profile, material: material.to_vec(), active, listens });
            if listens {
                // A time that has passed: what comes next is asked for at once, as str0m does it after packets.
                return DtlsOutput::Timeout(self.made);
            }
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
