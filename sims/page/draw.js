// Draws the scene on two canvases: the base when the view changes, the glass when only the pointer moves.

const base = document.getElementById("base"), glass = document.getElementById("glass"), map = document.getElementById("map");
const QUICK = 7000, WHOLE = 80000, HEADS_MAX = 3000, STROKE_MAX = 3000;
const LOUD = { membership: 0.45, service: 0.45, placing: 0.8, tasks: 1.6, election: 1.9 }; // so that the rare is seen
let colours = {}, kindColours = [], hatch = null, stipple = null;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "soft", "faint", "line", "lane", "panel", "accent", "gold", "crown", "bad", "cut", "good",
    "hatch", "shade", "running", "succeeded", "failed", "timed_out", "cancelled", "interrupted", ...GROUPS];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const nth = {};
  kindColours = D.kinds.map(([, group]) => {
    const step = nth[group] = (nth[group] ?? -1) + 1;
    return shifted(colours[group], [0, 22, -22, 40, -40, 58, -58, 76][step % 8] * (group === "election" ? 0.5 : 1));
  });
  hatch = pattern((c, n) => { c.moveTo(-1, n + 1); c.lineTo(n + 1, -1); c.moveTo(-1, 1); c.lineTo(1, -1); c.moveTo(n - 1, n + 1); c.lineTo(n + 1, n - 1); });
  stipple = pattern((c, n) => { c.moveTo(n / 2, 0); c.lineTo(n / 2, n / 2); });
}

function shifted(hex, degrees) { // the same colour, a little further round the wheel
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const high = Math.max(r, g, b), low = Math.min(r, g, b), light = (high + low) / 2, spread = high - low || 1e-9;
  const full = spread / (1 - Math.abs(2 * light - 1) || 1);
  const hue = high === r ? ((g - b) / spread + 6) % 6 : high === g ? (b - r) / spread + 2 : (r - g) / spread + 4;
  return `hsl(${(hue * 60 + degrees + 360) % 360} ${full * 100}% ${light * 100 + degrees / 12}%)`;
}

function pattern(path) {
  const size = 8, tile = document.createElement("canvas"), ratio = 2;
  tile.width = tile.height = size * ratio;
  const c = tile.getContext("2d");
  c.scale(ratio, ratio);
  c.strokeStyle = colours.hatch;
  c.lineWidth = 1.1;
  c.beginPath();
  path(c, size);
  c.stroke();
  const made = base.getContext("2d").createPattern(tile, "repeat");
  if (made && made.setTransform && typeof DOMMatrix === "function") made.setTransform(new DOMMatrix().scale(1 / ratio));
  return made;
}

function sized(canvas) { // ready to draw on, in CSS pixels
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.textBaseline = "middle";
  return [c, width, height];
}

const FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";

function drawBase(quick) {
  const [c, width, height] = sized(base);
  if (view.width !== width || view.height !== height) { view.width = width; view.height = height; }
  layOut();
  c.fillStyle = colours.paper;
  c.fillRect(0, 0, width, height);
  c.save();
  c.beginPath();
  c.rect(GUTTER, TOP, width - GUTTER, height - TOP);
  c.clip();
  drawGround(c);
  if (shown.cuts) cutSides.forEach((cut) => drawCut(c, cut));
  drawStill(c);
  drawArrows(c, quick ? QUICK : WHOLE);
  drawRails(c);
  if (shown.tasks) drawBars(c);
  drawCrowns(c);
  c.restore();
  drawAxis(c);
}

function drawGround(c) {
  D.lanes.forEach((_, lane) => {
    const y = laneTop(lane);
    c.fillStyle = lane % 2 ? colours.lane : colours.paper;
    c.fillRect(GUTTER, y, view.width, lanes.height[lane]);
  });
  c.strokeStyle = colours.line;
  c.lineWidth = 1;
  c.beginPath();
  for (const tick of axisTicks()) { const x = Math.round(xOf(tick)) + 0.5; c.moveTo(x, TOP); c.lineTo(x, view.height); }
  c.stroke();
}

function tint(colour, alpha, paint, c) { c.save(); c.globalAlpha = alpha; c.fillStyle = c.strokeStyle = colour; paint(); c.restore(); }

function drawCut(c, cut) {
  const x = xOf(cut.from), width = xOf(cut.to) - x;
  if (x > view.width || x + width < GUTTER) return;
  for (const lane of cut.touched) {
    const side = cut.sideOf.get(lane);
    tint(side % 2 ? colours.election : colours.cut, side === cut.largest ? 0.07 : 0.16, () => c.fillRect(x, laneTop(lane), width, lanes.height[lane]), c);
  }
  tint(colours.cut, 0.75, () => {
    c.setLineDash([5, 4]);
    c.lineWidth = 1.2;
    c.beginPath();
    for (const edge of [x, x + width]) {
      const first = laneTop(cut.touched[0]), last = cut.touched[cut.touched.length - 1];
      c.moveTo(edge, first); c.lineTo(edge, laneTop(last) + lanes.height[last]);
    }
    c.stroke();
  }, c);
}

