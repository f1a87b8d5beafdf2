//! What lies in the folder tells nothing to who has no key; without retention nothing lies there.

use std::path::Path;

use antiphon_store::{Backend, NewStream, Start, Timecodes};

use crate::rig::{T0, cluster, files, header_of, name, open, pcm, persisted, read_all};

const CONTACT: &str = "5f2c1b7e-contact-of-a-caller";
const STREAM: &str = "prefix-connect-acme-contact-5f2c1b7e";

async fn call(root: &Path, retention_h: u32) -> antiphon_store::Store {
    let store = open(Backend::local(root).unwrap().with_journal(&root.join("journal")), T0).await;
    let tags = [("agent".to_owned(), "Jane Roe".to_owned())].into();
    let device_name = "device-of-acme".to_owned();
    let new = NewStream { name: STREAM.into(), retention_h, tags, device_name, ..NewStream::default() };
    store.create_stream(new, T0).await.unwrap();
    store
}

async fn talk(store: &antiphon_store::Store) {
    let (mut session, acks) = store.open_session(&name(STREAM), Timecodes::Absolute, T0).await.unwrap();
    session.of_a_contact();
    session.push(&header_of(CONTACT), T0).await.unwrap();
    for i in 0..3 {
        session.push(&cluster(T0 + i * 1024, 16), T0 + i * 1024).await.unwrap();
    }
    // The last is in the journal now, and what is stored before the next sync stays there with it.
    store.sync_journal(T0 + 3000);
    session.finish(true, T0 + 4000).await;
    persisted(acks).await;
}

#[tokio::test]
async fn no_sound_no_contact_and_no_name_can_be_found_in_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let store = call(root.path(), 24).await;
    talk(&store).await;
    let files = files(root.path());
    assert_eq!(
        files.iter().filter(|f| f.extension().is_some_and(|e| e == "journal")).count(),
        1,
        "{files:?}"
    );
    assert!(files.iter().filter(|f| f.components().any(|c| c.as_os_str() == "f")).count() == 3, "{files:?}");
    let (sound, last) = (pcm(T0, 5), pcm(T0 + 2048, 5));
    let secrets: [&[u8]; 7] = [
        CONTACT.as_bytes(),
        STREAM.as_bytes(),
        b"Jane Roe",
        b"device-of-acme",
        &sound[100..116],
        &last[100..116],
        b"VOICE",
    ];
    for file in files {
        let bytes = [std::fs::read(&file).unwrap(), file.to_string_lossy().as_bytes().to_vec()].concat();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|w| w == secret);
            assert!(!found, "{} in {}", String::from_utf8_lossy(secret), file.display());
        }
    }
    let made = root.path().join("made");
    drop(Backend::local(&made).unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(made).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[tokio::test]
async fn without_retention_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let store = call(root.path(), 0).await;
    let before = files(root.path());
    talk(&store).await;
    assert_eq!(files(root.path()), before);
    assert_eq!(read_all(&store, &name(STREAM), Start::Earliest, T0 + 4000).await.len(), 3);
    store.sweep(T0 + 5000).await;
    assert_eq!(files(root.path()), before);
}

#[tokio::test]
async fn a_deleted_stream_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let store = call(root.path(), 24).await;
    talk(&store).await;
    store.delete_stream(&name(STREAM), None).await.unwrap();
    store.sync_journal(T0 + 4200);
    let left: Vec<_> = files(root.path()).iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    assert_eq!(left, ["lock", "lock", "account"]);
}
