//! What requests look like, against a server that is a function. `tests/e2e` has a real one.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::client::{HttpError, HttpService};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::key::{KEY_BYTES, KeyProvider, LocalKeys};
use crate::keyring::{Keyring, There};

const OF: &str = "v1/000000000000/ab/dek/0";

/// What a key of 32 bytes becomes: 60 bytes in base64.
fn ciphertext() -> String {
    format!("vault:v1:{}", "A".repeat(80))
}

type Seen = Arc<Mutex<Vec<HttpRequest>>>;

/// Gives each answer in turn, and keeps what it was asked.
#[derive(Debug)]
struct Fake {
    seen: Seen,
    answers: Mutex<Vec<(u16, String)>>,
}

#[async_trait]
impl HttpService for Fake {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.seen.lock().unwrap().push(request);
        let (status, body) = self.answers.lock().unwrap().remove(0);
        let mut answer = HttpResponse::new(body.into());
        *answer.status_mut() = status.try_into().unwrap();
        Ok(answer)
    }
}

fn config() -> Config {
    Config {
        address: "https://vault.example:8200/".into(),
        mount: "team/transit".into(),
        namespace: String::new(),
        token: "hvs.hunter2".into(),
        token_file: PathBuf::new(),
        ca_file: PathBuf::new(),
        allow_http: false,
        timeout: Duration::from_secs(3),
    }
}

fn vault(config: &Config, answers: &[(u16, &str)]) -> (Vault, Seen) {
    let seen = Seen::default();
    let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    let fake = Fake { seen: seen.clone(), answers: Mutex::new(answers) };
    (Vault::with_client(config, HttpClient::new(fake)).unwrap(), seen)
}

fn asked(request: &HttpRequest) -> (String, Value) {
    (request.uri().to_string(), serde_json::from_slice(request.body().as_bytes().unwrap()).unwrap())
}

