// Everything around the drawing: facts, legend, what is chosen, reasons, pairs, the list.
function make(name, text, parent, type) {
  const node = document.createElement(name);
  if (text !== null && text !== undefined) node.textContent = text;
  if (type) node.className = type;
  if (parent) parent.appendChild(node);
  return node;
}

const count = (layer) => EVENTS.filter((it) => it.layer === layer).length;

function facts() {
  byId("name").textContent = DATA.scenario;
  byId("description").textContent = DATA.description;
  const verdict = byId("verdict");
  verdict.textContent = DATA.ok ? "every check held" : "a check failed";
  verdict.classList.add(DATA.ok ? "ok" : "bad");
  const probes = DATA.talks.filter((it) => it.probe);
  const frames = DATA.drops.reduce((sum, it) => sum + it.frames, 0);
  const told = [
    [probes.length, "probes"], [probes.filter((it) => it.probe.verdict === "allow").length, "allowed"],
    [frames, "frames dropped"], [DATA.generations.length, "generations"], [DATA.keys.filter((it) => it.way === "send").length, "fresh keys"],
    [DATA.faults.length, "faults"], [span(DATA.end_ns), "of virtual time"], [DATA.seed, "seed"],
  ];
  for (const [number, word] of told) {
    const fact = make("div", null, byId("facts"));
    make("b", String(number), fact);
    make("span", word, fact);
  }
  if (DATA.talks_left_out) make("p", `${DATA.talks_left_out} more conversations are not drawn.`, byId("facts"));
}

function swatch(layer, parent) {
  const svg = draw("svg", { viewBox: "0 0 18 14" }, parent);
  const talk = ["allow", "clear", "deny", "other"].includes(layer);
  const group = draw("g", { class: talk ? `talk ${layer}` : layer === "wrong" ? "talk" : layer }, svg);
  if (talk) {
    draw("line", { x1: 2, x2: 13, y1: 7, y2: 7, class: "l" }, group);
    if (layer === "deny") draw("path", { d: "M11 4l6 6m0 -6l-6 6", class: "x" }, group);
    else draw("path", { d: "M17 7l-6 -3.6v7.2z", class: "f" }, group);
  } else if (layer === "wrong") draw("circle", { cx: 9, cy: 7, r: 5, class: "ring" }, group);
  else if (layer === "drop") draw("path", { d: "M3 3h12l-6 9z" }, group);
  else if (layer === "generation") draw("path", { d: "M9 1l6 6l-6 6l-6 -6z" }, group);
  else if (layer === "key") { draw("circle", { cx: 5, cy: 7, r: 3 }, group); draw("circle", { cx: 13, cy: 7, r: 3, class: "f" }, group); }
  else draw("rect", { x: 1, y: 2, width: 16, height: 10, rx: 3, class: "edge" }, group);
}

function legend() {
  const box = byId("legend");
  box.replaceChildren();
  for (const [layer, name] of LAYERS) {
    const number = layer === "wrong" ? EVENTS.filter((it) => it.wrong && it.kind !== "step").length : count(layer);
    if (!number) continue;
    const button = make("button", null, box);
    button.type = "button";
    button.dataset.legend = layer;
    button.dataset.count = number;
    button.setAttribute("aria-pressed", String(!state.off.has(layer)));
    swatch(layer, button);
    make("span", name, button);
    make("i", String(number), button);
    button.onclick = () => {
      if (state.off.has(layer)) state.off.delete(layer); else state.off.add(layer);
      update();
    };
  }
}

function options(id, all, values, chosen) {
  const select = byId(id);
  select.replaceChildren();
  for (const value of ["", ...values]) {
    const option = make("option", value || all, select);
    option.value = value;
    option.selected = value === chosen;
  }
}

function choices() {
  const pods = new Set(DATA.pods.map((it) => plain(it.pod)));
  for (const talk of DATA.talks) { pods.add(talk.from); pods.add(talk.to); }
  options("by-node", "all", DATA.nodes, state.node);
  options("by-pod", "all", [...pods].sort(), state.pod);
  options("by-reason", "all", DATA.reasons.map((it) => it.name), state.reason);
}

