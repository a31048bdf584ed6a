// The public verification page. The page never reads the package itself: it
// hands the file to a worker that can open no connection (offline-verify.js).

import { parse, worker } from "./trusted.js";

const root = document.getElementById("verify");
const $ = (id) => document.getElementById(id);
const words = Object.fromEntries([...$("words").content.querySelectorAll("[data-word]")].map((e) => [e.dataset.word, e.textContent]));
const lang = document.documentElement.lang;
const form = $("verify-form");

for (const part of root.querySelectorAll(".needs-script")) part.hidden = false;

let file = null; // the package
let running = null; // the worker at work
let saved = ""; // the report as a page of its own
let compiled = null; // promise of the module, kept for the next package

function module() {
  compiled ??= WebAssembly.compileStreaming(fetch(root.dataset.module));
  compiled.catch(() => { compiled = null; });
  return compiled;
}

function basis() { return form.elements.basis.value; }

function showBasis() {
  $("basis-file-field").hidden = basis() !== "file";
  $("basis-id-field").hidden = basis() !== "alliance";
}
form.addEventListener("change", (event) => { if (event.target.name === "basis") showBasis(); });
showBasis();

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let u = 0;
  while (bytes >= 1024 && u < units.length - 1) { bytes /= 1024; u++; }
  return `${u === 0 ? bytes : bytes.toFixed(1)} ${units[u]}`;
}

// A folder of the browser's choosing or a dropped file: the input has it either way.
$("package").addEventListener("change", () => {
  file = $("package").files[0] ?? null;
  if (!file) return;
  $("chosen").hidden = false;
  $("chosen-name").textContent = file.name;
  $("chosen-size").textContent = size(file.size);
  $("verify-button").textContent = words.again;
  start();
});
form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
$("cancel").addEventListener("click", () => { stop(); fail(words.cancelled); $("verify-button").focus(); });

function stop() {
  running?.terminate();
  running = null;
  $("progress").hidden = true;
  $("cancel").hidden = true;
  $("verify-button").hidden = false;
}

function fail(text) {
  const line = $("verify-error");
  line.hidden = false;
  line.textContent = text;
}

// trust returns what the package is held against, or null after saying what is missing.
async function trust() {
  switch (basis()) {
    case "portal": {
      const answer = await fetch(root.dataset.policy);
      if (!answer.ok) throw new Error(`policy: ${answer.status}`);
      return { policy: await answer.text() };
    }
    case "file": {
      const own = $("policy").files[0];
      if (!own || own.size > 1 << 20) { fail(words["need-policy"]); $("policy").focus(); return null; }
      return { policy: await own.text() };
    }
    default: {
      const alliance = $("alliance").value.trim().toLowerCase();
      if (!/^[0-9a-f]{64}$/.test(alliance)) { fail(words["need-alliance"]); $("alliance").focus(); return null; }
      return { alliance };
    }
  }
}

async function start() {
  stop();
  if (!file) return;
  $("verify-error").hidden = true;
  $("result").hidden = true;
  try {
    const trusted = await trust();
    if (!trusted) return;
    $("progress").hidden = false;
    $("cancel").hidden = false;
    $("verify-button").hidden = true;
    $("progress-text").textContent = words.loading;
    $("progress-bar").removeAttribute("value");
    const mine = (running = worker(root.dataset.worker));
    const compiledModule = await module();
    if (running !== mine) { mine.terminate(); return; } // cancelled meanwhile
    mine.onmessage = ({ data }) => hear(mine, data);
    mine.onerror = (event) => hear(mine, { failure: event.message || "worker" });
    mine.postMessage({ module: compiledModule, file, lang, ...trusted });
  } catch (error) {
    stop();
    fail(words.failed.replace("%detail%", error.message));
  }
}

