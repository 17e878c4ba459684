"use strict";
// The status page of an agent or a broker. Asks /overview every two seconds while it is looked at,
// and shows the answer; sorting, filtering and paging of long tables are the server's work. What
// comes from outside (names, messages) is only ever set as text.

const kAskEveryMs = 2000;
const kKeptMs = 32000;
const kRows = 50;

const byId = (id) => document.getElementById(id);

// An element with attributes and children; a child that is no node becomes text.
function make(tag, attributes, ...children) {
  const svg = tag === "svg" || tag === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// --- Numbers and times, as people read them.

const wholeNumber = new Intl.NumberFormat("en");
const count = (value) => wholeNumber.format(value);
const counted = (value, one, more) => `${count(value)} ${value === 1 ? one : more}`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 && seconds % 60 ? `${minutes} min ${seconds % 60} s`
    : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
// With the date, as ISO 8601 has it, if that is another than now.
const moment = (ms, now) => (new Date(ms).toDateString() === new Date(now).toDateString()
  ? clock(ms) : `${new Date(ms).toLocaleDateString("sv-SE")} ${clock(ms)}`);
// Of what is only guessed.
const about = (ms) => (ms < 60000 ? "less than a minute" : `about ${duration(ms)}`);
const since = (ms, now) => (ms > 0 ? duration(now - ms) : "–");
const milliseconds = (seconds) => `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 1)} ms`;

// --- Tiles.

// A line for each list of numbers, on one scale.
function sparkline(lines, most, label) {
  const highest = Math.max(1, ...lines.flatMap((line) => line.points));
  const svg = make("svg", { viewBox: `0 0 ${most - 1} 40`, preserveAspectRatio: "none",
    role: "img", "aria-label": label });
  svg.append(make("path", { class: "base", d: `M0 39.5 L${most - 1} 39.5` }));
  for (const { name, points } of lines) {
    const from = most - points.length;
    const path = points.map((value, i) =>
      `${i ? "L" : "M"}${from + i} ${(38 - 36 * value / highest).toFixed(1)}`).join("");
    svg.append(make("path", { class: name, d: path }));
  }
  return svg;
}

function tile(title, value, notes, ...more) {
  return make("div", { class: "tile" }, make("h2", null, title),
    make("p", { class: "value" }, value),
    ...notes.filter(Boolean).map((note) => make("p", { class: "quiet" }, note)), ...more);
}

function flowTile(title, rates, records, sizes, line) {
  const size = rates.series[sizes];
  const rate = records ? rates.series[records] : null;
  const minutes = Math.round(rates.samples_max * rates.every_ms / 60000);
  return tile(title, records ? `${count(rate.lately)}/s` : `${bytes(size.lately)}/s`,
    [records ? `${bytes(size.lately)}/s` : null],
    sparkline([{ name: line, points: (rate ?? size).per_second }], rates.samples_max,
      `${title}: the last ${minutes} minutes, at most ` +
      `${count(Math.max(0, ...(rate ?? size).per_second))} per second`));
}

function diskTile(disk) {
  const used = disk.room_bytes ? disk.entry_bytes / disk.room_bytes : 0;
  const meter = make("meter", { min: 0, max: 1, low: 0.6, high: 0.8, optimum: 0,
    value: Math.min(1, used), "aria-label": "Share of the disk that is used" });
  return tile("Disk", `${Math.round(100 * used)} %`,
    [`${bytes(disk.entry_bytes)} of ${bytes(disk.room_bytes)}`,
      disk.accepting ? (disk.full_in_ms !== null ? `full in ${about(disk.full_in_ms)}`
        : "not filling up") : disk.refusing_because], meter);
}

// --- Tables.

const kSeverityOfState = { held: "failing", waiting: "waiting", delivering: "notice",
  delivered: "fine", error: "failing", warn: "waiting", info: "notice" };

const state = (name, text) =>
  make("span", { class: `state ${kSeverityOfState[name] ?? "fine"}` }, text ?? name);

// A table whose rows are given to `show`. If it is `paged`, the server sorts, filters and pages by
// what `query` says; else all rows are there.
class Table {
  // One that is `rare` is shown only while it has rows.
  constructor({ id, title, columns, paged, empty, sort, order, rare }) {
    Object.assign(this, { id, title, columns, paged, empty, rare });
    this.wish = { filter: "", sort: sort ?? "", order: order ?? "asc", offset: 0 };
    this.about = make("span", { class: "quiet" });
    this.body = make("tbody");
    const bar = make("div", { class: "bar" }, make("h2", { id: `${id}-title` }, title),
      this.about);
    this.heads = columns.map((column) => this.head(column));
    const table = make("table", { "aria-labelledby": `${id}-title` },
      make("thead", null, make("tr", null, ...this.heads)), this.body);
    this.section = make("section", { class: "block", id, "aria-labelledby": `${id}-title` }, bar,
      make("div", { class: "scroll" }, table));
    if (paged) {
      const filter = make("input", { type: "search", placeholder: "Filter",
        "aria-label": `Filter: ${title}` });
      filter.addEventListener("input", () => this.want({ filter: filter.value, offset: 0 }));
      bar.append(filter);
      this.back = make("button", { type: "button" }, "Earlier");
      this.on = make("button", { type: "button" }, "More");
      this.back.addEventListener("click", () =>
        this.want({ offset: Math.max(0, this.wish.offset - kRows) }));
      this.on.addEventListener("click", () => this.want({ offset: this.wish.offset + kRows }));
      this.pages = make("div", { class: "pages" }, this.back, this.on);
      this.section.append(this.pages);
    }
    byId("tables").append(this.section);
  }

  head(column) {
    const cell = make("th", { scope: "col", class: column.number ? "number" : null });
    if (!this.paged || !column.sort) {
      cell.append(column.title);
      return cell;
    }
    const button = make("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      const first = column.number && !column.ascending ? "desc" : "asc";
      const turned = this.wish.order === "asc" ? "desc" : "asc";
      this.want({ sort: column.sort, order: this.wish.sort === column.sort ? turned : first,
        offset: 0 });
    });
    cell.append(button);
    return cell;
  }

  want(change) {
    Object.assign(this.wish, change);
    ask();
  }

  query(parameters) {
    if (!this.paged) return;
    const prefix = this.paged === true ? "" : `${this.paged}_`;
    for (const [name, value] of Object.entries(this.wish)) {
      if (value !== "") parameters.set(prefix + name, value);
    }
    parameters.set(`${prefix}limit`, kRows);
  }

  show(rows, note, matching) {
    // What somebody is marking to copy it stays.
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && this.body.contains(selection.anchorNode)) return;
    this.section.hidden = Boolean(this.rare) && rows.length === 0;
    this.about.textContent = note ?? "";
    this.heads.forEach((head, i) => {
      const sorted = this.paged && this.columns[i].sort === this.wish.sort;
      if (!sorted) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.wish.order === "asc" ? "ascending" : "descending");
    });
    this.body.replaceChildren(...rows.map((row) => make("tr", null,
      ...this.columns.map((column, i) => {
        const cell = column.cell(row);
        const kind = column.number ? "number" : column.kind;
        return make(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: kind },
          cell ?? "–");
      }))));
    if (rows.length === 0) {
      this.body.append(make("tr", null,
        make("td", { colspan: this.columns.length, class: "quiet" }, this.empty)));
    }
    if (!this.pages) return;
    this.pages.hidden = matching <= kRows && this.wish.offset === 0;
    this.back.disabled = this.wish.offset === 0;
    this.on.disabled = this.wish.offset + kRows >= matching;
  }

  // Of a part of the answer that is paged.
  showPage(page, one, more) {
    const last = page.offset + page.shown.length;
    const all = counted(page.matching, one, more);
    const some = page.shown.length < page.matching
      ? `${count(page.offset + 1)} to ${count(last)} of ${all}` : all;
    this.show(page.shown, page.matching === page.total ? some
      : `${some} that match, ${count(page.total)} in all`, page.matching);
  }
}

