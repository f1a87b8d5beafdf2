//! Settings of the account that others keep here: what was set while the server ran lasts as long as the streams do, wherever
//! those lie, and is sealed and bound to its name as their records are.

use object_store::path::Path;

use crate::crypt::DataKey;
use crate::error::Error;
use crate::keys::Account;
use crate::object::Objects;
use crate::sealed;
use crate::store::Store;

/// Settings are a page of text: what is longer is something else.
const MAX_BYTES: usize = 65_536;

fn key(account: &Account, name: &str) -> DataKey {
    account.key(&format!("settings {name}"))
}

/// Reads settings; `None`: nobody kept any.
pub(crate) async fn read(
    objects: &Objects,
    account: &Account,
    path: &Path,
    name: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let Some((object, _)) = objects.get(path).await? else { return Ok(None) };
    sealed::open_small(path, &key(account, name), &object).map(Some)
}

impl Store {
    /// What [`Store::write_settings`] has kept under this name; `None`: nothing yet.
    ///
    /// # Errors
    /// The storage, [`Error::Damaged`], [`Error::Key`]: it was not sealed here.
    pub async fn read_settings(&self, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
        read(&self.0.objects, &self.0.account, &self.0.layout.settings(name), name).await
    }

    /// Keeps settings under a name of small letters and `-`, instead of those that are there. They are durable when this
    /// returns, and either the old or the new ones are there whatever happens meanwhile.
    ///
    /// # Errors
    /// Longer than a page, the storage.
    pub async fn write_settings(&self, name: &'static str, plain: &[u8]) -> Result<(), Error> {
        if plain.len() > MAX_BYTES {
            return Err(Error::InvalidArgument(format!("settings: at most {MAX_BYTES} bytes")));
        }
        let path = self.0.layout.settings(name);
        let object = sealed::seal_small(&key(&self.0.account, name), 0, &path, plain);
        self.0.objects.replace(&path, object.into(), None).await.map(drop)
    }
}
