// What there is to draw: the data, made quick to search, and where everything stands. No drawing here.
"use strict";

const D = JSON.parse(document.getElementById("data").textContent);
const M = D.messages, COUNT = M.at.length, LOST = -1;
const GROUPS = ["membership", "election", "placing", "tasks", "service"];
const GUTTER = 118, TOP = 46, RAIL = 15, BAR = 13, BAR_GAP = 3;
const PALETTE = ["#4e79d6", "#e5823a", "#3aa76d", "#c9518f", "#8a63d2", "#b8912b", "#2ba5b5", "#d8574f", "#7c9a3c", "#8c6d5a"];

const tookSorted = M.took.filter((took) => took !== LOST).sort((a, b) => a - b);
const TOOK_MAX = tookSorted.length ? tookSorted[tookSorted.length - 1] : 0;
const TOOK_USUAL = tookSorted.length ? tookSorted[tookSorted.length >> 1] : D.ticks / 1000;

const shown = {
  kinds: D.kinds.map(() => true), tasks: true, cuts: true, lost: true, lane: null, task: null,
};
const view = { t0: 0, t1: D.end, y: 0, width: 800, height: 400, playing: false, head: null };

function leaderColour(lane) {
  return lane < PALETTE.length ? PALETTE[lane] : `hsl(${(lane * 137.5) % 360} 55% 52%)`;
}

