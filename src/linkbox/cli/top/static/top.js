"use strict";
// The page of `linkbox top --web`. Everything that is shown is set with textContent: it is text, never markup.

const $ = (id) => document.getElementById(id);
const KEPT = 180; // Points of the chart.
let rows = [], failed = [], sortBy = 0, isReversed = false, picked = null, chart = null;
const history = new Map(); // From the key of an endpoint ("" for all of them) to its points.

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function amount(number) {
  for (const unit of ["", "k", "M", "G"]) {
    if (Math.abs(number) < 999.5) return (Number.isInteger(number) || Math.abs(number) >= 9.95 ? number.toFixed(0) : number.toFixed(1)) + unit;
    number /= 1000;
  }
  return number.toFixed(0) + "T";
}
const short = (text) => (text.length > 90 ? text.slice(0, 89) + "…" : text);
const percent = (share) => (share * 100).toFixed(0) + "%";
const clock = (at) => (at ? new Date(at * 1000).toLocaleTimeString() : "");
function time(seconds) {
  if (!seconds) return "";
  return seconds < 1 ? Number((seconds * 1e3).toPrecision(2)) + " ms" : Number(seconds.toPrecision(3)) + " s";
}
const latency = (e) => ((e.answer_times || e.round_trips || {}).p50 || 0);

// Title, value to sort by, text, kind of the cell.
const COLUMNS = [
  ["state", (r) => (r.endpoint.trouble ? "0" : "1") + r.endpoint.state, (r) => (r.endpoint.trouble ? "✖ " : "● ") + r.endpoint.state, "state"],
  ["endpoint", (r) => r.endpoint.kind, (r) => r.endpoint.kind, ""],
  ["address", (r) => r.endpoint.address, (r) => r.endpoint.address, "first"],
  ["program", (r) => r.program, (r) => r.program + " (" + r.pid + ")", ""],
  ["peers", (r) => r.endpoint.connections, (r) => amount(r.endpoint.connections), "number"],
  ["in/s", (r) => r.received_rate, (r) => amount(r.received_rate), "number"],
  ["out/s", (r) => r.sent_rate, (r) => amount(r.sent_rate), "number"],
  ["in B/s", (r) => r.bytes_received_rate, (r) => amount(r.bytes_received_rate), "number"],
  ["out B/s", (r) => r.bytes_sent_rate, (r) => amount(r.bytes_sent_rate), "number"],
  ["mailbox", (r) => r.endpoint.mailbox_share, (r) => percent(r.endpoint.mailbox_share), "number"],
  ["window", (r) => r.endpoint.window_share, (r) => percent(r.endpoint.window_share), "number"],
  ["time", (r) => latency(r.endpoint), (r) => time(latency(r.endpoint)), "number"],
  ["attempts", (r) => r.endpoint.attempts, (r) => amount(r.endpoint.attempts), "number"],
  ["trouble", (r) => r.endpoint.trouble, (r) => short(r.endpoint.trouble || (r.endpoint.last_error ? "(" + clock(r.endpoint.last_error_at) + " " + r.endpoint.last_error + ")" : "")), "wide"],
];
const PEERS = [
  ["peer", (p) => p.name], ["address", (p) => p.address], ["since", (p) => clock(p.connected_at)],
  ["in", (p) => amount(p.messages_received)], ["out", (p) => amount(p.messages_sent)],
  ["unacknowledged", (p) => amount(p.unacknowledged)], ["waiting", (p) => amount(p.waiting)],
  ["mailbox", (p) => percent(p.mailbox_share)], ["round trip", (p) => time(p.round_trip)],
  ["silent", (p) => time(p.silence)], ["waits for", (p) => p.waits_for],
];

function matches(row, wanted) {
  const e = row.endpoint;
  const texts = [e.kind, e.address, e.name, e.state, e.trouble, row.program, row.pid, e.front];
  return texts.concat(e.peers.map((p) => p.name)).join(" ").toLowerCase().includes(wanted);
}

function shown() {
  const wanted = $("filter").value.trim().toLowerCase();
  const [, value, , kind] = COLUMNS[sortBy];
  const found = rows.filter((row) => matches(row, wanted));
  found.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = x < y ? -1 : x > y ? 1 : a.key < b.key ? -1 : 1;
    return (kind === "number") !== isReversed ? -order : order;
  });
  return found;
}

function titles() {
  COLUMNS.forEach(([title, , , kind], at) => {
    const cell = make("th", undefined, kind === "number" ? "number" : "");
    const button = make("button", title);
    button.type = "button";
    button.addEventListener("click", () => {
      isReversed = sortBy === at ? !isReversed : false;
      sortBy = at;
      draw();
    });
    cell.append(button);
    $("titles").append(cell);
  });
  PEERS.forEach(([title]) => $("peer-titles").append(make("th", title)));
}

