// The drawing: lanes, steps, and a mark for each event.
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function draw(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, typeof value === "number" ? Math.round(value * 10) / 10 : value);
  if (parent) parent.appendChild(node);
  return node;
}

function write(x, y, text, parent, more) {
  const node = draw("text", { x, y, ...more }, parent);
  node.textContent = text;
  return node;
}

const HEAD = 60;
const ROW = 24;
const GROUP = 34;
const FAULT = 18;
let axis = null;
let rows = new Map();

// Lanes to be seen, from top to bottom. With a pod chosen, those it talks with.
function layout(visible) {
  const used = new Set(visible.flatMap((it) => it.lanes));
  const keep = (lane) => {
    if (lane.kind === "group") return !state.node || lane.node === state.node || LANES.some((it) => it.kind === "pod" && it.node === lane.node && used.has(it.id)) || used.has(lane.id);
    if (state.pod) return used.has(lane.id) || plain(lane.pod) === state.pod;
    return used.has(lane.id) || (lane.node && (!state.node || lane.node === state.node));
  };
  // A fault's bar and its name need room beside those of the same level.
  const levels = [];
  for (const fault of visible.filter((it) => it.kind === "fault")) {
    const from = axis.x(fault.t0);
    let level = levels.findIndex((end) => end <= from);
    if (level < 0) level = levels.push(0) - 1;
    levels[level] = Math.max(axis.x(fault.t1), from + 14 + fault.title.length * 6.6);
    fault.level = level;
  }
  let y = levels.length ? levels.length * (FAULT + 3) + 10 : 6;
  rows = new Map();
  for (const lane of LANES.filter(keep)) {
    const height = lane.kind === "group" ? GROUP : ROW;
    rows.set(lane.id, { lane, y, height, middle: y + height / 2 });
    y += height;
  }
  return { height: y + 8, faultLevels: levels.length };
}

function render() {
  const scroll = byId("scroll");
  const narrow = window.innerWidth <= NARROW;
  const labels = narrow ? 108 : 190;
  scroll.style.setProperty("--labels", `${labels}px`);
  const room = Math.max(220, scroll.clientWidth - labels - 2);
  if (!state.zoom) {
    axis = makeAxis(room);
    state.zoom = Math.min(12, Math.max(1, axis.moments * 3.2 / room));
  }
  const width = Math.round(room * state.zoom);
  axis = makeAxis(width);
  const visible = EVENTS.filter(shown);
  const { height, faultLevels } = layout(visible);
  const chart = byId("chart");
  const top = byId("axis");
  chart.replaceChildren();
  top.replaceChildren();
  chart.setAttribute("width", width);
  chart.setAttribute("height", height);
  top.setAttribute("width", width);
  top.setAttribute("height", HEAD);
  drawGround(chart, top, width, height);
  drawLabels(faultLevels);
  const layers = ["fault", "talk", "drop", "key", "generation", "failure"];
  const groups = Object.fromEntries(layers.map((kind) => [kind, draw("g", {}, chart)]));
  for (const event of visible) {
    const parent = event.kind === "step" ? top : groups[event.kind];
    event.mark = MARKS[event.kind](event, parent, height);
    if (event.mark) {
      event.mark.classList.add("m");
      event.mark.dataset.kind = event.kind;
      event.mark.dataset.layer = event.layer;
      event.mark.dataset.i = event.i;
      if (event.frames) event.mark.dataset.frames = event.frames;
    }
  }
  for (const event of EVENTS) if (!shown(event)) event.mark = null;
  mark();
}

function drawGround(chart, top, width, height) {
  for (const { lane, y, height: tall, middle } of rows.values()) {
    if (lane.kind === "group") draw("rect", { x: 0, y, width, height: tall, class: "groupband" }, chart);
    else draw("line", { x1: 0, x2: width, y1: middle, y2: middle, class: "rowline" }, chart);
  }
  for (const it of DATA.pods) {
    const row = rows.get(`${it.node}|${it.pod}`);
    if (!row) continue;
    const end = it.to_ns === null ? DATA.end_ns : it.to_ns;
    draw("line", { x1: axis.x(it.from_ns), x2: axis.x(end), y1: row.middle, y2: row.middle, class: "life" }, chart);
  }
  DATA.steps.forEach((step, index) => {
    const [from, to] = [axis.x(step.from_ns), axis.x(step.to_ns)];
    if (index % 2) draw("rect", { x: from, y: 0, width: Math.max(1, to - from), height, class: "stepband" }, chart);
  });
  for (const [x, text] of axis.ticks()) {
    draw("line", { x1: x, x2: x, y1: 0, y2: height, class: "tick", opacity: 0.6 }, chart);
    draw("line", { x1: x, x2: x, y1: 20, y2: 26, class: "tick" }, top);
    write(x, 15, text, top);
  }
  for (const [x, text] of axis.gaps()) write(x, 31, text, top, { class: "gap", "text-anchor": "middle" });
}

function drawLabels(faultLevels) {
  const labels = byId("labels");
  labels.replaceChildren();
  const first = [...rows.values()][0];
  const head = document.createElement("div");
  head.style.height = `${first ? first.y : 6}px`;
  if (faultLevels) head.textContent = "faults";
  labels.appendChild(head);
  for (const { lane, height } of rows.values()) {
    const label = document.createElement("div");
    label.className = lane.kind + (lane.pod && state.pod === plain(lane.pod) || lane.kind === "group" && lane.node && lane.node === state.node ? " on" : "");
    label.style.height = `${height}px`;
    label.title = lane.label;
    const name = document.createElement("span");
    name.textContent = lane.label;
    label.appendChild(name);
    if (lane.vf) {
      const small = document.createElement("small");
      small.textContent = lane.vf;
      label.appendChild(small);
    }
    if (lane.pod) label.onclick = () => choose("pod", state.pod === plain(lane.pod) ? "" : plain(lane.pod));
    else if (lane.node) label.onclick = () => choose("node", state.node === lane.node ? "" : lane.node);
    labels.appendChild(label);
  }
}

