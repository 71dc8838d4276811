// What people do with it: point, tap, type, choose. What is chosen stands in the address, so
// that it can be passed on.
function pick(index, pinned) {
  state.chosen = index;
  state.pinned = pinned && index !== null;
  mark();
  detail();
  if (pinned || index === null) remember();
}

function choose(what, value) {
  state[what] = value;
  update();
}

function update() {
  if (state.chosen !== null && !shown(EVENTS[state.chosen])) { state.chosen = null; state.pinned = false; }
  legend();
  choices();
  render();
  detail();
  why();
  list();
  remember();
}

function remember() {
  const parts = [];
  for (const key of ["node", "pod", "reason"]) if (state[key]) parts.push(`${key}=${encodeURIComponent(state[key])}`);
  if (state.off.size) parts.push(`hide=${[...state.off].sort().join(",")}`);
  if (state.scale === "true") parts.push("scale=true");
  if (state.pinned) parts.push(`event=${state.chosen}`);
  const hash = parts.length ? `#${parts.join("&")}` : " ";
  try { history.replaceState(null, "", hash); } catch (error) { /* Some browsers allow no address of a file to change. */ }
}

function recall() {
  for (const part of location.hash.slice(1).split("&")) {
    const [key, value] = part.split("=");
    if (value === undefined) continue;
    let text = "";
    try { text = decodeURIComponent(value); } catch (error) { continue; }
    if (key === "node" && DATA.nodes.includes(text)) state.node = text;
    if (key === "pod") state.pod = text;
    if (key === "reason" && DROPPED.has(text)) state.reason = text;
    if (key === "hide") state.off = new Set(text.split(",").filter((it) => LAYERS.some(([layer]) => layer === it)));
    if (key === "scale" && text === "true") state.scale = "true";
    if (key === "event" && EVENTS[Number(text)]) { state.chosen = Number(text); state.pinned = true; }
  }
}

// To the event before or after that is to be seen; along a lane if it says so.
function walk(by, along) {
  const now = state.chosen === null ? null : EVENTS[state.chosen];
  const near = (it) => !along || !now || !now.lanes.length || it.lanes.some((lane) => now.lanes.includes(lane));
  let index = now ? now.i + by : by > 0 ? 0 : EVENTS.length - 1;
  while (EVENTS[index] && !(EVENTS[index].mark && near(EVENTS[index]))) index += by;
  if (EVENTS[index]) { pick(index, true); reveal(); }
}

function reveal() {
  const event = EVENTS[state.chosen];
  if (!event || !event.mark) return;
  const scroll = byId("scroll");
  const labels = parseFloat(scroll.style.getPropertyValue("--labels"));
  const [left, right] = [scroll.scrollLeft, scroll.scrollLeft + scroll.clientWidth - labels];
  const x = placeOf(event);
  if (x < left + 20 || x > right - 20) scroll.scrollLeft = Math.max(0, x - (right - left) / 2);
  const row = rows.get(event.lanes[0]);
  if (!row) return;
  const [high, low] = [scroll.scrollTop, scroll.scrollTop + scroll.clientHeight - HEAD];
  if (row.y < high || row.y + row.height > low) scroll.scrollTop = Math.max(0, row.y - (low - high) / 2);
}

const ZOOM_MAX = 60;

function zoom(by) {
  const scroll = byId("scroll");
  const labels = parseFloat(scroll.style.getPropertyValue("--labels"));
  const half = (scroll.clientWidth - labels) / 2;
  const part = (scroll.scrollLeft + half) / Number(byId("chart").getAttribute("width"));
  state.zoom = Math.min(ZOOM_MAX, Math.max(1, state.zoom * by));
  render();
  scroll.scrollLeft = part * Number(byId("chart").getAttribute("width")) - half;
}

const KEYS = {
  ArrowRight: () => walk(1, false), ArrowLeft: () => walk(-1, false),
  ArrowDown: () => walk(1, true), ArrowUp: () => walk(-1, true),
  Home: () => { pick(null, false); walk(1, false); }, End: () => { pick(null, false); walk(-1, false); },
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), Escape: () => pick(null, false),
};

const eventAt = (target) => {
  const element = target instanceof Element ? target.closest(".m") : null;
  return element ? Number(element.dataset.i) : null;
};

function listen() {
  const scroll = byId("scroll");
  scroll.addEventListener("keydown", (key) => {
    const act = KEYS[key.key];
    if (!act || key.ctrlKey || key.metaKey || key.altKey) return;
    key.preventDefault();
    act();
  });
  document.addEventListener("keydown", (key) => { if (key.key === "Escape") pick(null, false); });
  scroll.addEventListener("pointerover", (pointer) => {
    const index = eventAt(pointer.target);
    if (index !== null && !state.pinned && pointer.pointerType === "mouse") pick(index, false);
  });
  scroll.addEventListener("click", (click) => {
    const index = eventAt(click.target);
    if (index !== null) pick(index, true);
    else if (byId("chart").contains(click.target)) pick(null, false);
  });
  scroll.addEventListener("wheel", (wheel) => {
    if (!wheel.ctrlKey) return;
    wheel.preventDefault();
    zoom(wheel.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  byId("by-node").onchange = (it) => choose("node", it.target.value);
  byId("by-pod").onchange = (it) => choose("pod", it.target.value);
  byId("by-reason").onchange = (it) => choose("reason", it.target.value);
  byId("clear").onclick = () => { state.node = ""; state.pod = ""; state.reason = ""; state.off.clear(); update(); };
  byId("in").onclick = () => zoom(1.5);
  byId("out").onclick = () => zoom(1 / 1.5);
  byId("scale").onclick = () => {
    state.scale = state.scale === "true" ? "even" : "true";
    byId("scale").setAttribute("aria-pressed", String(state.scale === "true"));
    update();
  };
  byId("list").addEventListener("toggle", list);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    state.zoom = 0;
    render();
  });
}

recall();
facts();
byId("corner").textContent = "virtual time";
byId("scale").setAttribute("aria-pressed", String(state.scale === "true"));
who();
update();
listen();
if (state.pinned) reveal();
document.documentElement.dataset.ready = "yes";
