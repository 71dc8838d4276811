// Virtual time to the width of the chart. Runs are bursts of microseconds and waits of
// seconds: on the even scale a gap grows with its logarithm, so that neither hides the other.
function makeAxis(width) {
  const pad = 14;
  const moments = new Set([0, DATA.end_ns]);
  for (const it of EVENTS) { moments.add(it.t0); moments.add(it.t1); }
  const times = [...moments].sort((a, b) => a - b);
  const weight = (ns) => state.scale === "true" ? ns : 1 + Math.log2(1 + ns / 1000) / 2;
  const sums = [0];
  for (let i = 1; i < times.length; i += 1) sums.push(sums[i - 1] + weight(times[i] - times[i - 1]));
  const total = sums[sums.length - 1] || 1;
  const usable = Math.max(1, width - 2 * pad);
  function x(ns) {
    let low = 0;
    let high = times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= ns) low = middle; else high = middle - 1;
    }
    const next = Math.min(low + 1, times.length - 1);
    const gap = times[next] - times[low] || 1;
    const part = Math.min(1, Math.max(0, (ns - times[low]) / gap));
    return pad + (sums[low] + (sums[next] - sums[low]) * part) / total * usable;
  }
  // Labels at moments that something happens, not nearer to each other than they are wide.
  function ticks() {
    const marks = [];
    let last = -Infinity;
    for (const ns of times) {
      const at = x(ns);
      if (at - last >= 84 && at < width - 72) { marks.push([at, moment(ns)]); last = at; }
    }
    return marks;
  }
  // Long silences, told in the middle of the gap that stands for them.
  function gaps() {
    const marks = [];
    for (let i = 1; i < times.length; i += 1) {
      const [from, to] = [x(times[i - 1]), x(times[i])];
      const text = span(times[i] - times[i - 1]);
      if (times[i] - times[i - 1] >= 1e6 && to - from >= 8 + text.length * 6) marks.push([(from + to) / 2, text]);
    }
    return marks;
  }
  return { x, ticks, gaps, moments: times.length };
}