const kEventColumns = [
  { title: "When", kind: "nowrap", cell: (row) => clock(row.time_ms) },
  { title: "Kind", cell: (row) => state(row.level) },
  { title: "Code", cell: (row) => row.code },
  { title: "Part", cell: (row) => row.part },
  { title: "What happened", kind: "long", cell: (row) => row.message },
];

const kEvents = { id: "events", title: "Recent events", columns: kEventColumns,
  empty: "Nothing was worth a line in the log." };

// --- The two roles.

let now = 0;  // As the server has it.

const roles = {
  agent: {
    tables: () => ({
      topics: new Table({
        id: "topics", title: "Topics", paged: true, sort: "trouble",
        empty: "Nothing was produced through this agent.",
        columns: [
          { title: "Topic", sort: "topic", cell: (row) => row.topic },
          { title: "State", sort: "trouble", cell: (row) => state(row.state) },
          { title: "Waiting", sort: "backlog", number: true,
            cell: (row) => count(row.backlog_records) },
          { title: "Oldest", sort: "oldest", number: true, ascending: true,
            cell: (row) => since(row.oldest_ms, now) },
          { title: "Time to drain", sort: "drain", number: true,
            cell: (row) => (row.backlog_records === 0 ? "–"
              : row.drain_ms === null ? "not draining" : about(row.drain_ms)) },
          { title: "Partitions", number: true,
            cell: (row) => (row.waiting_partitions
              ? `${count(row.waiting_partitions)} of ${count(row.partitions)}`
              : count(row.partitions)) },
          { title: "Why", kind: "long", cell: (row) => row.why && (row.why_partition >= 0
            ? `partition ${row.why_partition}, ${row.why}` : row.why) },
        ] }),
      brokers: new Table({
        id: "brokers", title: "Brokers of the tier", empty: "None is known yet.",
        columns: [
          { title: "Address", kind: "nowrap", cell: (row) => row.address },
          { title: "Broker", number: true, cell: (row) => row.node },
          { title: "State", cell: (row) => (row.ready ? state("delivered", "connected")
            : state(row.trouble ? "error" : "waiting", row.trouble ? "not reached"
              : "connecting")) },
          { title: "Why", kind: "long", cell: (row) => row.trouble || null },
        ] }),
      dead: new Table({
        id: "dead-letters", title: "Dead letters", empty: "None: the tier refused nothing.",
        columns: [
          { title: "Partition", cell: (row) => row.stream },
          { title: "Records", number: true, cell: (row) => count(row.records) },
          { title: "Newest", number: true, cell: (row) => since(row.time_ms, now) },
          { title: "Why", kind: "long", cell: (row) => [row.error, row.message].filter(Boolean)
            .join(": ") },
        ] }),
      orphans: new Table({
        id: "orphans", title: "Orphaned spools", rare: true, empty: "None.",
        columns: [
          { title: "Spool", cell: (row) => row.name },
          { title: "State", cell: (row) => state(row.state === "kept" ? "held" : row.state,
            row.state) },
          { title: "Records left", number: true, cell: (row) => count(row.left_records) },
          { title: "Why", kind: "long", cell: (row) => row.why || null },
        ] }),
      outboxes: new Table({
        id: "outboxes", title: "Outboxes", rare: true, empty: "None.",
        columns: [
          { title: "Source", cell: (row) => row.name },
          { title: "State", cell: (row) => (row.trouble ? state("error", "in trouble")
            : row.connected ? state("delivered", "connected") : state("waiting", "connecting")) },
          { title: "Rows waiting", number: true, cell: (row) => count(row.waiting_rows) },
          { title: "Oldest", number: true, cell: (row) => since(row.oldest_ms, now) },
          { title: "Taken", number: true, cell: (row) => count(row.taken_rows) },
          { title: "In quarantine", number: true, cell: (row) => count(row.quarantine_rows) },
          { title: "Why", kind: "long", cell: (row) => row.trouble ||
            (row.waiting_for_topics_of.length
              ? `no topic is known for ${row.waiting_for_topics_of.join(", ")}` : null) },
        ] }),
      events: new Table(kEvents),
    }),
    tiles(it) {
      const behind = it.backlog;
      return [
        flowTile("Records in", it.rates, "in_records", "in_bytes", "in"),
        flowTile("Records out", it.rates, "out_records", "out_bytes", "out"),
        tile("Waiting", count(behind.records), behind.records === 0
          ? ["everything is at the tier"]
          : [`the oldest for ${since(behind.oldest_ms, now)}`,
            behind.drain_ms === null ? "not draining"
              : `drained in ${about(behind.drain_ms)}`]),
        diskTile(it.disk),
        tile("Complete until", it.ledger.complete_until_ms
          ? moment(it.ledger.complete_until_ms, now) : "–",
        ["what was acknowledged before is at the tier",
          it.ledger.dropped_records
            ? `but ${count(it.ledger.dropped_records)} records dropped or set aside` : null]),
      ];
    },
    show(it, tables) {
      tables.topics.showPage(it.topics, "topic", "topics");
      tables.brokers.show(it.tier.brokers, it.tier.cluster_id && `cluster ${it.tier.cluster_id}`);
      tables.dead.show(it.dead_letters.streams,
        it.dead_letters.records ? counted(it.dead_letters.records, "record", "records") : "");
      const orphans = it.orphans ?? { shown: [], total: 0, left_records: 0 };
      tables.orphans.show(orphans.shown, `${counted(orphans.total, "spool", "spools")}, ` +
        `${counted(orphans.left_records, "record", "records")} left`);
      tables.outboxes.show(it.outboxes ?? []);
      tables.events.show(it.events.toReversed());
    },
  },
  broker: {
    tables: () => ({
      partitions: new Table({
        id: "partitions", title: "Partitions", paged: true, sort: "topic",
        empty: "There is no topic.",
        columns: [
          { title: "Topic", sort: "topic", cell: (row) => row.topic },
          { title: "Partition", number: true, cell: (row) => row.partition },
          { title: "Records", sort: "records", number: true,
            cell: (row) => count(row.high_watermark - row.log_start) },
          { title: "From", sort: "start", number: true, cell: (row) => count(row.log_start) },
          { title: "To", sort: "end", number: true, cell: (row) => count(row.high_watermark) },
          { title: "In open transactions", number: true,
            cell: (row) => count(row.high_watermark - row.last_stable_offset) },
        ] }),
      groups: new Table({
        id: "groups", title: "Consumer groups", paged: "groups", sort: "lag", order: "desc",
        empty: "There is none.",
        columns: [
          { title: "Group", sort: "group", cell: (row) => row.group },
          { title: "State", sort: "state", cell: (row) => row.state },
          { title: "Members", sort: "members", number: true, cell: (row) => count(row.members) },
          { title: "Lag", sort: "lag", number: true, cell: (row) => count(row.lag) },
          { title: "Committed offsets", number: true,
            cell: (row) => count(row.committed_offsets) },
        ] }),
      transactions: new Table({
        id: "transactions", title: "Transactions", empty: "None is open.",
        columns: [
          { title: "Transactional id", cell: (row) => row.id },
          { title: "Open for", number: true, cell: (row) => since(row.start_ms, now) },
          { title: "Timeout", number: true, cell: (row) => duration(row.timeout_ms) },
          { title: "Producer", number: true,
            cell: (row) => `${row.producer_id}, epoch ${row.producer_epoch}` },
          { title: "Partitions", kind: "long", cell: (row) => row.partitions.join(", ") +
            (row.partition_count > row.partitions.length
              ? ` and ${count(row.partition_count - row.partitions.length)} more` : "") },
        ] }),
      events: new Table(kEvents),
    }),
    tiles(it) {
      const commits = recent(it.metrics, "holdfast_spool_commit_bytes");
      const syncs = recent(it.metrics, "holdfast_spool_sync_seconds");
      const most = it.disk.bytes_max ? ` of ${bytes(it.disk.bytes_max)}` : "";
      return [
        flowTile("Records in", it.rates, "in_records", "in_bytes", "in"),
        flowTile("Bytes out", it.rates, null, "out_bytes", "out"),
        tile("Commits", commits ? `${commits.rate.toFixed(commits.rate < 10 ? 1 : 0)}/s` : "–", commits
          ? [`${bytes(commits.mean)} each, on average`] : ["none lately"]),
        tile("Sync", syncs ? milliseconds(syncs.mean) : "–", syncs
          ? [`99 % within ${milliseconds(syncs.p99)}`] : ["none lately"]),
        tile("Transactions", count(it.transactions.open), ["open now"]),
        tile("Disk", bytes(it.disk.disk_bytes) + most,
          [`${bytes(it.disk.entry_bytes)} of records`]),
      ];
    },
    show(it, tables) {
      tables.partitions.showPage(it.partitions, "partition", "partitions");
      tables.groups.showPage(it.groups, "group", "groups");
      tables.transactions.show(it.transactions.oldest, Object.entries(it.transactions.states)
        .map(([name, number]) => `${count(number)} ${name}`).join(", "));
      tables.events.show(it.events.toReversed());
    },
    // Commit sizes and sync times are histograms of /metrics.
    metrics: true,
  },
};