function draw() {
  [...$("titles").children].forEach((cell, at) => {
    const falls = (COLUMNS[at][3] === "number") !== isReversed;
    if (at === sortBy) cell.setAttribute("aria-sort", falls ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
  const body = $("rows");
  shown().forEach((row, at) => {
    let line = body.children[at];
    if (!line) {
      line = make("tr");
      line.tabIndex = 0;
      COLUMNS.forEach(([title, , , kind]) => {
        const cell = make("td", "", kind);
        cell.dataset.title = title;
        line.append(cell);
      });
      line.addEventListener("click", () => pick(line.dataset.key));
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") pick(line.dataset.key); });
      body.append(line);
    }
    line.dataset.key = row.key;
    line.className = (row.endpoint.trouble ? "bad" : "") + (row.key === picked ? " picked" : "");
    COLUMNS.forEach(([, , text], column) => {
      const wanted = text(row);
      if (line.children[column].textContent !== wanted) line.children[column].textContent = wanted;
    });
  });
  while (body.children.length > shown().length) body.lastChild.remove();
  $("empty").hidden = rows.length > 0 || failed.length > 0;
  const processes = new Set(rows.map((row) => row.pid)).size;
  const bad = rows.filter((row) => row.endpoint.trouble);
  const text = `${rows.length} endpoints in ${processes} processes, ${bad.length} in trouble`;
  say(text, bad.length + failed.length ? "bad" : "good");
  const lines = bad.map((row) => `${row.endpoint.kind} of ${row.program} (${row.pid}) ${row.endpoint.trouble}`);
  lines.push(...failed.map((each) => `process ${each.pid} ${each.error}`));
  $("troubles").replaceChildren(...lines.slice(0, 8).map((line) => make("p", line)));
  details();
}

function say(text, kind) {
  $("summary").textContent = text;
  $("summary").className = kind;
}

function pick(key) {
  picked = picked === key ? null : key;
  draw();
  plot();
}

function details() {
  const row = rows.find((each) => each.key === picked);
  $("details").hidden = !row;
  $("scope").textContent = row ? `of ${row.endpoint.kind} ${row.endpoint.address}` : "of all endpoints";
  if (!row) return;
  const e = row.endpoint;
  $("details-title").textContent = `${e.kind} ${e.address}`;
  const times = (t) => t && `${t.count}; half within ${time(t.p50)}, 99 % within ${time(t.p99)}`;
  const errors = Object.entries(e.errors_by_kind).map(([kind, count]) => `${kind}: ${count}`).join(", ");
  const facts = [
    ["process", `${row.program}, ${row.pid}`], ["name", `${e.name} (${e.front})`],
    ["format, framing", `${e.format}, ${e.framing}${e.secure ? ", TLS" : ""}`], ["store", e.store],
    ["state", e.state], ["trouble", e.trouble], ["waits for", e.waits_for],
    ["last error", e.last_error && `${clock(e.last_error_at)} ${e.last_error}`], ["next attempt", clock(e.retry_at)],
    ["callback", e.callback && `${e.callback} for ${e.callback_seconds.toFixed(1)} s`],
    ["sent", `${e.messages_sent} messages, ${e.bytes_sent} bytes`],
    ["received", `${e.messages_received} messages, ${e.bytes_received} bytes`],
    ["mailbox", `${e.waiting} messages, ${e.waiting_bytes} bytes, ${percent(e.mailbox_share)} full`],
    ["send window", `${percent(e.window_share)} full`], ["dropped, rejected", `${e.dropped}, ${e.rejected}`],
    ["connections", `${e.connections} now, ${e.connections_total} in all, ${e.reconnects} resumed`],
    ["attempts, refused", `${e.attempts}, ${e.refused}`], ["errors", errors],
    ["answers", times(e.answer_times)], ["round trips", times(e.round_trips)],
  ];
  $("facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  $("peers").replaceChildren(...e.peers.map((peer) => {
    const line = make("tr");
    line.append(...PEERS.map(([, text]) => make("td", text(peer))));
    return line;
  }));
}

function remember() {
  const now = Date.now() / 1000;
  const sum = (get) => rows.reduce((total, row) => total + get(row), 0);
  const add = (key, received, sent) => {
    const points = history.get(key) || [];
    points.push([now, received, sent]);
    if (points.length > KEPT) points.shift();
    history.set(key, points);
  };
  add("", sum((row) => row.received_rate), sum((row) => row.sent_rate));
  rows.forEach((row) => add(row.key, row.received_rate, row.sent_rate));
  const keys = new Set(rows.map((row) => row.key));
  for (const key of history.keys()) if (key && !keys.has(key)) history.delete(key);
}

function plot() {
  const points = history.get(picked || "") || [];
  const data = [0, 1, 2].map((column) => points.map((point) => point[column]));
  if (!chart) chart = newChart(data);
  else chart.setData(data);
}

function newChart(data) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--soft"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") } };
  const value = (_, number) => (number == null ? "–" : amount(number));
  return new uPlot({
    width: width(), height: 180,
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [axis, { ...axis, size: 50, values: (_, ticks) => ticks.map(amount) }],
    series: [
      { label: "time", value: (_, at) => (at == null ? "–" : clock(at)) },
      { label: "in", stroke: color("--in"), width: 2, points: { show: false }, value },
      { label: "out", stroke: color("--out"), width: 2, points: { show: false }, value },
    ],
  }, data, $("chart"));
}

const width = () => Math.max(200, $("chart").clientWidth);
function redraw() {
  if (chart) chart.destroy();
  chart = null;
  plot();
}

titles();
$("filter").addEventListener("input", draw);
$("close").addEventListener("click", () => pick(picked));
addEventListener("resize", () => { if (chart) chart.setSize({ width: width(), height: 180 }); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
const stream = new EventSource("/events");
stream.onmessage = (event) => {
  ({ rows, failed } = JSON.parse(event.data));
  remember();
  draw();
  plot();
};
stream.onerror = () => say("linkbox top does not answer; these are the last numbers", "bad");
