// What it says in words: beside the pointer, a task's story, the list of events.

function lines(target, head, ...rest) {
  target.replaceChildren();
  const bold = document.createElement("b");
  bold.textContent = head;
  target.append(bold);
  for (const text of rest.filter(Boolean)) {
    const span = document.createElement("span");
    span.textContent = text;
    target.append(span);
  }
}

const named = (lane) => D.lanes[lane];

function tell() { // the words beside the pointer
  const words = hovered && describe(hovered);
  tip.hidden = !words;
  stage.classList.toggle("point", Boolean(hovered && (hovered.bar !== undefined || hovered.name !== undefined)));
  if (!words) return;
  lines(tip, ...words);
  const left = pointer.x + 18 + tip.offsetWidth > view.width ? pointer.x - 14 - tip.offsetWidth : pointer.x + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(pointer.y + 16, view.height - tip.offsetHeight - 6))}px`;
}

function describe(what) {
  if (what.message !== undefined) {
    const index = what.message, took = M.took[index];
    const end = took !== LOST ? `took ${duration(took)}` : D.traced[M.to[index]] ? "never arrived" : "no trace at the other end";
    return [`${D.kinds[M.kind[index]][0]}  ${named(M.from[index])} → ${named(M.to[index])}`, D.texts[M.text[index]], `${seconds(M.at[index], 5)}, ${end}`];
  }
  if (what.bar !== undefined) {
    const [lane, from, to, task, attempt, state, how] = D.bars[what.bar];
    return [`${taskTail(task)} on ${named(lane)}: ${state.replace("_", " ")}`, `attempt ${attempt}${how ? `, ${how}` : ""}`,
      `${seconds(from)} to ${seconds(to)}, ${duration(to - from)}`, "click for its story"];
  }
  if (what.lane === undefined) return null;
  const tick = tickOf(pointer.x), { down, paused, follows } = stateAt(what.lane, tick);
  const name = named(what.lane), cuts = cutSides.filter((cut) => cut.from <= tick && tick < cut.to && cut.touched.includes(what.lane));
  const cut = cuts.length && shown.cuts ? cuts.map((each) => `cut: ${each.label}`).join("; ") : "";
  if (down) return [`${name} is down`, down[3], `for ${duration(down[2] - down[1])}`, cut];
  if (paused) return [`${name} ${paused[3] || "stands still"}`, `for ${duration(paused[2] - paused[1])}`, cut];
  if (cut || Math.abs(pointer.y - railY(what.lane)) < 9) {
    return [name, follows ? `${follows[3] === what.lane ? "leads" : `follows ${named(follows[3])},`} term ${follows[4]}${follows[5] ? ` (${follows[5]})` : ""}` : "follows nobody", cut];
  }
  return null;
}

function tellStory() {
  const target = by("story"), task = shown.task;
  target.hidden = !task;
  if (!task) return;
  by("side").classList.remove("shut");
  const title = document.createElement("h2");
  title.textContent = `Task ${taskTail(task)}`;
  target.replaceChildren(title);
  const starts = D.bars.filter((bar) => bar[3] === task).map(([lane, from, , , attempt]) => [from, "process starts", lane, `attempt ${attempt}`]);
  const ends = D.bars.filter((bar) => bar[3] === task && bar[5] !== "running").map(([lane, , to, , , state, how]) => [to, "process ends", lane, `${state.replace("_", " ")}, ${how}`]);
  for (const [at, state, lane, why] of [...(D.moves[task] || []), ...starts, ...ends].sort((a, b) => a[0] - b[0])) {
    const row = document.createElement("p"), time = document.createElement("time"), what = document.createElement("em");
    time.textContent = seconds(at);
    what.textContent = state.replace("_", " ");
    row.append(time, what, [lane !== null ? `on ${named(lane)}` : "", why].filter(Boolean).join(", "));
    target.append(row);
  }
}

// --- the list of events --------------------------------------------------------------------------

const ROW = 24;
let listed = D.events;

function filterEvents() {
  const words = by("search").value.toLowerCase().split(" ").filter(Boolean);
  const text = ([, lane, kind, what]) => `${lane === null ? "" : named(lane)} ${kind} ${what}`.toLowerCase();
  listed = D.events.filter((event) => words.every((word) => text(event).includes(word)));
  placeEvents();
}

function placeEvents() { // only what is on the screen exists
  const box = by("events"), tall = by("tall");
  if (!box.clientHeight) return;
  tall.style.height = `${listed.length * ROW}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 2), last = first + Math.ceil(box.clientHeight / ROW) + 4;
  tall.replaceChildren(...listed.slice(first, last).map(([at, lane, kind, what], offset) => {
    const row = document.createElement("div"), time = document.createElement("time"), name = document.createElement("b"), text = document.createElement("span");
    row.className = `event ${kind}${at >= view.t0 && at <= view.t1 ? " seen" : ""}`;
    row.style.top = `${(first + offset) * ROW}px`;
    time.textContent = seconds(at);
    name.textContent = lane === null ? "" : named(lane);
    text.textContent = row.title = what;
    row.append(time, name, text);
    row.addEventListener("click", () => visit(at));
    return row;
  }));
}

function followEvents() { // the list shows what the picture shows
  const first = listed.findIndex((event) => event[0] >= view.t0), box = by("events");
  if (first >= 0 && !box.matches(":hover")) box.scrollTop = Math.max(0, first * ROW - ROW);
  placeEvents();
}

function visit(at) {
  const span = Math.min(view.t1 - view.t0, D.ticks * 4);
  go(at - span / 2, at + span / 2);
}

function neighbour(step) {
  const middle = (view.t0 + view.t1) / 2, times = listed.map((event) => event[0]);
  const found = step > 0 ? times.find((at) => at > middle + SPAN_MIN / 10) : times.filter((at) => at < middle - SPAN_MIN / 10).pop();
  if (found !== undefined) visit(found);
}
