// Where tiles stand: a grid, or one on the stage with the others in a filmstrip. Pure geometry, in CSS pixels.

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layout {
  /** One for each tile that is shown, in order. */
  rects: Rect[];
  /** Tiles that found no place. */
  hidden: number;
}

const GAP = 12;
const NARROW_GAP = 8;
/** Cameras are cut to between these shapes (width by height); beyond, faces get lost. */
const MIN_RATIO = 1;
const NARROW_MIN_RATIO = 0.8;
const MAX_RATIO = 16 / 9;
/** Below this a face tells nothing. */
const MIN_TILE_WIDTH = 120;
const MIN_TILE_HEIGHT = 90;
const MIN_STRIP_WIDTH = 80;
const MIN_STRIP_HEIGHT = 76;
/** Narrower than this is a phone held upright. */
export const NARROW = 640;

const gapOf = (width: number) => (width < NARROW ? NARROW_GAP : GAP);

/** The arrangement of `count` tiles that uses the most of the area. */
export function grid(count: number, width: number, height: number): Layout {
  const gap = gapOf(width);
  const maxColumns = Math.max(1, Math.floor((width + gap) / (MIN_TILE_WIDTH + gap)));
  const maxRows = Math.max(1, Math.floor((height + gap) / (MIN_TILE_HEIGHT + gap)));
  const shown = Math.min(count, maxColumns * maxRows);
  let best = { columns: 1, width: 0, height: 0, area: -1 };
  for (let columns = 1; columns <= Math.min(shown, maxColumns); columns++) {
    const rows = Math.ceil(shown / columns);
    if (rows > maxRows) continue;
    const cell = {
      width: (width - gap * (columns - 1)) / columns,
      height: (height - gap * (rows - 1)) / rows,
    };
    const tile = fit(cell.width, cell.height, width < NARROW ? NARROW_MIN_RATIO : MIN_RATIO);
    const area = tile.width * tile.height;
    if (area > best.area) best = { columns, ...tile, area };
  }
  const rows = Math.ceil(shown / best.columns);
  const top = (height - rows * best.height - (rows - 1) * gap) / 2;
  const rects = Array.from({ length: shown }, (_, i) => {
    const row = Math.floor(i / best.columns);
    const inRow = row === rows - 1 ? shown - row * best.columns : best.columns;
    const left = (width - inRow * best.width - (inRow - 1) * gap) / 2;
    return {
      x: left + (i % best.columns) * (best.width + gap),
      y: top + row * (best.height + gap),
      width: best.width,
      height: best.height,
    };
  });
  return { rects, hidden: count - shown };
}

/** The first tile large, the others in a strip: beside it in a wide area, below it in a tall one. */
export function stage(count: number, width: number, height: number): Layout {
  if (count <= 1) return { rects: count === 1 ? [{ x: 0, y: 0, width, height }] : [], hidden: 0 };
  const gap = gapOf(width);
  const beside = width >= NARROW && width > height;
  const strip = beside ? clamp(width * 0.19, 140, 240) : clamp(height * 0.2, 84, 150);
  // Small tiles shrink along the strip before any is left out.
  const length = beside ? height : width;
  const room = (length - gap * (count - 2)) / (count - 1);
  const along = beside
    ? clamp(room, MIN_STRIP_HEIGHT, (strip * 9) / 16)
    : clamp(room, MIN_STRIP_WIDTH, strip * 1.25);
  const tile = beside ? { width: strip, height: along } : { width: along, height: strip };
  const places = Math.floor((length + gap) / (along + gap) + 1e-6);
  const shown = Math.min(count - 1, Math.max(1, places));
  const used = shown * along + (shown - 1) * gap;
  const start = (length - used) / 2;
  const main = beside
    ? { x: 0, y: 0, width: width - strip - gap, height }
    : { x: 0, y: 0, width, height: height - strip - gap };
  const small = Array.from({ length: shown }, (_, i) =>
    beside
      ? { x: width - strip, y: start + i * (tile.height + gap), ...tile }
      : { x: start + i * (tile.width + gap), y: height - strip, ...tile },
  );
  return { rects: [main, ...small], hidden: count - 1 - shown };
}

function fit(width: number, height: number, minRatio: number): { width: number; height: number } {
  const ratio = clamp(width / height, minRatio, MAX_RATIO);
  return width / height > ratio ? { width: height * ratio, height } : { width, height: width / ratio };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
