//! The node's signing key: 32 random bytes in the data folder, made at the first start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use antiphon_api::Key;
use anyhow::{Context, bail};

/// Its file in the data folder.
const FILE: &str = "signing.key";

/// Reads the key; makes folder and key if there is none.
pub(crate) fn load_or_create(data: &Path) -> anyhow::Result<Key> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("data: cannot make the folder {}", data.display()))?;
    let path = data.join(FILE);
    if !path.exists() {
        create(data, &path).with_context(|| format!("cannot make the signing key {}", path.display()))?;
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read the signing key {}", path.display()))?;
    let Ok(secret) = <[u8; 32]>::try_from(bytes.as_slice()) else {
        bail!(
            "the signing key {} has {} bytes instead of 32; remove it to get a new one (all tokens end)",
            path.display(),
            bytes.len()
        );
    };
    Ok(Key::new(&secret))
}

/// Written aside and linked into place: two processes that start at once agree on one whole key.
fn create(data: &Path, path: &Path) -> anyhow::Result<()> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).ok().context("the system gives no random numbers")?;
    let aside = data.join(format!("{FILE}.{}", std::process::id()));
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
