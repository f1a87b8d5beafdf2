//! Storage that stops working at a chosen write, as a process that is killed does, or that is full or away for a while.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What the last write that is let through does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    Before,
    /// All, but its answer is lost.
    After,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    /// Writes that still succeed.
    pub(crate) left: Arc<AtomicI64>,
    cut: Cut,
    /// Refuses writes as a full disk does.
    pub(crate) full: Arc<AtomicBool>,
    /// Answers nothing, as a store behind a network that is gone.
    pub(crate) away: Arc<AtomicBool>,
    /// Refuses writes, as a store does to who has no right to them any more.
    pub(crate) refusing: Arc<AtomicBool>,
    /// Loses the answer of the next write.
    pub(crate) lost: Arc<AtomicBool>,
    /// Refuses to write whatever has one of these in its path.
    pub(crate) refused: Arc<Mutex<Vec<String>>>,
    /// How often a fragment was read.
    pub(crate) reads: Arc<AtomicU64>,
    /// So many of the next times it comes with a wrong bit, another one each time.
    pub(crate) bent: Arc<AtomicI64>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn io(kind: std::io::ErrorKind) -> Error {
    Error::Generic { store: "faulty", source: Box::new(std::io::Error::from(kind)) }
}

fn dead() -> Error {
    io(std::io::ErrorKind::BrokenPipe)
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, writes: i64, cut: Cut) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicI64::new(writes)),
            cut,
            full: Arc::default(),
            away: Arc::default(),
            refusing: Arc::default(),
            lost: Arc::default(),
            refused: Arc::default(),
            reads: Arc::default(),
            bent: Arc::default(),
        }
    }

    /// A fragment as it comes by a line that changes a bit of it.
    async fn bend(found: GetResult, which: u64) -> Result<GetResult> {
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let mut bytes = found.bytes().await?.to_vec();
        bytes[200] ^= 1 << (which % 8);
        let payload = futures_util::stream::once(std::future::ready(Ok(bytes.into()))).boxed();
        let extensions = Default::default();
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes, extensions })
    }

    /// Counts down; whether the write happens, and whether its answer arrives.
    fn write(left: &AtomicI64, cut: Cut) -> (bool, bool) {
        let left = left.fetch_sub(1, Ordering::SeqCst);
        (left > 0 || (left == 0 && cut == Cut::After), left > 0)
    }

    fn alive(&self) -> Result<()> {
        let away = self.away.load(Ordering::SeqCst);
        if away || self.left.load(Ordering::SeqCst) < 0 { Err(dead()) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io(std::io::ErrorKind::StorageFull));
        }
        let refused = self.refused.lock().unwrap().iter().any(|part| location.as_ref().contains(part));
        if refused || self.refusing.load(Ordering::SeqCst) {
            let (path, source) = (location.to_string(), "expired".into());
            return Err(Error::PermissionDenied { path, source });
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(dead());
        }
        let (happens, answers) = Self::write(&self.left, self.cut);
        if !happens {
            return Err(dead());
        }
        let result = self.inner.put_opts(location, payload, opts).await;
        let lost = self.lost.swap(false, Ordering::SeqCst);
        if answers && !lost { result } else { Err(dead()) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the store writes whole objects")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        let found = self.inner.get_opts(location, options).await?;
        if !location.as_ref().contains("/f/") {
            return Ok(found);
        }
        let which = self.reads.fetch_add(1, Ordering::SeqCst);
        let bent = self.bent.fetch_sub(1, Ordering::SeqCst) > 0;
        if bent { Self::bend(found, which).await } else { Ok(found) }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.alive()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, left, cut) = (self.inner.clone(), self.left.clone(), self.cut);
        let away = self.away.clone();
        let delete = move |path: Result<Path>| {
            let (inner, left, away) = (inner.clone(), left.clone(), away.clone());
            async move {
                let path = path?;
                if away.load(Ordering::SeqCst) {
                    return Err(dead());
                }
                let (happens, answers) = Self::write(&left, cut);
                if happens {
                    let one = futures_util::stream::once(std::future::ready(Ok(path.clone()))).boxed();
                    inner.delete_stream(one).next().await.unwrap()?;
                }
                if answers { Ok(path) } else { Err(dead()) }
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures_util::stream::once(std::future::ready(Err(e))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("the store lists whole folders")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("the store copies nothing")
    }
}
