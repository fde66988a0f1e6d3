// What stands around the scene: time above, names at the left, the pointer, and the strip below.

function axisTicks() {
  const rough = (110 / scale()) / D.ticks, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((each) => each >= rough) * D.ticks;
  const ticks = [];
  for (let at = Math.ceil(Math.max(0, view.t0) / step) * step; at <= Math.min(view.t1, D.end); at += step) ticks.push(at);
  return ticks;
}

function drawAxis(c) {
  c.fillStyle = colours.paper;
  c.fillRect(0, 0, view.width, TOP);
  c.font = `11px ${FONT}`;
  const ticks = axisTicks(), step = ticks.length > 1 ? (ticks[1] - ticks[0]) / D.ticks : 1;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  c.fillStyle = colours.soft;
  c.textAlign = "center";
  for (const tick of ticks) if (xOf(tick) > GUTTER + 8) c.fillText(seconds(tick, digits), xOf(tick), 13);
  c.textAlign = "left";
  c.save();
  c.beginPath();
  c.rect(GUTTER, 0, view.width - GUTTER, TOP);
  c.clip();
  if (shown.cuts) labelCuts(c);
  c.restore();
  c.strokeStyle = colours.line;
  c.beginPath(); c.moveTo(0, TOP - 0.5); c.lineTo(view.width, TOP - 0.5); c.stroke();
}

function labelCuts(c) {
  let taken = -Infinity;
  c.font = `600 11px ${FONT}`;
  for (const cut of cutSides) {
    const x0 = xOf(cut.from), x1 = xOf(cut.to);
    if (x1 < GUTTER || x0 > view.width) continue;
    tint(colours.cut, 0.85, () => c.fillRect(x0, TOP - 5, Math.max(2, x1 - x0), 4), c);
    const x = Math.max(x0, GUTTER + 2), text = `✂ ${cut.label}`;
    if (x < taken) continue;
    c.fillStyle = colours.cut;
    c.fillText(text, x, TOP - 14);
    taken = x + c.measureText(text).width + 10;
  }
}

function drawGlass(pointer, hovered) {
  const [c] = sized(glass);
  const head = view.head ?? (pointer && pointer.x > GUTTER ? tickOf(pointer.x) : Math.min(view.t1, D.end - 1));
  if (view.head !== null) {
    const x = Math.max(GUTTER, xOf(view.head));
    c.fillStyle = colours.shade;
    c.fillRect(x, TOP, view.width - x, view.height);
    tint(colours.accent, 0.9, () => c.fillRect(x - 1, TOP, 2, view.height), c);
  } else if (pointer && pointer.x > GUTTER) {
    tint(colours.soft, 0.5, () => c.fillRect(Math.round(pointer.x), TOP, 1, view.height), c);
  }
  if (pointer && pointer.sweep !== undefined) tint(colours.accent, 0.16, () => c.fillRect(pointer.sweep, TOP, pointer.x - pointer.sweep, view.height), c);
  if (hovered && hovered.message !== undefined) highlight(c, hovered.message);
  if (hovered && hovered.bar !== undefined) {
    const box = barBox(hovered.bar);
    c.strokeStyle = colours.ink; c.lineWidth = 1.6;
    rounded(c, box.x - 1.5, box.y - 1.5, box.width + 3, box.height + 3, 4); c.stroke();
  }
  drawNames(c, Math.max(0, head));
}

function highlight(c, index) {
  const at = arrow(index);
  strokes(c, [at], colours.ink, 1, 2.4, true);
  tint(colours.ink, 1, () => { c.beginPath(); c.arc(at[0], at[1], 3.5, 0, 7); c.fill(); }, c);
}

