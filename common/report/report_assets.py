"""Style and script of the report page: no framework, nothing from elsewhere; text reaches the page as text only."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #d5dae0; --text: #1b1f24; --soft: #55606b;
  --review: #9a4f00; --failed: #b3261e; --note: #0b62a8; --ok: #1a6e45; --field: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1114; --card: #181b20; --line: #343a43; --text: #e8eaed;
  --soft: #a3adb8; --review: #ffc166; --failed: #ff8a80; --note: #86bdf5; --ok: #7fd6a4; --field: #21252b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: 0 0 .75rem; color: var(--soft); max-width: 60rem; }
.key { display: inline-block; width: .9em; height: .9em; margin: 0 .15em -.1em 0; border: 3px solid;
  border-radius: 2px; }
.bar { position: sticky; top: 0; z-index: 1; margin: 0 -.5rem .75rem; padding: .6rem .5rem; background: var(--page);
  border-bottom: 1px solid var(--line); }
.line { display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: center; }
.line + .line { margin-top: .5rem; }
fieldset { display: contents; border: 0; }
legend, .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.chip { padding: .25rem .75rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  cursor: pointer; font-variant-numeric: tabular-nums; }
.chip:has(:checked) { border-color: var(--text); box-shadow: inset 0 0 0 1px var(--text); }
.chip input { position: absolute; opacity: 0; }
input[type=search], select, button { font: inherit; color: inherit; background: var(--field);
  border: 1px solid var(--line); border-radius: 8px; padding: .3rem .6rem; min-height: 2.2rem; }
input[type=search] { flex: 1 1 14rem; min-width: 10rem; }
button { cursor: pointer; } button:disabled { opacity: .45; cursor: default; }
:focus-visible, .chip:has(:focus-visible) { outline: 3px solid var(--note); outline-offset: 2px; }
#place { font-variant-numeric: tabular-nums; min-width: 12rem; }
ol { margin: 0; padding: 0; list-style: none; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; overflow: hidden; }
ol > li { display: grid; grid-template-columns: 13rem minmax(0, 1fr) minmax(0, 22rem); gap: .25rem 1rem; padding: .9rem;
  border-left: 4px solid transparent; }
ol > li + li { border-top: 1px solid var(--line); }
ol > li.review { border-left-color: var(--review); } ol > li.failed { border-left-color: var(--failed); }
ol > li > div { overflow-wrap: anywhere; }
.picture img, .none { display: block; width: 13rem; height: 10rem; object-fit: contain; border-radius: 6px; }
.picture img { background: #111; }
.none { display: grid; place-items: center; border: 1px dashed var(--line); color: var(--soft); font-size: .85rem; }
.none { height: 4rem; }
.file { color: var(--soft); font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  white-space: pre-wrap; margin-bottom: .35rem; }
.soft { color: var(--soft); }
.verdict { font-weight: 650; }
.review .verdict, b.review { color: var(--review); } .failed .verdict, b.failed { color: var(--failed); }
.note .verdict, b.note { color: var(--note); } .ok .verdict, b.ok { color: var(--ok); }
ul { margin: .1rem 0 0; padding: 0 0 0 1.1rem; }
details { grid-column: 2 / -1; } summary { cursor: pointer; color: var(--soft); width: fit-content; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: .1rem 1rem; margin: .5rem 0 0;
  font-size: .88rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.empty { padding: 2rem; text-align: center; color: var(--soft); }
@media (max-width: 52rem) { body { padding: 1rem .75rem 3rem; } .bar { position: static; }
  ol > li { grid-template-columns: minmax(0, 1fr); } details { grid-column: 1; }
  .picture img { width: 100%; height: auto; max-height: 24rem; min-height: 8rem; }
  .none { width: 100%; height: 3rem; } .keys { display: none; } }
@media print { .bar, details { display: none; } ol > li { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
const $ = id => document.getElementById(id);
const ORDER = ["review", "failed", "refused", "skipped", "note", "ok"];
const TITLES = {review: "Review", failed: "Failed", refused: "Refused", skipped: "Skipped", note: "Note", ok: "Done"};
const WHOSE = {patient: " (the patient\\u2019s sides)", image: " (sides of the picture)"};
const SEARCHED = ["source", "kind", "reason", "warnings", "prompt", "prompt_used", "understood", "sides_named",
  "mask_sides", "mask_zones"];
const rows = [], chunks = new Map(), asked = new Map();
let shown = [], text = null, page = 0;
const state = {only: "", words: "", sort: "", down: false, size: 50};

function addRows(columns) {
  const names = Object.keys(columns);
  const read = names.map(name => { const c = columns[name]; return c.of ? i => c.of[c.at[i]] : i => c[i]; });
  const count = columns.source.of ? columns.source.at.length : columns.source.length;
  for (let i = 0; i < count; i++) {
    const row = {number: rows.length};
    names.forEach((name, k) => { row[name] = read[k](i); });
    row.kind = row.status && row.status !== "done" ? row.status : row.verdict || "ok";
    rows.push(row);
  }
}
function addDetails(number, list) { chunks.set(number, list); }

function make(tag, words, name) {
  const made = document.createElement(tag);
  if (words !== undefined && words !== "") made.textContent = words;
  if (name) made.className = name;
  return made;
}
function address(path) {
  try { return path.split("/").map(encodeURIComponent).join("/"); } catch { return ""; }
}
function rank(kind) { const at = ORDER.indexOf(kind); return at < 0 ? ORDER.length : at; }
function colour(kind) { return ["review", "note", "ok"].includes(kind) ? kind : "failed"; }

function select() {
  const words = state.words.toLowerCase().split(/\\s+/).filter(Boolean);
  if (words.length && !text) {
    text = rows.map(row => SEARCHED.map(name => row[name]).join("\\n").toLowerCase());
  }
  shown = rows.filter(row => (!state.only || row.kind === state.only)
    && words.every(word => text[row.number].includes(word)));
  const by = state.sort;
  if (by === "source") shown.sort((a, b) => a.source < b.source ? -1 : a.source > b.source ? 1 : a.number - b.number);
  else if (by) {
    // rows without the number come last in both directions
    const value = row => typeof row[by] === "number" ? row[by] : null;
    shown.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null) || a.number - b.number;
      return (state.down ? y - x : x - y) || a.number - b.number;
    });
  } else shown.sort((a, b) => rank(a.kind) - rank(b.kind) || a.number - b.number);
  if (state.down && (by === "source" || !by)) shown.reverse();
}

function details(row) {
  const box = make("details"), head = make("summary", "All columns");
  box.append(head);
  head.setAttribute("aria-label", "All columns of " + row.source);
  box.addEventListener("toggle", () => {
    if (!box.open || box.querySelector("dl")) return;
    const number = Math.floor(row.number / PARTS.size), list = make("dl");
    box.append(list);
    const fill = () => {
      const found = chunks.get(number)[row.number % PARTS.size];
      for (const [name, value] of Object.entries(found)) {
        list.append(make("dt", name), make("dd", typeof value === "string" ? value : JSON.stringify(value)));
      }
    };
    if (!asked.has(number)) asked.set(number, new Promise((done, fail) => {
      const script = make("script");
      script.src = PARTS.details[number];
      script.onload = done;
      script.onerror = () => { asked.delete(number); fail(); };
      document.head.append(script);
    }));
    asked.get(number).then(fill, () => { list.remove(); box.open = false; head.textContent = "Details are missing"; });
  });
  return box;
}

function draw(row) {
  const item = make("li", undefined, colour(row.kind));
  let picture = make("div", "no picture", "none");
  if (row.thumbnail) {
    const image = make("img");
    image.loading = "lazy"; image.decoding = "async"; image.width = 256; image.height = 196;
    image.alt = "Overlay of " + row.source;
    image.src = PARTS.thumbnails + row.thumbnail;
    picture = image;
    const path = address(row.overlay);
    if (path) { picture = make("a"); picture.href = path; picture.append(image); }
  }
  const left = make("div", undefined, "picture"), middle = make("div"), right = make("div");
  left.append(picture);
  middle.append(make("div", row.source, "file"));
  const whose = WHOSE[row.prompt_laterality] || "";
  middle.append(row.prompt ? make("div", row.prompt + whose) : make("div", "no sentence", "soft"));
  const fact = (name, words) => { if (words) { const line = make("div", name + ": ", "soft");
    line.append(make("span", words)); middle.append(line); } };
  if (row.understood && row.understood !== row.prompt) {
    fact("understood", row.understood + (row.understood_laterality === "image" ? " (sides of the picture)" : ""));
  }
  if (row.prompt_used && row.prompt_used !== "given") fact("sentence used", row.prompt_used);
  fact("sides named", row.sides_named);
  fact("sides marked", row.mask_sides);
  fact("zones marked", row.mask_zones);
  if (typeof row.share === "number") fact("marked", (100 * row.share).toFixed(1) + " % of the picture"
    + (typeof row.area_mm2 === "number" ? ", " + Math.round(row.area_mm2) + " mm\\u00b2" : ""));
  right.append(make("div", TITLES[row.kind] || row.kind, "verdict"));
  const reasons = [row.reason, row.warnings].join(" | ").split(" | ").filter(Boolean);
  if (reasons.length) { const list = make("ul"); reasons.forEach(r => list.append(make("li", r))); right.append(list); }
  item.append(left, middle, right, details(row));
  return item;
}

function show(top) {
  const pages = Math.max(1, Math.ceil(shown.length / state.size));
  page = Math.min(Math.max(page, 0), pages - 1);
  const first = page * state.size, some = shown.slice(first, first + state.size);
  $("rows").replaceChildren(...some.map(draw));
  if (!some.length) $("rows").append(make("div", "No row fits.", "empty"));
  $("place").textContent = shown.length ? (first + 1).toLocaleString("en") + "\\u2013"
    + (first + some.length).toLocaleString("en") + " of " + shown.length.toLocaleString("en")
    + ", page " + (page + 1).toLocaleString("en") + " of " + pages.toLocaleString("en") : "0 rows";
  $("first").disabled = $("before").disabled = page === 0;
  $("next").disabled = $("last").disabled = page === pages - 1;
  const kept = new URLSearchParams({only: state.only, words: state.words, sort: state.sort,
    down: state.down ? "1" : "", size: state.size, page: page + 1});
  history.replaceState(null, "", "#" + kept);
  if (top) window.scrollTo(0, 0);
}
function go(to) { page = to; show(true); }
function again() { page = 0; select(); show(false); }

function chips() {
  const counts = new Map();
  for (const row of rows) counts.set(row.kind, (counts.get(row.kind) || 0) + 1);
  if (!counts.has(state.only)) state.only = "";
  const kinds = [...counts.keys()].sort((a, b) => rank(a) - rank(b));
  for (const kind of ["", ...kinds]) {
    const label = make("label", undefined, "chip"), input = make("input");
    input.type = "radio"; input.name = "only"; input.value = kind; input.checked = kind === state.only;
    input.addEventListener("change", () => { state.only = kind; again(); });
    const count = kind ? counts.get(kind) : rows.length;
    const words = count.toLocaleString("en")
      + (kind && rows.length ? " (" + (100 * count / rows.length).toFixed(1) + " %)" : "");
    label.append(input, (kind ? TITLES[kind] || kind : "All") + " ", make("b", words, kind && colour(kind)));
    $("only").append(label);
  }
}

function start() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of ["only", "words", "sort"]) state[name] = kept.get(name) || "";
  state.down = kept.get("down") === "1";
  if (![...$("sort").options].some(o => o.value === state.sort)) state.sort = "";
  if ([...$("size").options].some(o => o.value === kept.get("size"))) state.size = Number(kept.get("size"));
  page = Math.max(0, (parseInt(kept.get("page"), 10) || 1) - 1);
  $("words").value = state.words; $("sort").value = state.sort; $("size").value = state.size;
  $("down").setAttribute("aria-pressed", state.down);
  chips(); select(); show(false);
  let wait;
  $("words").addEventListener("input", () => {
    clearTimeout(wait); wait = setTimeout(() => { state.words = $("words").value; again(); }, 150);
  });
  $("sort").addEventListener("change", () => { state.sort = $("sort").value; again(); });
  $("size").addEventListener("change", () => { state.size = Number($("size").value); again(); });
  $("down").addEventListener("click", () => { state.down = !state.down;
    $("down").setAttribute("aria-pressed", state.down); again(); });
  const last = () => Math.ceil(shown.length / state.size) - 1;
  $("first").onclick = () => go(0); $("before").onclick = () => go(page - 1);
  $("next").onclick = () => go(page + 1); $("last").onclick = () => go(last());
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const typing = event.target.closest && event.target.closest("input, select");
    if (event.key === "/" && !typing) { event.preventDefault(); $("words").focus(); }
    else if (event.key === "Escape" && event.target === $("words")) { $("words").blur(); }
    else if (typing) return;
    else if (event.key === "ArrowRight" && page < last()) go(page + 1);
    else if (event.key === "ArrowLeft" && page > 0) go(page - 1);
  });
  requestAnimationFrame(() => { document.documentElement.dataset.ready = Math.round(performance.now()); });
}
"""
