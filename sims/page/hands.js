// What a person does with it: pointer, keys, the legend, the list of events, play.

const by = (id) => document.getElementById(id);
const stage = by("stage"), tip = by("tip");
let pointer = null, hovered = null, drag = null, dirty = { base: true, glass: true, map: true }, settle = 0, framed = false;

function redraw(what = "all") {
  dirty.glass = true;
  if (what !== "glass") dirty.base = dirty.map = true;
  if (!framed) { framed = true; requestAnimationFrame(frame); }
}

function frame(time) {
  framed = false;
  if (view.playing) advance(time);
  if (dirty.base) {
    drawBase(true);
    clearTimeout(settle); // moving is drawn quickly, resting is drawn whole
    settle = setTimeout(() => { drawBase(view.playing); drawGlass(pointer, hovered); }, 90);
  }
  if (dirty.map) { drawMap(); remember(); }
  if (dirty.base || dirty.glass) drawGlass(pointer, hovered);
  if (dirty.map) followEvents();
  dirty = { base: false, glass: false, map: false };
  by("clock").textContent = pointer && pointer.x > GUTTER ? seconds(tickOf(pointer.x), 4) : `${duration(view.t1 - view.t0)} shown`;
  if (view.playing) redraw();
}

function go(t0, t1) { look(t0, t1); redraw(); }

function zoom(factor, around = (view.t0 + view.t1) / 2) {
  go(around - (around - view.t0) * factor, around + (view.t1 - around) * factor);
}

const pan = (share) => { const by = (view.t1 - view.t0) * share; go(view.t0 + by, view.t1 + by); };
const fit = () => { view.y = 0; go(-D.end * 0.005, D.end * 1.01); };

// --- pointer -------------------------------------------------------------------------------------

function place(event) {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 18 : 1, { x } = place(event);
  if (event.shiftKey) { view.y += (event.deltaY || event.deltaX) * unit; redraw(); return; }
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { pan((event.deltaX * unit) / view.width); return; }
  zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * unit)) * 0.006), tickOf(Math.max(GUTTER, x)));
}, { passive: false });

stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  const at = place(event);
  drag = { ...at, t0: view.t0, t1: view.t1, top: view.y, moved: false, sweep: event.shiftKey };
  stage.setPointerCapture(event.pointerId);
});

stage.addEventListener("pointermove", (event) => {
  pointer = place(event);
  if (!drag) { hovered = under(pointer); tell(); redraw("glass"); return; }
  drag.moved ||= Math.hypot(pointer.x - drag.x, pointer.y - drag.y) > 4;
  if (!drag.moved) return;
  hovered = null;
  tell();
  if (drag.sweep) { pointer.sweep = drag.x; redraw("glass"); return; }
  stage.classList.add("drag");
  const by = ((drag.x - pointer.x) / (view.width - GUTTER)) * (drag.t1 - drag.t0);
  view.y = drag.top + drag.y - pointer.y;
  go(drag.t0 + by, drag.t1 + by);
});

stage.addEventListener("pointerup", (event) => {
  const was = drag, at = place(event);
  drag = null;
  stage.classList.remove("drag");
  if (!was) return;
  if (was.moved && was.sweep) go(tickOf(Math.min(was.x, at.x)), tickOf(Math.max(was.x, at.x)));
  else if (!was.moved) click(at);
});

stage.addEventListener("pointerleave", () => { if (!drag) { pointer = hovered = null; tell(); redraw("glass"); } });
stage.addEventListener("dblclick", (event) => zoom(0.35, tickOf(place(event).x)));

function under({ x, y }) {
  if (y < TOP) return null;
  const lane = laneAt(y);
  if (x < GUTTER) return lane < 0 ? null : { name: lane };
  if (shown.tasks) {
    for (let bar = D.bars.length - 1; bar >= 0; bar--) {
      const box = barBox(bar);
      if (x >= box.x - 1 && x <= box.x + box.width + 1 && y >= box.y && y <= box.y + box.height) return { bar };
    }
  }
  const message = nearest(x, y);
  if (message >= 0) return { message };
  return lane < 0 ? null : { lane };
}