function drawStill(c) { // downtime hatched, standing still stippled
  const paint = (spans, fill) => spans.forEach(([lane, from, to]) => {
    const x = xOf(from), width = Math.max(1.5, xOf(to) - x);
    if (x > view.width || x + width < GUTTER) return;
    tint(colours.paper, 0.6, () => c.fillRect(x, laneTop(lane) + 2, width, lanes.height[lane] - 4), c);
    c.fillStyle = fill || colours.hatch;
    c.fillRect(x, laneTop(lane) + 2, width, lanes.height[lane] - 4);
  });
  paint(D.paused, stipple);
  paint(D.down, hatch);
}

// --- messages ------------------------------------------------------------------------------------

function drawArrows(c, budget) {
  const [from, to] = visible();
  let step = 1; // a power of two: what is left out while moving stays left out, and nothing flickers
  while ((to - from) / step > budget) step *= 2;
  const lines = D.kinds.map(() => []), lost = [], unseen = [];
  let count = 0;
  for (let index = Math.ceil(from / step) * step; index < to; index += step) {
    if (!wanted(index)) continue;
    const at = arrow(index);
    if (at[2] < GUTTER || at[0] > view.width || Math.max(at[1], at[3]) < TOP || Math.min(at[1], at[3]) > view.height) continue;
    count++;
    (M.took[index] !== LOST ? lines[M.kind[index]] : D.traced[M.to[index]] ? lost : unseen).push(at);
  }
  const strength = Math.max(0.1, Math.min(0.9, Math.sqrt(1800 / Math.max(1, count)))), heads = count < HEADS_MAX;
  const order = lines.map((_, kind) => kind).sort((a, b) => GROUPS.indexOf(D.kinds[a][1]) - GROUPS.indexOf(D.kinds[b][1]));
  for (const kind of order) {
    const loud = chosenTexts ? 2 : LOUD[D.kinds[kind][1]];
    strokes(c, lines[kind], kindColours[kind], Math.min(1, strength * loud), loud > 1 ? 1.4 : 0.9, heads);
  }
  c.setLineDash([2, 3]);
  strokes(c, unseen, colours.soft, strength * 0.6, 1, heads);
  c.setLineDash([]);
  strokes(c, lost, colours.bad, strength * 0.55, 1, false);
  if (heads) crosses(c, lost);
}

function strokes(c, lines, colour, alpha, width, heads) {
  if (!lines.length) return;
  c.save();
  c.globalAlpha = alpha;
  c.strokeStyle = c.fillStyle = colour;
  c.lineWidth = width;
  for (let start = 0; start < lines.length; start += STROKE_MAX) { // a path without end is slow to stroke
    c.beginPath();
    for (const [x0, y0, x1, y1] of lines.slice(start, start + STROKE_MAX)) { c.moveTo(x0, y0); c.lineTo(x1, y1); }
    c.stroke();
  }
  if (heads) { c.beginPath(); for (const line of lines) head(c, line); c.fill(); }
  c.restore();
}

function head(c, [x0, y0, x1, y1]) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 9) return;
  const ux = (x1 - x0) / length, uy = (y1 - y0) / length, bx = x1 - ux * 7, by = y1 - uy * 7;
  c.moveTo(x1, y1); c.lineTo(bx - uy * 2.6, by + ux * 2.6); c.lineTo(bx + uy * 2.6, by - ux * 2.6); c.closePath();
}

function crosses(c, lost) {
  tint(colours.bad, 0.9, () => {
    c.lineWidth = 1.5;
    c.beginPath();
    for (const [, , x, y] of lost) { c.moveTo(x - 3, y - 3); c.lineTo(x + 3, y + 3); c.moveTo(x - 3, y + 3); c.lineTo(x + 3, y - 3); }
    c.stroke();
  }, c);
}

// --- nodes ---------------------------------------------------------------------------------------

function drawRails(c) {
  c.lineCap = "round";
  D.lanes.forEach((_, lane) => {
    tint(colours.faint, 0.7, () => { c.lineWidth = 1.5; c.beginPath(); c.moveTo(GUTTER, railY(lane)); c.lineTo(view.width, railY(lane)); c.stroke(); }, c);
  });
  for (const [lane, from, to, leader] of D.follows) {
    const x0 = Math.max(GUTTER - 9, xOf(from)), x1 = Math.min(view.width + 9, xOf(to));
    if (x1 < x0) continue;
    const leads = leader === lane;
    if (leads) tint(colours.crown, 0.32, () => { c.lineWidth = 13; c.beginPath(); c.moveTo(x0, railY(lane)); c.lineTo(x1, railY(lane)); c.stroke(); }, c);
    c.strokeStyle = leaderColour(leader);
    c.lineWidth = leads ? 5 : 3;
    c.beginPath(); c.moveTo(x0, railY(lane)); c.lineTo(x1, railY(lane)); c.stroke();
  }
  c.lineCap = "butt";
  for (const [at, lane, kind] of D.events) if (lane !== null && (kind === "down" || kind === "up" || kind === "mark")) sign(c, xOf(at), railY(lane), kind);
}