function drawNames(c, tick) { // as the nodes are at that instant
  c.fillStyle = colours.paper;
  c.fillRect(0, TOP, GUTTER - 1, view.height);
  c.strokeStyle = colours.line; c.lineWidth = 1;
  c.beginPath(); c.moveTo(GUTTER - 0.5, TOP); c.lineTo(GUTTER - 0.5, view.height); c.stroke();
  c.save();
  c.beginPath(); c.rect(0, TOP, GUTTER, view.height); c.clip();
  D.lanes.forEach((name, lane) => {
    const y = railY(lane);
    if (y < TOP - 20 || y > view.height + 20) return;
    const { down, paused, follows, leads } = stateAt(lane, tick);
    const dim = down || (shown.lane !== null && shown.lane !== lane);
    c.fillStyle = leaderColour(lane);
    c.globalAlpha = dim ? 0.35 : 1;
    rounded(c, 10, y - 8, 4, 16, 2); c.fill();
    c.fillStyle = colours.ink;
    c.font = `${leads || shown.lane === lane ? 700 : 600} 13px ${FONT}`;
    c.fillText(fitted(c, name, leads ? 62 : 84), 20, y);
    c.globalAlpha = 1;
    if (leads) crown(c, GUTTER - 18, y + 1, 0.9);
    if (lanes.height[lane] < 30) return;
    c.font = `11px ${FONT}`;
    c.fillStyle = down ? colours.bad : colours.soft;
    const words = down ? "down" : paused ? "stands still" : follows ? `term ${follows[4]}` : D.traced[lane] ? "no leader" : "no trace";
    c.fillText(words, 20, y + 15);
  });
  c.restore();
}

function fitted(c, text, width) {
  if (c.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && c.measureText(short + "…").width > width) short = short.slice(0, -1);
  return short + "…";
}

// --- the strip below -----------------------------------------------------------------------------

const mapX = (tick, width) => GUTTER + (tick / D.end) * (width - GUTTER - 12);
const mapTick = (x, width) => ((x - GUTTER) / (width - GUTTER - 12)) * D.end;
let density = null;

function densities(width) { // how many messages of each group fall on each pixel
  const columns = Math.max(1, Math.floor(width - GUTTER - 12)), rows = GROUPS.map(() => new Uint32Array(columns));
  for (let index = 0; index < COUNT; index++) {
    const column = Math.min(columns - 1, Math.floor((M.at[index] / D.end) * columns));
    rows[GROUPS.indexOf(D.kinds[M.kind[index]][1])][column]++;
  }
  let high = 1;
  for (let column = 0; column < columns; column++) high = Math.max(high, rows.reduce((sum, row) => sum + row[column], 0));
  return { width, columns, rows, high };
}

function drawMap() {
  const [c, width, height] = sized(map);
  if (!density || density.width !== width) density = densities(width);
  const floor = height - 8, tall = height - 22;
  for (let column = 0; column < density.columns; column++) {
    let y = floor;
    GROUPS.forEach((group, row) => {
      const size = Math.sqrt(density.rows[row][column] / density.high) * tall;
      c.fillStyle = colours[group];
      c.fillRect(GUTTER + column, y - size, 1, size);
      y -= size;
    });
  }
  if (shown.cuts) for (const cut of cutSides) tint(colours.cut, 0.5, () => c.fillRect(mapX(cut.from, width), floor + 2, Math.max(1, mapX(cut.to, width) - mapX(cut.from, width)), 4), c);
  for (const [at, , kind] of D.events) if (kind === "crown") crown(c, mapX(at, width), 8, 0.55);
  const x0 = Math.max(GUTTER, mapX(view.t0, width)), x1 = Math.min(width - 6, mapX(view.t1, width));
  tint(colours.accent, 0.12, () => c.fillRect(x0, 0, x1 - x0, height), c);
  c.strokeStyle = colours.accent; c.lineWidth = 1.5; c.strokeRect(x0, 1, Math.max(2, x1 - x0), height - 2);
  c.font = `11px ${FONT}`; c.fillStyle = colours.soft; c.fillText("messages", 20, height / 2);
}