function click(at) {
  const what = under(at);
  if (what && what.name !== undefined) shown.lane = shown.lane === what.name ? null : what.name;
  else if (what && what.bar !== undefined) { choose(shown.task === D.bars[what.bar][3] ? null : D.bars[what.bar][3]); tellStory(); }
  else if (shown.task) { choose(null); tellStory(); }
  redraw();
}

// --- the legend ----------------------------------------------------------------------------------

function chip(label, colour, count, box, on, toggle) {
  const button = document.createElement("button"), swatch = document.createElement("i"), small = document.createElement("small");
  button.className = `kind${on() ? "" : " off"}`;
  swatch.className = box ? "box" : "";
  swatch.style.background = colour;
  small.textContent = count === null ? "" : count.toLocaleString("en");
  button.append(swatch, label, small);
  button.setAttribute("aria-pressed", String(on()));
  button.addEventListener("click", (event) => { toggle(event); legend(); redraw(); });
  return button;
}

function group(name, toggle, ...chips) {
  const box = document.createElement("div"), bold = document.createElement("b");
  box.className = "group";
  bold.textContent = name;
  bold.addEventListener("click", () => { toggle(); legend(); redraw(); });
  box.append(bold, ...chips);
  return box;
}

const counted = D.kinds.map(() => 0);
let lostCount = 0;
for (let index = 0; index < COUNT; index++) { counted[M.kind[index]]++; if (M.took[index] === LOST && D.traced[M.to[index]]) lostCount++; }

function legend() {
  const parts = GROUPS.flatMap((name) => {
    const kinds = D.kinds.flatMap(([, of], kind) => (of === name ? [kind] : [])).sort((a, b) => counted[b] - counted[a]);
    if (!kinds.length) return [];
    const toggle = () => { const on = kinds.some((kind) => shown.kinds[kind]); kinds.forEach((kind) => { shown.kinds[kind] = !on; }); };
    return [group(name, toggle, ...kinds.map((kind) => chip(D.kinds[kind][0], kindColours[kind], counted[kind], false, () => shown.kinds[kind], (event) => {
      if (event.shiftKey) shown.kinds = shown.kinds.map((_, each) => each === kind);
      else shown.kinds[kind] = !shown.kinds[kind];
    })))];
  });
  const states = ["running", "succeeded", "failed", "timed_out", "cancelled", "interrupted"];
  const some = states.filter((state) => D.bars.some((bar) => bar[5] === state));
  const flip = (key) => () => { shown[key] = !shown[key]; };
  if (some.length) parts.push(group("processes", flip("tasks"), ...some.map((state) => chip(state.replace("_", " "), colours[state], D.bars.filter((bar) => bar[5] === state).length, true, () => shown.tasks, flip("tasks")))));
  const world = [];
  if (lostCount) world.push(chip("lost", colours.bad, lostCount, false, () => shown.lost, flip("lost")));
  if (D.cuts.length) world.push(chip("cuts", colours.cut, D.cuts.length, true, () => shown.cuts, flip("cuts")));
  if (world.length) parts.push(group("world", () => {}, ...world));
  by("legend").replaceChildren(...parts);
}

// --- play, theme, keys ---------------------------------------------------------------------------

let last = null;

function play(on = !view.playing) {
  view.playing = on;
  last = null;
  if (on && view.head === null) view.head = view.t1 >= D.end ? Math.max(0, view.t0) : (view.t0 + view.t1) / 2;
  if (on && view.t1 - view.t0 > D.ticks * 30) go(view.head - D.ticks * 8, view.head + D.ticks * 2);
  by("play").textContent = on ? "❚❚" : "▶";
  redraw();
}

function advance(time) {
  if (last !== null) view.head += ((time - last) / 1000) * D.ticks * Number(by("speed").value);
  last = time;
  const span = view.t1 - view.t0;
  if (view.head > view.t0 + span * 0.8 || view.head < view.t0) look(view.head - span * 0.8, view.head + span * 0.2);
  if (view.head >= D.end) { view.head = null; play(false); }
}

