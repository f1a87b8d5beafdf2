//! Janus VideoRoom over the plain HTTP JSON API (long polling).
use super::{MediaPlan, SdpPeer, Session, Signalling, SubSpec, http_agent};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Janus {
    base: String,
    room: u64,
    /// Extra fields for the room's "create" request.
    room_opts: Value,
    agent: ureq::Agent,
    seq: AtomicU64,
    plan: Mutex<Option<MediaPlan>>,
    admin: Mutex<Option<(u64, u64)>>,
    sessions: Mutex<Vec<u64>>,
}

impl Janus {
    pub fn new(base: &str, room: u64, room_opts: Value) -> Self {
        Janus {
            base: base.trim_end_matches('/').to_string(),
            room,
            room_opts,
            agent: http_agent(),
            seq: AtomicU64::new(1),
            plan: Mutex::new(None),
            admin: Mutex::new(None),
            sessions: Mutex::new(vec![]),
        }
    }

    fn post(&self, path: &str, mut body: Value) -> Result<Value> {
        let t = format!("t{}", self.seq.fetch_add(1, Ordering::Relaxed));
        body["transaction"] = json!(t);
        let mut r = self
            .agent
            .post(format!("{}{}", self.base, path))
            .header("Content-Type", "application/json")
            .send(body.to_string())
            .context("janus POST")?;
        let v: Value = serde_json::from_str(&r.body_mut().read_to_string()?)?;
        if v["janus"] == "error" {
            bail!("janus error: {v}");
        }
        Ok(v)
    }

    /// Long poll until an event satisfying `want` arrives.
    fn wait(&self, sid: u64, want: impl Fn(&Value) -> bool) -> Result<Value> {
        for _ in 0..200 {
            let mut r = self.agent.get(format!("{}/{}?maxev=1", self.base, sid)).call()?;
            let v: Value = serde_json::from_str(&r.body_mut().read_to_string()?)?;
            let d = &v["plugindata"]["data"];
            if v["janus"] == "error" || d["error_code"].is_number() {
                bail!("janus event error: {v}");
            }
            if want(&v) {
                return Ok(v);
            }
        }
        bail!("janus: expected event did not come")
    }

    fn open(&self) -> Result<(u64, u64)> {
        let sid = self.post("", json!({"janus":"create"}))?["data"]["id"]
            .as_u64()
            .ok_or_else(|| anyhow!("no session id"))?;
        let hid = self.post(
            &format!("/{sid}"),
            json!({"janus":"attach","plugin":"janus.plugin.videoroom"}),
        )?["data"]["id"]
            .as_u64()
            .ok_or_else(|| anyhow!("no handle id"))?;
        self.sessions.lock().unwrap().push(sid);
        Ok((sid, hid))
    }

    fn feed(publisher: usize) -> u64 {
        1000 + publisher as u64
    }
}

impl Signalling for Janus {
    fn prepare(&self, plan: &MediaPlan) -> Result<()> {
        *self.plan.lock().unwrap() = Some(*plan);
        let (sid, hid) = self.open()?;
        let mut body = json!({
            "request":"create","room":self.room,"publishers":1000,"bitrate":0,
            "audiocodec":"opus","videocodec":"vp8","notify_joining":false,"permanent":false});
        for (k, x) in self.room_opts.as_object().into_iter().flatten() {
            body[k] = x.clone();
        }
        let v = self.post(&format!("/{sid}/{hid}"), json!({"janus":"message","body":body}))?;
        if v["plugindata"]["data"]["videoroom"] != "created" {
            bail!("room not created: {v}");
        }
        *self.admin.lock().unwrap() = Some((sid, hid));
        Ok(())
    }

    fn publish(&self, publisher: usize, peer: &mut dyn SdpPeer) -> Result<Session> {
        let (sid, hid) = self.open()?;
        let offer = peer.make_offer(0, 0)?;
        self.post(
            &format!("/{sid}/{hid}"),
            json!({"janus":"message",
                "body":{"request":"joinandconfigure","ptype":"publisher","room":self.room,
                        "id":Self::feed(publisher),"display":format!("pub{publisher}")},
                "jsep":{"type":"offer","sdp":offer,"trickle":false}}),
        )?;
        let v = self.wait(sid, |v| v["jsep"]["type"] == "answer")?;
        let sdp = v["jsep"]["sdp"].as_str().ok_or_else(|| anyhow!("no sdp"))?;
        peer.accept_answer(sdp)?;
        Ok(sid.to_string())
    }

    fn subscribe(&self, spec: &SubSpec, peer: &mut dyn SdpPeer) -> Result<Session> {
        let (sid, hid) = self.open()?;
        let streams: Vec<Value> = spec.publishers.iter().map(|&p| json!({"feed": Self::feed(p)})).collect();
        self.post(
            &format!("/{sid}/{hid}"),
            json!({"janus":"message",
                "body":{"request":"join","ptype":"subscriber","room":self.room,
                        "streams":streams}}),
        )?;
        let v = self.wait(sid, |v| v["jsep"]["type"] == "offer")?;
        let sdp = v["jsep"]["sdp"].as_str().ok_or_else(|| anyhow!("no sdp"))?;
        let answer = peer.accept_offer(sdp)?;
        // "start" is answered by ack; media follows once ICE and DTLS are up.
        self.post(
            &format!("/{sid}/{hid}"),
            json!({"janus":"message","body":{"request":"start"},
                "jsep":{"type":"answer","sdp":answer,"trickle":false}}),
        )?;
        Ok(sid.to_string())
    }

    fn close(&self, session: &Session) {
        let _ = self.post(&format!("/{session}"), json!({"janus":"destroy"}));
        if let Ok(s) = session.parse::<u64>() {
            self.sessions.lock().unwrap().retain(|x| *x != s);
        }
    }

    fn keepalive(&self) {
        let all = self.sessions.lock().unwrap().clone();
        for s in all {
            let _ = self.post(&format!("/{s}"), json!({"janus":"keepalive"}));
        }
    }

    fn finish(&self) {
        if let Some((sid, hid)) = *self.admin.lock().unwrap() {
            let _ = self.post(
                &format!("/{sid}/{hid}"),
                json!({"janus":"message","body":{"request":"destroy","room":self.room}}),
            );
            let _ = self.post(&format!("/{sid}"), json!({"janus":"destroy"}));
        }
    }
}