let percent = -1;
function hear(from, { progress, answer, failure, memory }) {
  if (from !== running) return;
  if (progress) {
    const share = progress.total > 0 ? progress.done / progress.total : 0;
    $("progress-bar").value = share * 100;
    // The text is read aloud when it changes: by whole tens.
    const now = Math.floor(share * 10) * 10;
    if (now !== percent) { percent = now; $("progress-text").textContent = words.reading.replace("%percent%", now); }
    return;
  }
  stop();
  if (failure !== undefined) { fail(words.failed.replace("%detail%", failure)); return; }
  root.dataset.memory = memory; // bytes of the module's memory, for whoever wants to know
  show(answer);
}

// show puts the report into the page, verdict first.
function show(answer) {
  const body = $("result-body"), details = $("result-details");
  body.replaceChildren();
  details.replaceChildren();
  $("result-file").textContent = file.name;
  const unread = answer.error !== undefined;
  details.parentElement.hidden = unread;
  $("save").hidden = unread;
  if (unread) {
    body.append(block("cannot-be-determined", words.unread, answer.error));
  } else {
    saved = answer.html;
    const sections = divide(parse(mainOf(answer.html)).querySelector("main"));
    body.append(...sections.first);
    details.append(...sections.rest);
  }
  $("result").hidden = false;
  $("result").focus();
}

// mainOf cuts the report out of its page: the style sheet stays behind.
function mainOf(html) { return html.slice(html.indexOf("<main>"), html.lastIndexOf("</main>") + 7); }

function block(verdict, word, text) {
  const box = document.createElement("div");
  box.className = `verdict-block ${verdict}`;
  const line = document.createElement("p");
  line.className = `verdict ${verdict}`;
  line.append($(`mark-${verdict}`).content.cloneNode(true), word);
  const why = document.createElement("p");
  why.textContent = text;
  box.append(line, why);
  return box;
}

// divide orders a report for the page: the verdict; what differs and what to
// note; the steps; what is not proven. What it rests on and every check follow
// in the rest. The report's sections are told apart by what is in them.
function divide(report) {
  const first = [], rest = [];
  const whole = report.querySelector(".whole");
  const verdict = ["matches", "does-not-match", "cannot-be-determined"].find((v) => whole.classList.contains(v)) ?? "cannot-be-determined";
  first.push(block(verdict, words[verdict], whole.querySelector("p").textContent));
  const sections = [];
  let started = false;
  for (const node of report.children) {
    if (node.localName === "h2") { sections.push([]); started = true; }
    if (started && node.localName !== "footer") sections.at(-1).push(node);
  }
  const checks = sections.findLastIndex((s) => s.some((n) => n.localName === "table"));
  sections.forEach((nodes, i) => {
    const box = document.createElement("section");
    box.className = "report";
    for (const node of nodes) box.append(harmless(node));
    (i > 0 && i < checks ? first : rest).push(box);
  });
  return { first, rest };
}

const elements = new Set(["h2", "h3", "p", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "section", "span", "strong", "code", "div"]);
const classes = new Set(["step", "files", "verdict", "matches", "does-not-match", "cannot-be-determined"]);

// harmless copies what a report is made of, and of anything else its text alone.
function harmless(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE || !elements.has(node.localName)) return document.createTextNode(node.textContent);
  const copy = document.createElement(node.localName === "h2" ? "h3" : node.localName === "h3" ? "h4" : node.localName);
  for (const name of node.classList) if (classes.has(name)) copy.classList.add(name);
  if (node.localName === "th") copy.scope = "col";
  if (node.localName === "table") copy.classList.add("fold");
  for (const child of node.childNodes) copy.append(harmless(child));
  if (copy.classList.contains("verdict")) {
    const kind = ["matches", "does-not-match", "cannot-be-determined"].find((v) => copy.classList.contains(v));
    if (kind) copy.prepend($(`mark-${kind}`).content.cloneNode(true));
  }
  if (node.localName === "td") {
    const heading = node.closest("table").querySelectorAll("thead th")[node.cellIndex];
    if (heading) copy.dataset.label = heading.textContent;
  }
  return copy;
}

$("print").addEventListener("click", () => { for (const d of root.querySelectorAll("details.more")) d.open = true; print(); });
$("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([saved], { type: "text/html" }));
  link.download = `${file.name.replace(/\.[^.]*$/, "")}-${lang}.html`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
});
