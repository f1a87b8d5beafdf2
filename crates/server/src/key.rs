//! The node's keys: 32 random bytes each in the data folder, made at the first start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use antiphon_api::Key;
use antiphon_kvs::Tokens;
use anyhow::{Context, bail};

/// The file of the key that signs tokens.
const SIGNING: &str = "signing.key";
/// The file of the key that protects the stored streams.
const STORE: &str = "store.key";

/// Reads the signing key; makes folder and key if there is none.
pub(crate) fn load_or_create(data: &Path) -> anyhow::Result<Key> {
    Ok(Key::new(&signing(data)?))
}

/// What makes tokens for the stored streams: of the signing key too.
pub(crate) fn stream_tokens(data: &Path) -> anyhow::Result<Tokens> {
    Ok(Tokens::new(&signing(data)?))
}

/// The signing key itself: for what is derived from it.
pub(crate) fn signing(data: &Path) -> anyhow::Result<[u8; 32]> {
    secret(data, SIGNING, "signing key", "remove it to get a new one (all tokens end)", true)
}

/// Whether the data folder has a key of the stored streams.
pub(crate) fn has_store(data: &Path) -> bool {
    data.join(STORE).exists()
}

/// Reads the key of the stored streams. Without `make` it has to be there.
pub(crate) fn store(data: &Path, make: bool) -> anyhow::Result<[u8; 32]> {
    let end = "bring back the right one: without it nothing that was stored can be read";
    secret(data, STORE, "store key", end, make)
}

fn secret(data: &Path, file: &str, what: &str, advice: &str, make: bool) -> anyhow::Result<[u8; 32]> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("data: cannot make the folder {}", data.display()))?;
    let path = data.join(file);
    if make && !path.exists() {
        create(data, &path).with_context(|| format!("cannot make the {what} {}", path.display()))?;
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read the {what} {}", path.display()))?;
    let Ok(secret) = <[u8; 32]>::try_from(bytes.as_slice()) else {
        bail!("the {what} {} has {} bytes instead of 32; {advice}", path.display(), bytes.len());
    };
    Ok(secret)
}

/// Written aside and linked into place: two processes that start at once agree on one whole key.
fn create(data: &Path, path: &Path) -> anyhow::Result<()> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).ok().context("the system gives no random numbers")?;
    let aside = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e.into()),
        _ => Ok(File::open(data)?.sync_all()?),
    }
}
