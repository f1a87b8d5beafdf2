//! The master keys of the stored streams: `store.key` in the data folder, and those that the configuration names.

use std::collections::BTreeSet;
use std::path::Path;

use antiphon_store::key::{LocalKeys, Secret};
use antiphon_store::key_server::kms::{Kms, is_key_id};
use antiphon_store::key_server::vault::{Vault, is_key_name};
use antiphon_store::{Keyring, There};
use anyhow::{Context, bail, ensure};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::config::{Config, Store, StoreKey};
use crate::key;

/// The name of the key in the data folder, and its version.
const OWN: &str = "default";
const OWN_VERSION: u32 = 1;
/// Keys and versions: all are in memory. Who has more has a key server.
const MAX_KEYS: usize = 256;
/// As long as KmsKeyId may be, about; an ARN fits.
const MAX_NAME_BYTES: usize = 128;
const KEY_BYTES: usize = antiphon_store::key::KEY_BYTES;

/// Where a secret lies.
enum Source<'a> {
    File(&'a Path),
    Env(&'a str),
}

fn source(text: &str) -> anyhow::Result<Source<'_>> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(Path::new(path))),
        Some(("env", name)) if !name.is_empty() => Ok(Source::Env(name)),
        // It is not repeated: somebody may have written the secret there.
        _ => bail!("secret: file:PATH or env:NAME"),
    }
}

/// Whether the configuration's keys are some, as far as can be told without their secrets.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    let Store { keys, default_key, .. } = &config.store;
    ensure!(keys.len() <= MAX_KEYS, "store.keys: at most {MAX_KEYS}");
    let mut seen = BTreeSet::new();
    for key @ StoreKey { name, version, .. } in keys {
        let good = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        ensure!(good, "store.keys: a name has 1 to {MAX_NAME_BYTES} visible ASCII characters");
        ensure!(*version > 0, "store.keys: {name}: versions begin at 1");
        ensure!(seen.insert((name, version)), "store.keys: version {version} of {name} is there twice");
        check_place(key, &config.kms.region).with_context(|| format!("store.keys: {name}"))?;
    }
    if keys.iter().any(|key| !key.kms.is_empty()) {
        config.kms.settings().check().map_err(|e| anyhow::anyhow!("kms: {e}"))?;
    }
    if keys.iter().any(|key| !key.vault.is_empty()) {
        config.vault.settings().check().map_err(|e| anyhow::anyhow!("vault: {e}"))?;
    }
    let known = |name: &str| name == OWN || keys.iter().any(|key| key.name == name);
    ensure!(known(default_key), "store.default_key: no key {default_key:?} in store.keys");
    let wanted = &config.media_streaming.key;
    ensure!(wanted.is_empty() || known(wanted), "media_streaming.key: no key {wanted:?} in store.keys");
    Ok(())
}

/// Whether it says where the key is, and that can be.
fn check_place(StoreKey { secret, kms, vault, .. }: &StoreKey, region: &str) -> anyhow::Result<()> {
    let given = [secret, kms, vault].into_iter().filter(|place| !place.is_empty());
    ensure!(given.count() == 1, "either secret, kms or vault");
    if !kms.is_empty() {
        ensure!(is_key_id(kms), "kms: an id, an alias (alias/NAME) or an ARN");
        return check_region(kms, region);
    }
    if !vault.is_empty() {
        ensure!(is_key_name(vault), "vault: the name of a key of the transit engine");
        return Ok(());
    }
    source(secret).map(drop)
}

/// A key server knows the keys of its region only.
fn check_region(kms: &str, region: &str) -> anyhow::Result<()> {
    let Some(arn) = kms.strip_prefix("arn:") else { return Ok(()) };
    let of = arn.split(':').nth(2).unwrap_or_default();
    ensure!(of == region, "kms: the key is in the region {of:?}, and kms.region is {region:?}");
    Ok(())
}