#[tokio::test]
async fn a_data_key_is_sent_with_whose_it_is() {
    let plain = BASE64.encode(&[7; KEY_BYTES]);
    let decrypted = json!({ "data": { "plaintext": plain } }).to_string();
    let config = Config { namespace: "media/eu".into(), ..config() };
    let encrypted =
        json!({ "data": { "ciphertext": ciphertext(), "key_version": 1 }, "warnings": null }).to_string();
    let (vault, seen) = vault(&config, &[(200, &encrypted), (200, &decrypted)]);
    let blob = vault.encrypt("tenant", OF, &Secret([7; KEY_BYTES])).await.unwrap();
    assert_eq!(blob, ciphertext().as_bytes());
    assert_eq!(vault.decrypt("tenant", OF, &blob).await, Ok(Secret([7; KEY_BYTES])));
    let of = BASE64.encode(OF.as_bytes());
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen.iter().map(asked).collect::<Vec<_>>(),
        [
            (
                "https://vault.example:8200/v1/team/transit/encrypt/tenant".to_owned(),
                json!({ "plaintext": plain, "associated_data": of, "context": of })
            ),
            (
                "https://vault.example:8200/v1/team/transit/decrypt/tenant".to_owned(),
                json!({ "ciphertext": ciphertext(), "associated_data": of, "context": of })
            ),
        ]
    );
    let headers = seen[1].headers();
    assert!(headers["x-vault-token"] == "hvs.hunter2" && headers["x-vault-namespace"] == "media/eu");
    assert_eq!(headers["x-vault-request"], "true");
    assert!(!format!("{headers:?}{vault:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_answer_that_is_none_of_a_vault_is_no_key() {
    let made = |text: &str| json!({ "data": { "ciphertext": text } }).to_string();
    let (long, short) =
        (made(&format!("vault:v1:{}", "A".repeat(MAX_BLOB_BYTES))), made(&ciphertext()[..88]));
    let warns = json!(["Endpoint ignored these unrecognized parameters: [associated_data]"]);
    let unbound = json!({ "data": { "ciphertext": ciphertext() }, "warnings": warns }).to_string();
    for (body, expected) in [
        ("<html>", KeyError::Unavailable),
        (r#"{"data":{}}"#, KeyError::Unavailable),
        (&made(&"A".repeat(89)), KeyError::Validation),
        (&long, KeyError::Validation),
        (&short, KeyError::Validation),
        (&unbound, KeyError::Validation),
    ] {
        let (vault, _) = vault(&config(), &[(200, body)]);
        assert_eq!(vault.encrypt("a", OF, &Secret([7; KEY_BYTES])).await, Err(expected), "{body}");
        assert_eq!(vault.health(), KeyServer { away: false, calls: 1, failures: 1 });
    }
    let short = json!({ "data": { "plaintext": BASE64.encode(&[7; KEY_BYTES - 1]) } }).to_string();
    let (vault, seen) = vault(&config(), &[(200, &short)]);
    assert_eq!(vault.decrypt("a", OF, b"vault:v1:AAAA").await, Err(KeyError::Validation));
    assert_eq!(vault.decrypt("a", OF, &[0xff; 80]).await, Err(KeyError::Validation));
    assert_eq!(seen.lock().unwrap().len(), 1, "what is no text is not sent");
    assert_eq!(vault.health(), KeyServer { away: false, calls: 2, failures: 2 });
}

#[tokio::test]
async fn the_token_of_a_file_is_read_for_each_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let config = Config { token: String::new(), token_file: file.clone(), ..config() };
    let denied = (403, r#"{"errors":["permission denied"]}"#);
    let (vault, seen) = vault(&config, &[denied; 3]);
    for (text, sent) in [
        (None, None),
        (Some("hvs.one\n"), Some("hvs.one")),
        (Some("hvs.two"), Some("hvs.two")),
        (Some(""), None),
        (Some("two words"), None),
        (Some(&*"a".repeat(MAX_TOKEN_BYTES + 1)), None),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        seen.lock().unwrap().clear();
        assert_eq!(vault.decrypt("a", OF, b"vault:v1:AAAA").await, Err(KeyError::AccessDenied));
        let seen = seen.lock().unwrap();
        let tokens = seen.iter().map(|request| request.headers()["x-vault-token"].to_str().unwrap());
        assert_eq!(tokens.last(), sent);
    }
    assert_eq!(vault.health(), KeyServer { away: false, calls: 6, failures: 6 });
    std::fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(vault.decrypt("a", OF, b"vault:v1:AAAA").await, Err(KeyError::AccessDenied));
}

/// The token and the data key go to the server that was named, and nowhere else.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (here, there) = (listen().await, listen().await);
    let to = format!("http://{}/v1/transit/encrypt/a", there.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let address = format!("http://{}", here.local_addr().unwrap());
    let vault = Vault::new(&Config { address, allow_http: true, ..config() }).unwrap();
    let serves = async {
        loop {
            let (mut connection, _) = here.accept().await.unwrap();
            let mut some = [0; 4096];
            assert!(connection.read(&mut some).await.unwrap() > 0);
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        done = vault.encrypt("a", OF, &Secret([7; KEY_BYTES])) => assert_eq!(done, Err(KeyError::Unavailable)),
        () = serves => unreachable!(),
        _ = there.accept() => panic!("it went there"),
    }
}

async fn listen() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[test]
fn certificates_are_read_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str| Vault::new(&Config { ca_file: folder.path().join(name), ..config() });
    std::fs::write(folder.path().join("empty"), "").unwrap();
    std::fs::write(
        folder.path().join("broken"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for name in ["missing", "empty", "broken"] {
        assert!(matches!(with(name), Err(Error::InvalidArgument(_))), "{name}");
    }
}

/// A key moves there, and what another kind of server has wrapped under the same number is not sent.
#[tokio::test]
async fn a_local_key_moves_to_a_vault() {
    let decrypted = json!({ "data": { "plaintext": BASE64.encode(&[7; KEY_BYTES]) } }).to_string();
    let encrypted = json!({ "data": { "ciphertext": ciphertext() } }).to_string();
    let (vault, seen) = vault(&config(), &[(200, &encrypted), (200, &decrypted)]);
    let local = || LocalKeys::new("default", Secret([1; KEY_BYTES]));
    let there = Keyring::new(local()).with_vault(vault).with_key("default", 2, There::Vault("a".into()));
    let secret = Secret([7; KEY_BYTES]);
    let one = Keyring::new(local()).wrap("default", OF, &secret).await.unwrap();
    assert_eq!((there.unwrap("default", OF, &one).await, there.asks("default")), (Ok(secret.clone()), true));
    let two = there.wrap("default", OF, &secret).await.unwrap();
    assert!(there.is_newest("default", &two) && !there.is_newest("default", &one));
    assert_eq!(there.unwrap("default", OF, &two).await, Ok(secret.clone()));
    let other = [b"kms:", &two[4..]].concat();
    assert_eq!(
        (there.unwrap("default", OF, &other).await, there.is_newest("default", &other)),
        (Err(KeyError::NotFound), false)
    );
    let kms = Keyring::new(local()).with_key("default", 2, There::Kms("a".into()));
    assert_eq!(kms.unwrap("default", OF, &two).await, Err(KeyError::NotFound));
    assert_eq!(there.server(), Some(KeyServer { away: false, calls: 2, failures: 0 }));
    assert_eq!((seen.lock().unwrap().len(), kms.server()), (2, None));
}

#[test]
fn what_a_vault_cannot_be() {
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.check()
    };
    for good in [
        |_: &mut Config| (),
        |c: &mut Config| (c.address, c.allow_http) = ("http://[::1]:8200".into(), true),
        |c: &mut Config| (c.token, c.token_file) = (String::new(), "/run/token".into()),
        |c: &mut Config| c.namespace = "media/eu".into(),
    ] {
        assert_eq!(with(good), Ok(()));
    }
    type Change = fn(&mut Config);
    let address: [Change; 4] = [
        |c| c.address = String::new(),
        |c| c.address = "http://vault.example".into(),
        |c| c.address = "https://vault.example/ui".into(),
        |c| c.address = "https://xn--a".into(),
    ];
    let mount: [Change; 3] =
        [|c| c.mount = String::new(), |c| c.mount = "transit/".into(), |c| c.mount = "../sys".into()];
    let namespace: [Change; 1] = [|c| c.namespace = "a b".into()];
    let either: [Change; 2] = [|c| c.token = String::new(), |c| c.token_file = "/run/token".into()];
    let token: [Change; 1] = [|c| c.token = "two words".into()];
    for (named, bad) in [
        ("address: ", &address[..]),
        ("mount: ", &mount),
        ("namespace: ", &namespace),
        ("set either token", &either),
        ("token: ", &token),
    ] {
        for change in bad {
            let error = with(*change).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
    }
    for name in ["a", "tenant-a.1", "_x"] {
        assert!(is_key_name(name), "{name}");
    }
    for name in ["", "-a", "a/b", "a..b", "a?b", "ä", "a.", &"a".repeat(129)] {
        assert!(!is_key_name(name), "{name}");
    }
}