function sign(c, x, y, kind) { // a fall, a rise, anything else that befell a node
  if (x < GUTTER - 6 || x > view.width + 6) return;
  c.lineWidth = 2;
  c.strokeStyle = kind === "down" ? colours.bad : kind === "up" ? colours.good : colours.soft;
  c.fillStyle = colours.paper;
  c.beginPath();
  c.arc(x, y, 4.5, 0, 7);
  c.fill(); c.stroke();
  if (kind === "down") { c.beginPath(); c.moveTo(x - 2, y - 2); c.lineTo(x + 2, y + 2); c.moveTo(x - 2, y + 2); c.lineTo(x + 2, y - 2); c.stroke(); }
  if (kind === "up") { c.fillStyle = colours.good; c.beginPath(); c.moveTo(x - 1.5, y - 2.5); c.lineTo(x + 2.5, y); c.lineTo(x - 1.5, y + 2.5); c.fill(); }
}

function drawCrowns(c) {
  c.font = `600 11px ${FONT}`;
  for (const [lane, from, to, leader, term] of D.follows) {
    if (leader !== lane) continue;
    const x0 = xOf(from), x1 = xOf(to), x = Math.max(x0, GUTTER + 12);
    if (x1 < GUTTER || x0 > view.width) continue;
    crown(c, x, railY(lane) - 8, 1);
    if (Math.min(x1, view.width) - x > 64) plate(c, x + 12, railY(lane) - 9, `term ${term}`, colours.gold);
  }
}

function crown(c, x, y, size) {
  c.save();
  c.translate(x, y);
  c.scale(size, size);
  c.beginPath();
  c.moveTo(-8, 4); c.lineTo(-9, -5); c.lineTo(-4, -1); c.lineTo(0, -8); c.lineTo(4, -1); c.lineTo(9, -5); c.lineTo(8, 4); c.closePath();
  c.fillStyle = colours.crown;
  c.strokeStyle = colours.paper;
  c.lineWidth = 1.5;
  c.stroke(); c.fill();
  c.restore();
}

function plate(c, x, y, text, colour) {
  const width = c.measureText(text).width;
  tint(colours.paper, 0.8, () => c.fillRect(x - 2, y - 7, width + 4, 13), c);
  c.fillStyle = colour;
  c.fillText(text, x, y);
}

// --- tasks ---------------------------------------------------------------------------------------

function drawBars(c) {
  c.font = `500 10px ${FONT}`;
  D.bars.forEach(([, from, to, task, attempt, state], index) => {
    if (to < view.t0 || from > view.t1) return;
    const { x, y, width, height } = barBox(index), faded = shown.task && shown.task !== task;
    c.save();
    c.globalAlpha = faded ? 0.16 : 0.95;
    c.fillStyle = colours[state];
    rounded(c, x, y, width, height, 3);
    c.fill();
    if (state === "interrupted" && width > 8) torn(c, x + width, y, height);
    if (attempt > 1) { c.strokeStyle = colours.ink; c.lineWidth = 1.2; c.setLineDash([2, 2]); c.stroke(); c.setLineDash([]); }
    if (width > 46) {
      const left = Math.max(x, GUTTER) + 5;
      c.beginPath();
      c.rect(left, y, x + width - left - 3, height);
      c.clip();
      c.fillStyle = "#fff";
      c.fillText(taskTail(task) + (attempt > 1 ? `  attempt ${attempt}` : ""), left, y + height / 2 + 0.5);
    }
    c.restore();
  });
}

function rounded(c, x, y, width, height, radius) {
  const r = Math.min(radius, width / 2);
  c.beginPath();
  c.moveTo(x + r, y); c.lineTo(x + width - r, y); c.quadraticCurveTo(x + width, y, x + width, y + r);
  c.lineTo(x + width, y + height - r); c.quadraticCurveTo(x + width, y + height, x + width - r, y + height);
  c.lineTo(x + r, y + height); c.quadraticCurveTo(x, y + height, x, y + height - r);
  c.lineTo(x, y + r); c.quadraticCurveTo(x, y, x + r, y); c.closePath();
}

function torn(c, x, y, height) {
  c.save();
  c.fillStyle = colours.paper;
  c.beginPath();
  c.moveTo(x + 1, y);
  for (let tooth = 0; tooth <= 4; tooth++) c.lineTo(x - (tooth % 2 ? 5 : 0), y + (height * tooth) / 4);
  c.lineTo(x + 1, y + height);
  c.fill();
  c.restore();
}