/// The key provider. With `make` the data folder gets its key, if nothing else is the default.
pub(crate) fn open(config: &Config, make: bool) -> anyhow::Result<Keyring> {
    let given = &config.store.keys;
    let mut keys = Keyring::new(local(config, make)?);
    if given.iter().any(|key| !key.kms.is_empty()) {
        keys = keys.with_kms(Kms::new(&config.kms.settings()).context("kms")?);
    }
    if given.iter().any(|key| !key.vault.is_empty()) {
        keys = keys.with_vault(Vault::new(&config.vault.settings()).context("vault")?);
    }
    for key in given {
        if let Some(there) = there(key) {
            keys = keys.with_key(&key.name, key.version, there);
        }
    }
    Ok(keys)
}

/// On which server a key is, if it is on one.
fn there(StoreKey { kms, vault, .. }: &StoreKey) -> Option<There> {
    match (kms.is_empty(), vault.is_empty()) {
        (false, _) => Some(There::Kms(kms.clone())),
        (true, false) => Some(There::Vault(vault.clone())),
        (true, true) => None,
    }
}

/// Those that are in files and variables.
fn local(config: &Config, make: bool) -> anyhow::Result<LocalKeys> {
    let Store { keys: given, default_key, .. } = &config.store;
    let mut keys = LocalKeys::by_default(default_key);
    let mut secrets = BTreeSet::new();
    for StoreKey { name, version, secret, .. } in given.iter().filter(|key| there(key).is_none()) {
        let context = || format!("store.keys: version {version} of {name}");
        let secret = read(secret).with_context(context)?;
        ensure!(secrets.insert(secret), "store.keys: version {version} of {name} is the same as another key");
        keys = keys.with_version(name, *version, Secret(secret));
    }
    let own_is_wanted = default_key == OWN && given.iter().all(|key| key.name != OWN);
    if own_is_wanted || key::has_store(&config.data) {
        let own = key::store(&config.data, make && own_is_wanted)?;
        ensure!(secrets.insert(own), "store.keys: a key is the same as store.key in the data folder");
        let twice = given.iter().any(|key| key.name == OWN && key.version == OWN_VERSION);
        ensure!(
            !twice,
            "store.keys: version {OWN_VERSION} of {OWN} is store.key in the data folder: give another version"
        );
        keys = keys.with_version(OWN, OWN_VERSION, Secret(own));
    }
    Ok(keys)
}

fn read(text: &str) -> anyhow::Result<[u8; KEY_BYTES]> {
    match source(text)? {
        Source::File(path) => {
            let bytes =
                std::fs::read(path).with_context(|| format!("secret: cannot read {}", path.display()))?;
            parse(&bytes)
        }
        Source::Env(name) => {
            parse(std::env::var(name).with_context(|| format!("secret: no variable {name}"))?.as_bytes())
        }
    }
}