// Where a mark stands. A conversation has a span of time, and a counter tells of a drop when it
// is over: both stand within it, the drop behind.
function placeOf(event) {
  if (event.kind === "talk") return axis.x(event.t0) * 0.65 + axis.x(event.t1) * 0.35;
  if (event.kind === "drop" && event.asked) return axis.x(event.asked[0]) * 0.35 + axis.x(event.asked[1]) * 0.65;
  return axis.x(event.t0);
}

const MARKS = {
  step(event, parent) {
    const [from, to] = [axis.x(event.t0), axis.x(event.t1)];
    const width = Math.max(5, to - from);
    const group = draw("g", { class: `step${event.wrong ? " bad" : ""}` }, parent);
    draw("rect", { x: from, y: 37, width, height: 18, rx: 4, class: "steprect" }, group);
    const text = event.title;
    const fits = Math.floor((width - 8) / 6.1);
    if (fits >= 3) write(from + 5, 50, text.length > fits ? `${text.slice(0, fits - 1)}…` : text, group);
    return group;
  },
  fault(event, parent, height) {
    const [from, to] = [axis.x(event.t0), axis.x(event.t1)];
    const y = 5 + event.level * (FAULT + 3);
    const width = Math.max(4, to - from);
    const group = draw("g", { class: "fault" }, parent);
    draw("rect", { x: from, y, width, height: FAULT, rx: 4 }, group);
    draw("rect", { x: from, y, width: 3, height: FAULT, class: "edge" }, group);
    write(from + 8, y + 13, event.title, group);
    const over = event.everywhere ? [{ y: 0, height }] : [...rows.values()].filter((it) => event.nodes.includes(it.lane.node));
    for (const it of over) draw("rect", { x: from, y: it.y, width, height: it.height, class: "shade" }, group);
    return group;
  },
  talk(event, parent) {
    const [from, to] = event.lanes.map((id) => rows.get(id));
    if (!from || !to) return null;
    const x = placeOf(event);
    const group = draw("g", { class: `talk ${event.layer}` }, parent);
    const down = to.middle >= from.middle ? 1 : -1;
    const [y1, y2] = [from.middle, to.middle];
    draw("line", { x1: x, x2: x, y1, y2, class: "l" }, group);
    draw("line", { x1: x, x2: x, y1, y2: y1 === y2 ? y2 + 1 : y2, class: "hit" }, group);
    draw("circle", { cx: x, cy: y1, r: 2.6, class: "f" }, group);
    if (event.layer === "deny") {
      // What no policy denied was lost on its way.
      const y = event.at === "egress" ? y1 + down * 7 : event.at ? y2 : (y1 + y2) / 2;
      draw("path", { d: `M${x - 3.4} ${y - 3.4}l6.8 6.8m0 -6.8l-6.8 6.8`, class: "x" }, group);
    } else if (y1 !== y2) {
      draw("path", { d: `M${x} ${y2}l-3.6 ${-6 * down}h7.2z`, class: "f" }, group);
    }
    if (event.wrong) draw("circle", { cx: x, cy: y2, r: 7, class: "ring" }, group);
    return group;
  },
  drop(event, parent) {
    const row = rows.get(event.lanes[0]);
    if (!row) return null;
    const x = placeOf(event);
    const size = 3.2 + Math.min(4, Math.log2(1 + event.frames) * 0.8);
    const y = row.middle + 4;
    return draw("path", { d: `M${x - size} ${y - size}h${2 * size}l${-size} ${size * 1.7}z`, class: "drop" }, parent);
  },
  key(event, parent) {
    const row = rows.get(event.lanes[0]);
    if (!row) return null;
    const x = axis.x(event.t0);
    const y = row.middle + (event.receive ? 4 : 11);
    const group = draw("g", { class: "key" }, parent);
    draw("circle", { cx: x, cy: y, r: 3, class: event.receive ? "" : "f" }, group);
    return group;
  },
  generation(event, parent) {
    const row = rows.get(event.lanes[0]);
    if (!row) return null;
    const x = axis.x(event.t0);
    const y = row.y + 10;
    const group = draw("g", { class: "generation" }, parent);
    draw("path", { d: `M${x} ${y - 5}l5 5l-5 5l-5 -5z` }, group);
    const near = EVENTS.some((it) => it.kind === "generation" && it.i > event.i && it.lanes[0] === event.lanes[0] && axis.x(it.t0) - x < 20);
    if (!near) write(x + 8, y + 4, event.short, group);
    return group;
  },
  failure(event, parent, height) {
    const x = axis.x(event.t0);
    const group = draw("g", { class: "failure" }, parent);
    draw("line", { x1: x, x2: x, y1: 0, y2: height }, group);
    draw("path", { d: `M${x} 0l6 10h-12z` }, group);
    return group;
  },
};

// Shows which mark is chosen.
function mark() {
  for (const it of document.querySelectorAll(".m.sel")) it.classList.remove("sel");
  const old = byId("cursor");
  if (old) old.remove();
  const event = state.chosen === null ? null : EVENTS[state.chosen];
  if (!event || !event.mark) return;
  event.mark.classList.add("sel");
  const x = placeOf(event);
  const chart = byId("chart");
  draw("line", { id: "cursor", x1: x, x2: x, y1: 0, y2: Number(chart.getAttribute("height")), class: "cursor" }, chart);
}