function lower(list, value) { // the first index that is not below value
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

// --- lanes: one row a task that runs beside others -----------------------------------------------

const barRows = [];
const laneRows = D.lanes.map(() => 0);
(() => {
  const ends = D.lanes.map(() => []);
  for (const [lane, from, to] of D.bars) {
    let row = ends[lane].findIndex((end) => end <= from);
    if (row < 0) row = ends[lane].length;
    ends[lane][row] = Math.max(to, from + 1);
    barRows.push(row);
    laneRows[lane] = Math.max(laneRows[lane], row + 1);
  }
})();

const lanes = { y: [], height: [], total: 0, bar: BAR };

function layOut() {
  const room = view.height - TOP - 8;
  const crowded = D.lanes.length * 30 > room;
  const least = (rows) => (crowded ? 18 : 34) + Math.min(rows, crowded ? 3 : 16) * (BAR + BAR_GAP);
  const natural = laneRows.map(least);
  const sum = natural.reduce((a, b) => a + b, 0);
  const extra = Math.max(0, Math.min(64, (room - sum) / Math.max(1, D.lanes.length)));
  let y = 0;
  D.lanes.forEach((_, lane) => {
    lanes.y[lane] = y;
    lanes.height[lane] = natural[lane] + extra;
    y += lanes.height[lane];
  });
  lanes.total = y;
  view.y = Math.max(0, Math.min(view.y, lanes.total - room));
}

const laneTop = (lane) => TOP + lanes.y[lane] - view.y;
const railY = (lane) => laneTop(lane) + RAIL;
const scale = () => (view.width - GUTTER) / (view.t1 - view.t0);
const xOf = (tick) => GUTTER + (tick - view.t0) * scale();
const tickOf = (x) => view.t0 + (x - GUTTER) / scale();
const laneAt = (y) => D.lanes.findIndex((_, lane) => y >= laneTop(lane) && y < laneTop(lane) + lanes.height[lane]);

function barBox(index) {
  const [lane, from, to] = D.bars[index];
  const row = barRows[index], deepest = lanes.height[lane] - RAIL - 10 - BAR;
  const y = railY(lane) + 10 + Math.min(row * (BAR + BAR_GAP), Math.max(0, deepest));
  const x = xOf(from);
  return { x, y, width: Math.max(3, xOf(to) - x), height: BAR };
}

// --- time ----------------------------------------------------------------------------------------

const SPAN_MIN = D.ticks / 2000;

function look(t0, t1) { // show this stretch, kept within bounds
  let span = Math.max(SPAN_MIN, Math.min(t1 - t0, D.end * 1.06));
  const middle = (t0 + t1) / 2, edge = D.end * 0.03;
  view.t0 = Math.max(-edge, Math.min(middle - span / 2, D.end + edge - span));
  view.t1 = view.t0 + span;
}

function seconds(tick, digits = 3) { return `${(tick / D.ticks).toFixed(digits)} s`; }

function duration(ticks) {
  const s = ticks / D.ticks;
  return s < 0.001 ? `${(s * 1e6).toFixed(0)} µs` : s < 1 ? `${(s * 1e3).toFixed(2)} ms` : `${s.toFixed(2)} s`;
}

function spanAt(spans, lane, tick) {
  return spans.find((span) => span[0] === lane && span[1] <= tick && tick < span[2]);
}

function stateAt(lane, tick) { // what a lane is at one instant
  const down = spanAt(D.down, lane, tick), paused = spanAt(D.paused, lane, tick);
  const follows = spanAt(D.follows, lane, tick);
  return { down, paused, follows, leads: !down && follows && follows[3] === lane };
}

// --- messages ------------------------------------------------------------------------------------

const taskTail = (task) => task.slice(task.lastIndexOf("-") + 1);
let chosenTexts = null; // the words that name the chosen task

function choose(task) {
  shown.task = task;
  const tail = task && taskTail(task);
  chosenTexts = task && new Set(D.texts.flatMap((text, index) => (text.split(" ").includes(tail) ? [index] : [])));
}

function wanted(index) {
  if (!shown.kinds[M.kind[index]]) return false;
  if (M.took[index] === LOST && !shown.lost) return false;
  if (shown.lane !== null && M.from[index] !== shown.lane && M.to[index] !== shown.lane) return false;
  return !chosenTexts || chosenTexts.has(M.text[index]);
}

function arrow(index) { // where it is drawn; a lost one ends on its way
  const took = M.took[index], x0 = xOf(M.at[index]), y0 = railY(M.from[index]), y1 = railY(M.to[index]);
  if (took !== LOST) return [x0, y0, xOf(M.at[index] + took), y1];
  const seen = D.traced[M.to[index]] ? 0.42 : 1;
  return [x0, y0, x0 + Math.max(5, TOOK_USUAL * scale()) * seen, y0 + (y1 - y0) * seen];
}

function visible() { // the indices between which everything visible stands
  return [lower(M.at, view.t0 - Math.max(TOOK_MAX, 10 / scale())), lower(M.at, view.t1)];
}

function nearest(x, y) { // the message under the pointer
  const reach = 6 / scale();
  const from = lower(M.at, tickOf(x) - Math.max(TOOK_MAX, TOOK_USUAL, 12 / scale()) - reach);
  const to = lower(M.at, tickOf(x) + reach);
  let best = -1, least = 6;
  for (let index = from; index < to; index++) {
    if (!wanted(index)) continue;
    const [x0, y0, x1, y1] = arrow(index);
    const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy || 1;
    const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length));
    const away = Math.hypot(x0 + along * dx - x, y0 + along * dy - y);
    if (away < least) { least = away; best = index; }
  }
  return best;
}

// --- cuts: which lanes are still together --------------------------------------------------------

const cutSides = D.cuts.map(([from, to, pairs]) => {
  const gone = new Set(pairs.map(([a, b]) => a * 65536 + b));
  const side = D.lanes.map((_, lane) => lane);
  const root = (lane) => (side[lane] === lane ? lane : (side[lane] = root(side[lane])));
  const touched = [...new Set(pairs.flat())].sort((a, b) => a - b);
  for (const a of touched) {
    for (const b of touched) {
      if (a < b && !(gone.has(a * 65536 + b) || gone.has(b * 65536 + a))) side[root(a)] = root(b);
    }
  }
  const roots = [...new Set(touched.map(root))];
  const oneWay = pairs.some(([a, b]) => !gone.has(b * 65536 + a));
  const names = roots.map((each) => touched.filter((lane) => root(lane) === each).map((lane) => D.lanes[lane]));
  const label = names.map((side) => (side.length > 4 ? `${side.length} nodes` : side.join(" "))).join(oneWay ? " ⇢✕ " : " ✕ ");
  const largest = names.reduce((best, side, index) => (side.length > names[best].length ? index : best), 0);
  return { from, to, touched, largest, sideOf: new Map(touched.map((lane) => [lane, roots.indexOf(root(lane))])), label, oneWay };
});
