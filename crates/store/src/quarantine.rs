//! A stored fragment that is damaged is set aside as it was found: out of the way of whoever reads or copies the stream's folder, there
//! for who wants to look at it, and still listed, so that readers are told of it also after the next start. It goes with its retention.

use bytes::Bytes;

use crate::error::Error;
use crate::index::Entry;
use crate::number::FragmentNumber;
use crate::object::Created;
use crate::store::Inner;
use crate::stream::Stream;

impl Inner {
    /// Sets a fragment aside that was found to be damaged. If the storage does not take it, it stays where it is, and is tried again
    /// when it is read again.
    pub(crate) async fn quarantine(&self, stream: &Stream, number: FragmentNumber, found: &Bytes) {
        match self.set_aside(stream, number, found).await {
            Ok(false) => {}
            Ok(true) => tracing::warn!(stream = %stream.uid, %number, "a damaged fragment was set aside"),
            Err(error) => tracing::warn!(%error, "a damaged fragment could not be set aside"),
        }
    }

    async fn set_aside(&self, stream: &Stream, number: FragmentNumber, found: &Bytes) -> Result<bool, Error> {
        // Neither deletion nor the removal of a contact comes between.
        let _gate = stream.gate.read().await;
        let entry = {
            let state = stream.state();
            state.index.get(number).filter(|e| state.active() && !e.aside).copied()
        };
        let Some(entry) = entry else { return Ok(false) };
        let from = self.layout.fragment(stream.uid, &entry);
        let to = self.layout.fragment(stream.uid, &Entry { aside: true, ..entry });
        // What came damaged once may have been damaged on its way: what lies there comes the same each time.
        let again = self.objects.get(&from).await?;
        if again.is_none_or(|(again, _)| again != *found) {
            return Ok(false);
        }
        if self.objects.create(&to, found.clone()).await? == Created::Exists {
            // Something else lies there under its name: two damaged ones are kept.
            return Ok(false);
        }
        if !stream.state().index.set_aside(number) {
            // Its retention ended meanwhile.
            self.objects.delete(&to).await?;
            return Ok(false);
        }
        self.objects.delete(&from).await?;
        Ok(true)
    }
}
