// What happened, as a list in the order of time, and the lanes on which it is drawn.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NARROW = 860;

// In the order of the legend: kind of mark, its name, and whether a run always has some.
const LAYERS = [
  ["allow", "allowed, in ESP"], ["clear", "allowed, plain"], ["deny", "denied"],
  ["other", "other traffic"], ["wrong", "not as it should be"], ["drop", "frames dropped"],
  ["generation", "generation"], ["key", "fresh key"], ["fault", "fault"],
];

// Nanoseconds as people say them.
function span(ns) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  const [size, name] = units.find(([size]) => ns >= size) || [1, "ns"];
  const value = ns / size;
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${name}`;
}

// A moment: to the microsecond, which tells any two frames on a link apart.
function moment(ns) {
  return ns < 1e6 ? `${(ns / 1e3).toFixed(0)} µs` : ns < 1e9 ? `${(ns / 1e6).toFixed(3)} ms` : `${(ns / 1e9).toFixed(6)} s`;
}

const plain = (pod) => pod.split("@")[0];
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const stepName = (index) => {
  const step = DATA.steps[index];
  return step ? `${index + 1}: ${step.verb} ${step.about}`.trim() : "before the first";
};

// Lanes: nodes with their pods, then whoever else talks.
function makeLanes() {
  const lanes = [];
  const add = (lane) => {
    if (!lanes.some((it) => it.id === lane.id)) lanes.push(lane);
  };
  for (const node of DATA.nodes) {
    add({ id: `node:${node}`, label: node, kind: "group", node, pod: null });
    for (const it of DATA.pods.filter((it) => it.node === node)) {
      add({ id: `${node}|${it.pod}`, label: it.pod, kind: "pod", node, pod: it.pod, vf: it.vf });
    }
  }
  const known = new Set(lanes.map((it) => it.id));
  const pods = new Set(DATA.pods.map((it) => plain(it.pod)));
  const others = new Set();
  for (const talk of DATA.talks) {
    for (const end of [talk.from, talk.to]) {
      if (!known.has(end) && !pods.has(end)) others.add(end);
    }
  }
  if (others.size) {
    add({ id: "elsewhere", label: "elsewhere", kind: "group", node: null, pod: null });
    for (const end of [...others].sort()) {
      add({ id: end, label: end, kind: "pod", node: null, pod: end });
    }
  }
  return lanes;
}

// The lane of an end at a time: a pod's on the node where it was then.
function laneOf(end, ns) {
  const spans = DATA.pods.filter((it) => it.pod === end);
  const then = spans.find((it) => it.from_ns <= ns && (it.to_ns === null || it.to_ns >= ns));
  const it = then || spans[0];
  return it ? `${it.node}|${it.pod}` : end;
}

function talkEvent(talk) {
  const from = laneOf(talk.from, talk.from_ns);
  const to = laneOf(talk.to, talk.from_ns);
  const probe = talk.probe;
  const rows = [["asked", talk.what]];
  let layer = "other";
  if (probe) {
    layer = probe.verdict === "deny" ? "deny" : probe.encrypted ? "allow" : "clear";
    const denied = probe.where ? `denied at ${probe.where}` : "none came back";
    rows.push(["answer", probe.verdict === "deny" ? denied : "it came back"]);
    if (probe.rule) rows.push(["rule", probe.rule]);
    rows.push(["on the wire", probe.encrypted ? "all of it in ESP" : "nothing in ESP"]);
    for (const text of probe.wrong) rows.push(["wrong", text]);
  } else {
    rows.push(["answer", "nobody asked for one"]);
  }
  rows.push(["frames", `${talk.sent} sent, ${talk.delivered} came`]);
  const lanes = [from, to];
  return {
    kind: "talk", layer, wrong: Boolean(probe && !probe.ok), t0: talk.from_ns, t1: talk.to_ns, lanes,
    at: probe && probe.where, step: talk.step, pods: [talk.from, talk.to], nodes: nodesOf(lanes), reason: null,
    title: `${talk.from} → ${talk.to}`, rows,
  };
}

const nodesOf = (lanes) => lanes.map((id) => id.startsWith("node:") ? id.slice(5) : id.split("|").length > 1 ? id.split("|")[0] : null).filter(Boolean);

function dropEvent(drop) {
  const talk = drop.talk === null ? null : DATA.talks[drop.talk];
  const lane = drop.pod ? `${drop.node}|${drop.pod}` : `node:${drop.node}`;
  const text = DATA.reasons.find((it) => it.name === drop.reason);
  const rows = [["frames", String(drop.frames)], ["why", text ? text.text : drop.reason], ["port", `${drop.port} of ${drop.node}`]];
  if (drop.pod) rows.push(["pod", drop.pod]);
  if (talk) rows.push(["meanwhile", `${talk.from} → ${talk.to}, ${talk.what}`]);
  return {
    kind: "drop", layer: "drop", t0: drop.to_ns, t1: drop.to_ns, since: drop.from_ns, lanes: [lane], step: drop.step,
    asked: talk && [talk.from_ns, talk.to_ns], frames: drop.frames, pods: [drop.pod && plain(drop.pod), talk && talk.from, talk && talk.to].filter(Boolean),
    nodes: [drop.node], reason: drop.reason, title: drop.reason, rows,
  };
}

function makeEvents() {
  const events = [];
  DATA.steps.forEach((step, index) => {
    const only = step.probes === 1 ? DATA.talks.find((it) => it.step === index && it.probe) : null;
    const about = only && !step.about ? `${only.from} → ${only.to}` : step.about;
    const rows = [["line", String(step.line)], ["took", span(step.to_ns - step.from_ns)]];
    if (step.probes) rows.push(["probes", String(step.probes)]);
    for (const text of step.work) rows.push(["job", text]);
    rows.push(["checks", step.ok ? "held" : "failed"]);
    events.push({ kind: "step", layer: "step", t0: step.from_ns, t1: step.to_ns, lanes: [], step: index, pods: null, nodes: null,
      reason: null, title: `${step.verb} ${about}`.trim(), rows, wrong: !step.ok });
  });
  events.push(...DATA.talks.map(talkEvent), ...DATA.drops.map(dropEvent));
  for (const it of DATA.generations) {
    events.push({ kind: "generation", layer: "generation", t0: it.at_ns, t1: it.at_ns, lanes: [`node:${it.node}`], pods: [],
      nodes: [it.node], reason: null, title: `${it.node}: generation ${it.generation}`, short: String(it.generation),
      rows: [["in force", "every worker uses it"]] });
  }
  for (const it of DATA.keys) {
    const receive = it.way === "receive";
    const title = receive ? `${it.node} may receive from ${it.peer} by a fresh key` : `${it.node} sends to ${it.peer} by a fresh key`;
    events.push({ kind: "key", layer: "key", t0: it.at_ns, t1: it.at_ns, lanes: [`node:${it.node}`], pods: [], receive,
      nodes: [it.node, it.peer], reason: null, title, rows: [["SPI", it.spi]] });
  }
  for (const it of DATA.faults) {
    const end = it.to_ns === null ? DATA.end_ns : it.to_ns;
    const never = it.to_ns === null ? "never in this run" : "at once";
    const healed = it.healed === null ? never : `step ${stepName(it.healed)}`;
    events.push({ kind: "fault", layer: "fault", t0: it.from_ns, t1: end, lanes: [], step: it.step, pods: [], nodes: it.nodes,
      everywhere: !it.nodes.length, reason: null, title: it.about, rows: [["lasts", span(end - it.from_ns)], ["whole again", healed]] });
  }
  for (const it of DATA.failures) {
    events.push({ kind: "failure", layer: "wrong", t0: it.at_ns, t1: it.at_ns, lanes: [], step: it.step === null ? undefined : it.step,
      pods: null, nodes: null, reason: null, title: "A check failed", rows: [["what", it.what]], wrong: true });
  }
  const order = ["step", "fault", "generation", "key", "talk", "drop", "failure"];
  events.forEach((it, index) => { it.made = index; });
  events.sort((a, b) => a.t0 - b.t0 || order.indexOf(a.kind) - order.indexOf(b.kind) || a.made - b.made);
  events.forEach((it, index) => { it.i = index; });
  return events;
}

const LANES = makeLanes();
const EVENTS = makeEvents();
// What is chosen, and how it is looked at.
const state = { node: "", pod: "", reason: "", off: new Set(), scale: "even", zoom: 0, chosen: null, pinned: false };

// Whether a mark is to be seen.
function shown(event) {
  if (state.off.has(event.layer) && !(event.wrong && !state.off.has("wrong"))) return false;
  if (event.kind === "step" || event.kind === "failure") return true;
  if (state.node && !event.everywhere && !event.nodes.includes(state.node)) return false;
  if (state.pod && event.kind !== "fault" && event.kind !== "generation" && event.kind !== "key" && !event.pods.includes(state.pod)) return false;
  if (state.reason) {
    if (event.kind === "drop") return event.reason === state.reason;
    if (event.kind === "talk") return DROPPED.get(state.reason).has(event.made);
  }
  return true;
}

// Which conversations lost frames for a reason; a talk's number counts from behind the steps.
const DROPPED = new Map(DATA.reasons.map((it) => [it.name, new Set()]));
for (const drop of DATA.drops) {
  if (drop.talk !== null && DROPPED.has(drop.reason)) DROPPED.get(drop.reason).add(DATA.steps.length + drop.talk);
}
