// Runs in the page before its own scripts: writes down when each stage of joining is reached, in ms of performance.now(),
// into `window.__stages`. It looks on and changes nothing.

(() => {
  const stages = {};
  window.__stages = stages;
  const stamp = (stage, at = performance.now()) => {
    stages[stage] ??= at;
  };

  const clicked = event => {
    // When the browser got it, not when the page came to it.
    if (event.target.closest("[data-testid=join-button]")) stamp("click", event.timeStamp);
  };
  window.addEventListener("click", clicked, { capture: true });

  const realFetch = window.fetch;
  window.fetch = async (input, init) => {
    const path = new URL(input, location.href).pathname;
    const joins = init?.method === "POST" && path.endsWith("/participants");
    if (joins) stamp("posted");
    const response = await realFetch.call(window, input, init);
    if (joins) stamp("answered");
    else if (path.endsWith("/guest-token")) stamp("token");
    return response;
  };

  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    constructor(...args) {
      super(...args);
      stamp("connection made");
      this.addEventListener("iceconnectionstatechange", () => {
        if (this.iceConnectionState === "connected") stamp("ICE connected");
      });
      this.addEventListener("connectionstatechange", () => {
        if (this.connectionState === "connected") stamp("DTLS connected");
      });
    }
    async setLocalDescription(...args) {
      await super.setLocalDescription(...args);
      stamp("offer made");
    }
    async setRemoteDescription(...args) {
      await super.setRemoteDescription(...args);
      stamp("answer applied");
    }
    createDataChannel(...args) {
      const channel = super.createDataChannel(...args);
      channel.addEventListener("open", () => stamp("channel open"));
      channel.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "roster") stamp("people known");
        if (message.type === "slots" && message.slots.some(s => s.source === "camera")) stamp("slot assigned");
      });
      return channel;
    }
  };

  const looking = new WeakSet();
  const look = () => {
    const tile = document.querySelector("[data-testid=tile][data-self=false] video");
    if (tile) stamp("tile there");
    if (tile?.dataset.fresh === "true") stamp("picture shown");
    for (const video of document.querySelectorAll("video")) {
      if (looking.has(video)) continue;
      looking.add(video);
      video.requestVideoFrameCallback((_now, { receiveTime, presentationTime, rtpTimestamp }) => {
        if (rtpTimestamp === undefined) return; // One's own.
        stamp("picture received", receiveTime);
        stamp("picture", presentationTime);
      });
    }
  };
  const attributeFilter = ["data-fresh"];
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter });
})();