// The histograms of a page for Prometheus: count, sum and buckets of each, by name.
function histograms(text) {
  const found = {};
  for (const [, name, kind, bound, value] of
    text.matchAll(/^(holdfast_spool_\w+)_(bucket|sum|count)(?:\{le="([^"]+)"\})? (\S+)$/gm)) {
    const one = found[name] ??= { buckets: [] };
    if (kind === "bucket") one.buckets.push([bound === "+Inf" ? Infinity : +bound, +value]);
    else one[kind] = +value;
  }
  return found;
}

// The answers of the last half a minute and the newest; none of a process that is gone.
function keep(kept, newest) {
  const anew = Object.entries(kept.at(-1)?.histograms ?? {}).some(([name, one]) =>
    (newest.histograms[name]?.count ?? 0) < one.count);
  return [...(anew ? [] : kept.filter((one) => newest.timeMs - one.timeMs <= kKeptMs)), newest];
}

// What came to a histogram between the oldest of the kept answers and the newest; null if nothing
// did. The percentile is the upper bound of its bucket.
function recent(kept, name) {
  const first = kept?.[0]?.histograms[name];
  const last = kept?.at(-1)?.histograms[name];
  const more = (last?.count ?? 0) - (first?.count ?? 0);
  if (kept.length < 2 || more <= 0) return null;
  const bucket = last.buckets.find(([, value], i) =>
    value - first.buckets[i][1] >= 0.99 * more) ?? last.buckets.at(-1);
  return { mean: (last.sum - first.sum) / more, p99: bucket[0],
    rate: 1000 * more / (kept.at(-1).timeMs - kept[0].timeMs) };
}

// --- The page.

// What stands between backquotes is to be typed. ADMIN is where this page comes from.
const withCode = (text) => text.replaceAll("ADMIN", location.host).split("`")
  .map((part, i) => (i % 2 ? make("code", null, part) : part));

function showVerdict(verdict) {
  byId("verdict").dataset.severity = verdict.severity;
  const headline = byId("headline");
  if (headline.textContent !== verdict.headline) headline.textContent = verdict.headline;
  document.title = `${verdict.headline} – Holdfast`;
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && byId("remarks").contains(selection.anchorNode)) return;
  byId("remarks").replaceChildren(...verdict.remarks.map((remark) =>
    make("div", { class: "remark" },
      verdict.headline.includes(remark.title) ? null : make("h3", null, remark.title),
      make("p", null, remark.why),
      remark.todo ? make("p", null, make("b", null, "What to do: "), ...withCode(remark.todo))
        : null)));
}