function theme(choice) {
  document.documentElement.dataset.theme = choice;
  readColours();
  legend();
  redraw();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const otherTheme = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));

function picture() {
  drawBase(false);
  const whole = document.createElement("canvas"), c = whole.getContext("2d");
  whole.width = base.width;
  whole.height = base.height;
  c.drawImage(base, 0, 0);
  c.drawImage(glass, 0, 0);
  const link = document.createElement("a");
  link.href = whole.toDataURL("image/png");
  link.download = `${D.title || "timeline"}.png`;
  link.click();
}

function panel() { by("side").classList.toggle("shut"); redraw(); }

function clear() { view.head = null; play(false); shown.lane = null; choose(null); tellStory(); redraw(); }

const KEYS = {
  ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), ArrowUp: () => { view.y -= 60; redraw(); }, ArrowDown: () => { view.y += 60; redraw(); },
  "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), f: fit, n: () => neighbour(1), p: () => neighbour(-1),
  " ": () => play(), e: panel, t: otherTheme, "?": () => by("keys").showModal(), Escape: clear,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT/.test(event.target.tagName) || by("keys").open) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});

// --- the strip below -----------------------------------------------------------------------------

let hold = null;

map.addEventListener("pointerdown", (event) => {
  const width = map.clientWidth, x0 = mapX(view.t0, width), x1 = mapX(view.t1, width), x = event.offsetX;
  const edge = Math.abs(x - x0) < 6 ? "left" : Math.abs(x - x1) < 6 ? "right" : "middle";
  if (edge === "middle" && (x < x0 || x > x1)) { const half = (view.t1 - view.t0) / 2, at = mapTick(x, width); go(at - half, at + half); }
  hold = { edge, x, t0: view.t0, t1: view.t1 };
  map.setPointerCapture(event.pointerId);
});

map.addEventListener("pointermove", (event) => {
  if (!hold) return;
  const by = mapTick(event.offsetX, map.clientWidth) - mapTick(hold.x, map.clientWidth);
  go(hold.edge === "right" ? hold.t0 : hold.t0 + by, hold.edge === "left" ? hold.t1 : hold.t1 + by);
});

map.addEventListener("pointerup", () => { hold = null; });

// --- begin ---------------------------------------------------------------------------------------

let hashed = 0;

function remember() { // a link to a file shows what was shown
  clearTimeout(hashed);
  hashed = setTimeout(() => {
    try { history.replaceState(null, "", `#${(view.t0 / D.ticks).toFixed(4)},${(view.t1 / D.ticks).toFixed(4)}`); } catch { /* a sandboxed page has no history */ }
  }, 300);
}

function begin() {
  by("title").textContent = D.title || "OpenClaw Mesh";
  document.title = `${D.title || "timeline"} · OpenClaw Mesh`;
  if (D.verdict) {
    by("verdict").textContent = D.verdict.ended;
    by("verdict").style.background = D.verdict.ended === "held" ? "var(--good)" : "var(--bad)";
    by("verdict").title = D.verdict.why.join("\n");
  }
  const more = D.left_out ? `, ${D.left_out.toLocaleString("en")} more not drawn` : "";
  by("facts").textContent = `${D.lanes.length} nodes · ${seconds(D.end, 0)} · ${COUNT.toLocaleString("en")} messages${more} · ${D.bars.length} processes`;
  for (const [id, action] of Object.entries({ play: () => play(), fit, panel, png: picture, theme: otherTheme, help: () => by("keys").showModal() })) by(id).addEventListener("click", action);
  by("search").addEventListener("input", filterEvents);
  by("events").addEventListener("scroll", placeEvents);
  if (window.innerWidth < 1000) by("side").classList.add("shut");
  const [t0, t1] = location.hash.slice(1).split(",").map(Number);
  look(...(t1 > t0 ? [t0 * D.ticks, t1 * D.ticks] : [-D.end * 0.005, D.end * 1.01]));
  new ResizeObserver(() => redraw()).observe(stage);
  theme(dark.matches ? "dark" : "light");
}

begin();
