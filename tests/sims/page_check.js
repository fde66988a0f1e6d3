// Runs a timeline's script without a browser: a document that is just enough, and canvases that note every call.
// usage: node page_check.js timeline.html [calls.json]; prints what was drawn, as JSON.
"use strict";

const fs = require("fs");
const html = fs.readFileSync(process.argv[2], "utf8");
const data = html.match(/<script id="data" type="application\/json">([^]*?)<\/script>/)[1];
const script = html.match(/<\/script>\s*<script>([^]*?)<\/script>/)[1];
const style = Object.fromEntries([...html.matchAll(/--([a-z_]+): ([^;]+);/g)].reverse().map((m) => [m[1], m[2]]));

const SIZES = { base: [1280, 640], glass: [1280, 640], map: [1600, 58] };
const elements = {};

function context(canvas) {
  const state = { font: "10px x", fillStyle: "#000", strokeStyle: "#000", globalAlpha: 1, lineWidth: 1, textAlign: "left" }, stack = [], calls = canvas.calls;
  return new Proxy({}, {
    get(_, name) {
      if (name === "measureText") return (text) => ({ width: text.length * 6.2 });
      if (name === "createPattern") return () => ({ setTransform() {}, pattern: true });
      if (name in state) return state[name];
      return (...args) => {
        for (const each of args) if (typeof each === "number" && !Number.isFinite(each)) throw new Error(`${String(name)}(${args})`);
        if (name === "save") stack.push({ ...state });
        if (name === "restore") Object.assign(state, stack.pop());
        if (name === "clearRect") calls.length = 0;
        calls.push([name, ...args.map((each) => (typeof each === "object" ? JSON.stringify(each) : each)),
          ["fill", "stroke", "fillRect", "fillText", "strokeRect"].includes(name) ? { ...state } : null]);
      };
    },
    set(_, name, value) { state[name] = value; return true; },
  });
}

function element(id, tag = "div") {
  const listeners = {};
  const made = {
    id, tagName: tag.toUpperCase(), style: {}, dataset: {}, children: [], calls: [], value: "", scrollTop: 0, hidden: false, className: "",
    clientWidth: (SIZES[id] || [1280])[0], clientHeight: (SIZES[id] || [0, 400])[1], offsetWidth: 100, offsetHeight: 40,
    classList: { add() {}, remove() {}, toggle() {} }, open: false,
    append(...each) { made.children.push(...each); }, replaceChildren(...each) { made.children = each; },
    setAttribute() {}, setPointerCapture() {}, showModal() {}, click() { made.fire("click", {}); },
    addEventListener(name, action) { (listeners[name] ||= []).push(action); },
    fire(name, event) { for (const action of listeners[name] || []) action({ preventDefault() {}, target: made, ...event }); },
    matches: () => false, getBoundingClientRect: () => ({ left: 0, top: 0 }), getContext: () => (made.context ||= context(made)), toDataURL: () => "",
  };
  return made;
}

const frames = [];
const root = element("root");
const get = (id) => (elements[id] ||= element(id));
get("data").textContent = data;
get("speed").value = "5";
const page = element("document");
const names = {
  document: { documentElement: root, getElementById: get, createElement: (tag) => element("", tag), addEventListener: page.addEventListener },
  window: { devicePixelRatio: 1, innerWidth: 1600 }, location: { hash: "" }, history: { replaceState() {} },
  getComputedStyle: () => ({ getPropertyValue: (name) => style[name.slice(2)] || "" }),
  matchMedia: () => ({ matches: false, addEventListener() {} }), requestAnimationFrame: (action) => frames.push(action),
  setTimeout: (action) => { frames.push(action); return 0; }, clearTimeout() {}, ResizeObserver: class { observe() {} },
};
let clock = 0;
const run = (most = 40) => { for (let turn = 0; turn < most && frames.length; turn++) frames.splice(0).forEach((action) => action((clock += 16))); };

const peek = new Function(...Object.keys(names), `${script}\nreturn { view, D, look, redraw, choose, xOf, barBox, arrow };`)(...Object.values(names));
run();
const [from, to] = (process.argv[4] || "").split(",").map(Number);
if (to > from) { peek.look(from * peek.D.ticks, to * peek.D.ticks); peek.redraw(); run(); }

const texts = (id) => get(id).calls.filter(([name]) => name === "fillText").map(([, text]) => text);
const count = (id, name) => get(id).calls.filter((call) => call[0] === name).length;
const report = {
  names: texts("glass"), axis: texts("base"), lines: count("base", "lineTo"), fills: count("base", "fillRect"),
  events: get("tall").children.length, legend: get("legend").children.length, verdict: get("verdict").textContent, facts: get("facts").textContent,
};
if (process.argv[3]) fs.writeFileSync(process.argv[3], JSON.stringify({ base: get("base").calls, glass: get("glass").calls, map: get("map").calls }));

// Everything that a hand can do, once; nothing may throw and no number may be lost on the way.
for (let x = 130; x < 1280; x += 31) for (let y = 50; y < 640; y += 17) get("stage").fire("pointermove", { clientX: x, clientY: y });
for (const deltaY of [-400, -400, 300]) { get("stage").fire("wheel", { deltaY, deltaX: 0, deltaMode: 0, clientX: 600, clientY: 200 }); run(); }
if (peek.D.bars.length) {
  const box = peek.barBox(0);
  get("stage").fire("pointerdown", { button: 0, clientX: box.x + 1, clientY: box.y + 3 });
  get("stage").fire("pointerup", { clientX: box.x + 1, clientY: box.y + 3 });
}
for (const key of ["f", "n", "p", "+", "-", "ArrowLeft", "ArrowRight", "t", " ", "e", "Escape"]) { page.fire("keydown", { key, target: root }); run(); }
get("map").fire("pointerdown", { offsetX: 900 });
get("map").fire("pointermove", { offsetX: 950 });
get("png").fire("click", {});
run();
console.log(JSON.stringify(report));