let tables = null;
let role = null;
let heardMs = 0;  // By this browser's clock.
let timer = 0;
let asked = 0;    // Only the newest question's answer counts.
let measured = [];  // What /metrics said in the last half a minute.

function show(it) {
  now = it.now_ms;
  if (role !== it.role) {
    role = it.role;
    byId("tables").replaceChildren();
    tables = roles[role].tables();
    byId("role").textContent = `${role} at ${location.host}`;
    byId("config-section").hidden = false;
  }
  showVerdict(it.verdict);
  byId("tiles").replaceChildren(...roles[role].tiles(it));
  roles[role].show(it, tables);
  byId("when").textContent = clock(now);
}

function showLost(error) {
  const ago = heardMs ? `, for ${duration(Date.now() - heardMs)}` : "";
  showVerdict({ severity: "lost", headline: `No answer from ${location.host}${ago}`,
    remarks: [{ title: "", why: `What is below is old (${error.message}).`,
      todo: "See whether the process runs, and what its log says last." }] });
}

async function ask() {
  clearTimeout(timer);
  const question = ++asked;
  const parameters = new URLSearchParams();
  for (const table of Object.values(tables ?? {})) table.query(parameters);
  try {
    const answer = await fetch(`/overview?${parameters}`, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const overview = await answer.json();
    if (roles[overview.role].metrics) {
      const metrics = await (await fetch("/metrics")).text();
      measured = keep(measured, { timeMs: Date.now(), histograms: histograms(metrics) });
      overview.metrics = measured;
    }
    if (question !== asked) return;
    heardMs = Date.now();
    show(overview);
  } catch (error) {
    if (question !== asked) return;
    showLost(error);
  }
  if (!document.hidden) timer = setTimeout(ask, kAskEveryMs);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
byId("config").addEventListener("toggle", async (event) => {
  if (!event.target.open) return;
  const text = event.target.querySelector("pre");
  try {
    const answer = await fetch("/config");
    const body = await answer.text();
    text.textContent = answer.ok ? body : `This process does not tell: status ${answer.status}`;
  } catch (error) {
    text.textContent = error.message;
  }
});
ask();