/// 32 bytes: as they are, as 64 hexadecimal digits, or as base64.
fn parse(bytes: &[u8]) -> anyhow::Result<[u8; KEY_BYTES]> {
    let whole = |bytes: Vec<u8>| <[u8; KEY_BYTES]>::try_from(bytes).ok();
    // A password is no key: 32 letters have a fraction of what 32 random bytes have.
    let raw = bytes.len() == KEY_BYTES && !bytes.iter().all(u8::is_ascii_graphic);
    let text = bytes.trim_ascii();
    let key = match text.len() {
        _ if raw => whole(bytes.to_vec()),
        64 => HEXLOWER_PERMISSIVE.decode(text).ok().and_then(whole),
        44 => BASE64.decode(text).ok().and_then(whole),
        _ => None,
    };
    key.context(
        "secret: 32 random bytes, 64 hexadecimal digits, or the same in base64 (`openssl rand -hex 32`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_store::key::{KeyError, KeyProvider};

    #[test]
    fn a_secret_is_32_bytes_in_one_of_three_forms() {
        let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        let (hex, base64) = (HEXLOWER_PERMISSIVE.encode(&key), BASE64.encode(&key));
        for good in
            [&key[..], hex.as_bytes(), hex.to_uppercase().as_bytes(), format!(" {base64}\n").as_bytes()]
        {
            assert_eq!(parse(good).unwrap(), key);
        }
        for bad in [&b""[..], b"secret", &[b'x'; 32], &[b'x'; 64], &[1; 31], &[1; 33], &hex.as_bytes()[1..]] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains("openssl rand") && !error.contains("secret\""), "{error}");
        }
    }

    fn key(name: &str, version: u32, path: &Path) -> StoreKey {
        StoreKey {
            name: name.into(),
            version,
            secret: format!("file:{}", path.display()),
            kms: String::new(),
            vault: String::new(),
        }
    }

    fn config(data: &Path, keys: Vec<StoreKey>, default_key: &str) -> Config {
        let mut config = Config { data: data.to_owned(), ..Config::default() };
        (config.store.keys, config.store.default_key) = (keys, default_key.to_owned());
        config
    }

    #[tokio::test]
    async fn the_key_of_the_data_folder_is_made_only_where_it_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("tenant"));
        std::fs::write(&file, "ab".repeat(32)).unwrap();
        let secret = Secret([5; 32]);
        let only = open(&config(&data, vec![key("tenant", 3, &file)], "tenant"), true).unwrap();
        assert!(!data.join("store.key").exists());
        assert_eq!(
            (only.default_key(), only.wrap(OWN, "a", &secret).await),
            ("tenant", Err(KeyError::NotFound))
        );
        // It is the default, and a newer version of it stands in for it.
        open(&config(&data, vec![key(OWN, 2, &file)], OWN), true).unwrap();
        assert!(!data.join("store.key").exists());
        assert!(open(&config(&data, vec![], OWN), false).is_err(), "looking makes none");
        let own = open(&config(&data, vec![key("tenant", 1, &file)], OWN), true).unwrap();
        assert!(data.join("store.key").exists());
        let wrapped = own.wrap(OWN, "a", &secret).await.unwrap();
        // Rotated, both are there; then the old one goes.
        let both = open(&config(&data, vec![key(OWN, 2, &file)], OWN), true).unwrap();
        assert_eq!(
            (both.unwrap(OWN, "a", &wrapped).await, both.is_newest(OWN, &wrapped)),
            (Ok(secret), false)
        );
        let twice = config(&data, vec![key(OWN, 1, &file)], OWN);
        assert!(format!("{:#}", open(&twice, true).err().unwrap()).contains("another version"));
        std::fs::copy(data.join("store.key"), &file).unwrap();
        let same = config(&data, vec![key("tenant", 1, &file)], OWN);
        assert!(format!("{:#}", open(&same, true).err().unwrap()).contains("the same"));
        std::fs::remove_file(&file).unwrap();
        let missing = format!("{:#}", open(&same, true).err().unwrap());
        assert!(missing.contains("version 1 of tenant") && missing.contains("cannot read"), "{missing}");
    }

    /// A key on a server: nothing is made here, nothing is asked at the start, and a key of the folder can move there.
    #[tokio::test]
    async fn a_key_of_the_server_may_be_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let there = |version, kms: &str| StoreKey {
            name: OWN.into(),
            version,
            kms: kms.into(),
            secret: String::new(),
            vault: String::new(),
        };
        let mut config = config(&data, vec![there(2, "alias/antiphon")], OWN);
        (config.kms.access_key_id, config.kms.secret_access_key) = ("id".into(), "hunter2".into());
        check(&config).unwrap();
        let only = open(&config, true).unwrap();
        assert!(only.asks(OWN) && !data.join("store.key").exists());
        let own = open(&Config { data: data.clone(), ..Config::default() }, true).unwrap();
        let wrapped = own.wrap(OWN, "a", &Secret([5; 32])).await.unwrap();
        let both = open(&config, true).unwrap();
        assert!(own.is_newest(OWN, &wrapped) && !both.is_newest(OWN, &wrapped) && !own.asks(OWN));
        assert_eq!(both.unwrap(OWN, "a", &wrapped).await, Ok(Secret([5; 32])));
        config.store.keys = vec![there(1, "alias/antiphon")];
        assert!(format!("{:#}", open(&config, true).err().unwrap()).contains("another version"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
