//! Plain WHIP (RFC 9725) for publishers and WHEP for subscribers.
//!
//! URL templates know `{room}`, `{pub}` and `{sub}`. If the WHEP template contains `{pub}`, a
//! subscriber opens one peer connection per publisher; otherwise it opens one peer connection
//! with one recvonly m-line per publisher and kind.
use super::{MediaPlan, SdpPeer, Session, Signalling, SubSpec, http_agent};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::sync::Mutex;

pub struct WhipWhep {
    pub urls: Urls,
    /// Rooms with their tokens; publisher `i` is in room `i / publishers_per_room`.
    pub rooms: Vec<(String, Option<String>)>,
    pub publishers_per_room: usize,
    /// The server takes the last of several video lines for a screen: offer one more than there are cameras.
    pub screen_line: bool,
    agent: ureq::Agent,
    plan: Mutex<MediaPlan>,
    /// The token of each session, to leave with.
    sessions: Mutex<HashMap<Session, Option<String>>>,
}

/// URL templates.
pub struct Urls {
    pub whip: String,
    pub whep: String,
    /// Where subscribers join with the web client's offer, instead of by WHEP.
    pub join: Option<String>,
}

impl WhipWhep {
    pub fn new(
        urls: Urls,
        rooms: Vec<(String, Option<String>)>,
        publishers_per_room: usize,
        screen_line: bool,
    ) -> Self {
        WhipWhep {
            urls,
            rooms,
            publishers_per_room,
            screen_line,
            agent: http_agent(),
            plan: Mutex::new(MediaPlan { publishers: 0, audio: true, video: true }),
            sessions: Mutex::default(),
        }
    }

    fn room_of(&self, publisher: usize) -> &(String, Option<String>) {
        &self.rooms[(publisher / self.publishers_per_room.max(1)).min(self.rooms.len() - 1)]
    }

    fn post(&self, url: &str, token: &Option<String>, offer: String) -> Result<(String, String)> {
        let mut req = self.agent.post(url).header("Content-Type", "application/sdp");
        if let Some(t) = token {
            req = req.header("Authorization", format!("Bearer {t}"));
        }
        let mut r = req.send(offer).with_context(|| format!("POST {url}"))?;
        let status = r.status().as_u16();
        let loc = r.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
        let body = r.body_mut().read_to_string()?;
        if status != 201 && status != 200 {
            bail!("POST {url}: status {status}: {body}");
        }
        let session = absolute(url, &loc);
        self.sessions.lock().unwrap().insert(session.clone(), token.clone());
        Ok((body, session))
    }
}

/// Resolve a Location header against the request URL.
fn absolute(url: &str, loc: &str) -> String {
    if loc.is_empty() || loc.contains("://") {
        return loc.to_string();
    }
    let scheme_end = url.find("://").map(|i| i + 3).unwrap_or(0);
    let host_end = url[scheme_end..].find('/').map(|i| i + scheme_end).unwrap_or(url.len());
    if loc.starts_with('/') {
        return format!("{}{}", &url[..host_end], loc);
    }
    let dir_end = url.rfind('/').filter(|i| *i >= host_end).unwrap_or(url.len());
    format!("{}/{}", &url[..dir_end], loc)
}

impl Signalling for WhipWhep {
    fn prepare(&self, plan: &MediaPlan) -> Result<()> {
        *self.plan.lock().unwrap() = *plan;
        Ok(())
    }

    fn publish(&self, publisher: usize, peer: &mut dyn SdpPeer) -> Result<Session> {
        let (room, token) = self.room_of(publisher);
        let url = self.urls.whip.replace("{room}", room).replace("{pub}", &publisher.to_string());
        let offer = peer.make_offer(0, 0)?;
        let (answer, loc) = self.post(&url, token, offer)?;
        peer.accept_answer(&answer)?;
        Ok(loc)
    }

    fn split(&self, publishers: &[usize]) -> Vec<Vec<usize>> {
        if self.urls.whep.contains("{pub}") {
            publishers.iter().map(|&p| vec![p]).collect()
        } else {
            vec![publishers.to_vec()]
        }
    }

    fn subscribe(&self, spec: &SubSpec, peer: &mut dyn SdpPeer) -> Result<Session> {
        let plan = *self.plan.lock().unwrap();
        let (room, token) = self.room_of(spec.publishers.first().copied().unwrap_or(0));
        let template = self.urls.join.as_ref().unwrap_or(&self.urls.whep);
        let mut url = template.replace("{room}", room).replace("{sub}", &spec.subscriber.to_string());
        if let [p] = spec.publishers[..] {
            url = url.replace("{pub}", &p.to_string());
        }
        let n = spec.publishers.len();
        let video = n + usize::from(self.screen_line && n > 1);
        let offer = peer.make_offer(if plan.audio { n } else { 0 }, if plan.video { video } else { 0 })?;
        let (answer, loc) = self.post(&url, token, offer)?;
        peer.accept_answer(&answer)?;
        Ok(loc)
    }

    fn close(&self, session: &Session) {
        if session.is_empty() {
            return;
        }
        let mut req = self.agent.delete(session);
        if let Some(Some(t)) = self.sessions.lock().unwrap().get(session) {
            req = req.header("Authorization", format!("Bearer {t}"));
        }
        let _ = req.call();
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;
    #[test]
    fn location_resolution() {
        assert_eq!(absolute("http://h:1/a/b", "/r/1"), "http://h:1/r/1");
        assert_eq!(absolute("http://h:1/a/b", "c"), "http://h:1/a/c");
        assert_eq!(absolute("http://h:1/a/b", "http://x/y"), "http://x/y");
        assert_eq!(absolute("http://h:1", "c"), "http://h:1/c");
        assert_eq!(absolute("http://h:1/a", ""), "");
    }
}
