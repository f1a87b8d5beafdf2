import { describe, expect, it } from "vitest";
import { grid, type Layout, type Rect, stage } from "../src/layout.js";

/** Every tile inside the area, none over another. */
function check(layout: Layout, count: number, width: number, height: number): void {
  expect(layout.rects.length + layout.hidden).toBe(count);
  for (const [i, a] of layout.rects.entries()) {
    expect(a.x).toBeGreaterThanOrEqual(-0.5);
    expect(a.y).toBeGreaterThanOrEqual(-0.5);
    expect(a.x + a.width).toBeLessThanOrEqual(width + 0.5);
    expect(a.y + a.height).toBeLessThanOrEqual(height + 0.5);
    for (const b of layout.rects.slice(i + 1)) expect(overlap(a, b)).toBe(false);
  }
}

function overlap(a: Rect, b: Rect): boolean {
  const e = 0.5;
  return (
    a.x + a.width - e > b.x && b.x + b.width - e > a.x && a.y + a.height - e > b.y && b.y + b.height - e > a.y
  );
}

describe("layout", () => {
  const sizes = [
    [344, 500],
    [640, 300],
    [1000, 760],
    [1400, 760],
    [200, 100],
  ] as const;
  it.each(sizes)("holds in %i x %i", (width, height) => {
    for (let count = 0; count <= 40; count++) {
      check(grid(count, width, height), count, width, height);
      check(stage(count, width, height), count, width, height);
    }
  });

  it("puts two side by side on a desktop and above each other on a phone", () => {
    const [left, right] = grid(2, 1400, 700).rects;
    expect(left?.y).toBe(right?.y);
    const [upper, lower] = grid(2, 344, 500).rects;
    expect(upper?.x).toBe(lower?.x);
  });

  it("leaves out nobody of six beside a shared screen on a desktop", () => {
    expect(stage(7, 1400, 760).hidden).toBe(0);
  });
});
