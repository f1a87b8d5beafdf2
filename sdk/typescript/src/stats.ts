// A short reading of RTCPeerConnection.getStats (W3C webrtc-stats).

import type { Slot } from "./lines.js";

/** What one slot has received so far. */
export interface SlotStats {
  mid: string;
  kind: Slot["kind"];
  participant: string | undefined;
  bytes: number;
  packets: number;
  packetsLost: number;
  jitterMs: number;
  /** Video only. */
  framesDecoded?: number | undefined;
  framesPerSecond?: number | undefined;
  width?: number | undefined;
  height?: number | undefined;
}

/** What is sent on one line, one layer. */
export interface SentStats {
  mid: string;
  rid: string | undefined;
  bytes: number;
  packets: number;
  width?: number | undefined;
  height?: number | undefined;
}

export interface RoomStats {
  /** Round trip of the connection, if measured yet. */
  rttMs: number | undefined;
  received: SlotStats[];
  sent: SentStats[];
}

/** Sums up a report for the slots of the connection it came from. */
export function readStats(report: RTCStatsReport, slots: ReadonlyMap<string, Slot>): RoomStats {
  const stats: RoomStats = { rttMs: undefined, received: [], sent: [] };
  for (const entry of report.values() as Iterable<RTCStats>) {
    if (entry.type === "inbound-rtp") {
      const inbound = entry as RTCInboundRtpStreamStats;
      const slot = slots.get(inbound.mid ?? "");
      if (slot) stats.received.push(received(inbound, slot));
    } else if (entry.type === "outbound-rtp") {
      const outbound = entry as RTCOutboundRtpStreamStats;
      stats.sent.push({
        mid: outbound.mid ?? "",
        rid: outbound.rid,
        bytes: outbound.bytesSent ?? 0,
        packets: outbound.packetsSent ?? 0,
        width: outbound.frameWidth,
        height: outbound.frameHeight,
      });
    } else if (entry.type === "candidate-pair") {
      const pair = entry as RTCIceCandidatePairStats;
      if (pair.nominated && pair.currentRoundTripTime !== undefined) {
        stats.rttMs = pair.currentRoundTripTime * 1000;
      }
    }
  }
  return stats;
}

function received(inbound: RTCInboundRtpStreamStats, slot: Slot): SlotStats {
  return {
    mid: slot.mid,
    kind: slot.kind,
    participant: slot.participant,
    bytes: inbound.bytesReceived ?? 0,
    packets: inbound.packetsReceived ?? 0,
    packetsLost: inbound.packetsLost ?? 0,
    jitterMs: (inbound.jitter ?? 0) * 1000,
    framesDecoded: inbound.framesDecoded,
    framesPerSecond: inbound.framesPerSecond,
    width: inbound.frameWidth,
    height: inbound.frameHeight,
  };
}