function detail() {
  const box = byId("detail");
  box.replaceChildren();
  const event = state.chosen === null ? null : EVENTS[state.chosen];
  box.classList.toggle("idle", !event);
  document.body.classList.toggle("pinned", Boolean(event && state.pinned));
  if (!event) {
    make("p", "Point at a mark, or tap it. With the keyboard: go to the timeline and press the arrows.", box, "hint");
    return;
  }
  const long = event.t1 > event.t0;
  const when = event.since !== undefined && event.since < event.t0 ? `between ${moment(event.since)} and ${moment(event.t0)}` : moment(event.t0);
  make("div", `${event.kind === "talk" ? "conversation" : event.kind} · ${when}`, box, "kind");
  make("h3", event.title, box);
  const list = make("dl", null, box);
  const row = (key, value) => { make("dt", key, list); make("dd", value, list); };
  for (const [key, value] of event.rows) row(key, value);
  if (event.kind === "talk" && long) row("at rest after", span(event.t1 - event.t0));
  if (event.step !== undefined && event.kind !== "step") row("step", stepName(event.step));
  const lost = event.kind === "talk" ? DATA.drops.filter((it) => it.talk === event.made - DATA.steps.length) : [];
  for (const it of lost) row("dropped", `${plural(it.frames, "frame")} at ${it.port} of ${it.node}: ${it.reason}`);
  const go = make("div", null, box, "go");
  for (const [text, by] of [["← Before", -1], ["After →", 1]]) {
    const button = make("button", text, go);
    button.type = "button";
    button.onclick = () => walk(by, false);
  }
  const close = make("button", "Close", go);
  close.type = "button";
  close.onclick = () => pick(null, false);
}

function why() {
  const box = byId("why");
  box.replaceChildren();
  const sums = new Map();
  for (const it of DATA.drops) sums.set(it.reason, (sums.get(it.reason) || 0) + it.frames);
  const most = Math.max(1, ...sums.values());
  for (const [name, frames] of [...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))) {
    const button = make("button", null, box, `why${state.reason === name ? " on" : ""}`);
    button.type = "button";
    button.dataset.reason = name;
    button.dataset.frames = frames;
    const text = DATA.reasons.find((it) => it.name === name);
    button.title = text ? text.text : name;
    make("span", name, button);
    make("em", null, button).style.width = `${Math.max(2, 100 * frames / most)}%`;
    make("b", String(frames), button);
    button.onclick = () => choose("reason", state.reason === name ? "" : name);
  }
  const text = DATA.reasons.find((it) => it.name === state.reason);
  make("p", text ? text.text : sums.size ? "Press a reason to see only its frames." : "No frame was dropped.", box);
}

// The most ends of which a grid is drawn.
const GRID_MAX = 48;

function who() {
  const box = byId("who");
  box.replaceChildren();
  const talks = EVENTS.filter((it) => it.kind === "talk" && it.layer !== "other");
  const froms = [...new Set(talks.map((it) => it.pods[0]))].sort().slice(0, GRID_MAX);
  const tos = [...new Set(talks.map((it) => it.pods[1]))].sort().slice(0, GRID_MAX);
  if (!talks.length) { make("p", "Nobody was asked.", box); return; }
  const table = make("table", null, box);
  const head = make("tr", null, make("thead", null, table));
  make("th", null, head);
  for (const to of tos) make("span", to, make("th", null, head)).title = to;
  const body = make("tbody", null, table);
  const pairs = new Map();
  for (const it of talks) {
    const key = JSON.stringify(it.pods);
    if (!pairs.has(key)) pairs.set(key, []);
    pairs.get(key).push(it);
  }
  for (const from of froms) {
    const line = make("tr", null, body);
    make("th", from, line);
    for (const to of tos) {
      const cell = make("td", null, line);
      const all = pairs.get(JSON.stringify([from, to]));
      if (!all) continue;
      const denied = all.filter((it) => it.layer === "deny").length;
      const type = denied === all.length ? "no" : denied ? "both" : "yes";
      const button = make("button", type === "no" ? "×" : "", cell, type + (all.some((it) => it.wrong) ? " bad" : ""));
      button.type = "button";
      button.title = `${from} → ${to}: ${all.length - denied} allowed, ${denied} denied`;
      button.setAttribute("aria-label", button.title);
      button.onclick = () => { pick(all[0].i, true); reveal(); };
    }
  }
}

const ITEMS_MAX = 3000;

function list() {
  if (!byId("list").open) return;
  const items = byId("items");
  items.replaceChildren();
  const all = EVENTS.filter(shown);
  for (const event of all.slice(0, ITEMS_MAX)) {
    const item = make("li", null, items);
    make("time", moment(event.t0), item);
    make("i", event.kind === "talk" ? event.layer === "deny" ? "denied" : event.layer === "other" ? "traffic" : "allowed" : event.kind, item);
    const more = event.kind === "talk" ? event.rows[0][1] : event.kind === "drop" ? plural(event.frames, "frame") : "";
    make("span", more ? `${event.title}, ${more}` : event.title, item);
    item.onclick = () => { pick(event.i, true); reveal(); };
  }
  if (all.length > ITEMS_MAX) make("li", `${all.length - ITEMS_MAX} more; choose a node, a pod or a reason`, items);
}
