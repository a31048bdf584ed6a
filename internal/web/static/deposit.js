// The page on which files are deposited. What is computed is computed by the
// worker (deposit-worker.js); this shows how it comes along.

import { $, beijing, bench, element, size } from "./deposit-bench.js";

const root = $("deposit");
root.hidden = false;
const b = bench(root);
const form = $("deposit-form");
let files = []; // {name, file}

function show(id) {
  for (const part of ["loading", "no-key", "deposit-form", "work"]) $(part).hidden = part !== id;
}

$("camera-field").hidden = !matchMedia("(pointer: coarse)").matches;

function fail(id, text) {
  $(id).hidden = !text;
  $(id).textContent = text ?? "";
}

function add(list, rename) {
  const given = [...list].map((file) => ({ name: rename ? rename(file) : file.name, file }));
  files.push(...given.filter(({ file }) => file.size > 0));
  // An empty file proves nothing, and is mostly one that could not be read.
  const empty = given.filter(({ file }) => file.size === 0).map(({ name }) => name);
  fail("deposit-error", empty.length ? b.words["empty-file"].replace("%name%", empty.join(", ")) : undefined);
  draw();
}

function draw() {
  $("chosen").hidden = files.length === 0;
  $("chosen-files").replaceChildren(...files.map(({ name, file }, i) => {
    const row = element("tr");
    const remove = element("button", b.words.remove, { type: "button", class: "link", "aria-label": `${b.words.remove} ${name}` });
    remove.addEventListener("click", () => { files.splice(i, 1); draw(); $("files").focus(); });
    const last = element("td");
    last.append(remove);
    row.append(element("th", name, { scope: "row", "data-label": b.words["file-name"] }), element("td", size(file.size), { "data-label": b.words["file-size"] }), last);
    return row;
  }));
}

for (const id of ["files", "camera"]) {
  $(id).addEventListener("change", () => { add($(id).files); $(id).value = ""; });
}
document.addEventListener("paste", (event) => {
  if (form.hidden) return;
  const pasted = [...(event.clipboardData?.files ?? [])];
  if (pasted.length === 0) return;
  event.preventDefault();
  const stamp = beijing(new Date()).slice(0, 19).replace(/[-:]/g, "").replace(" ", "-");
  let n = 0;
  add(pasted, (file) => (/^image\.\w+$/.test(file.name) ? `${b.words.screenshot}-${stamp}${++n > 1 ? `-${n}` : ""}.${file.name.split(".").pop()}` : file.name));
});

const stages = ["hash", "upload", "sign", "kept", "chained", "final", "stamped"];
function stage(name, detail) {
  const at = stages.indexOf(name);
  for (const [i, s] of stages.entries()) {
    const li = root.querySelector(`[data-stage="${s}"]`);
    li.className = i < at ? "done" : i === at ? "now" : "";
    if (i === at) li.setAttribute("aria-current", "step");
    else li.removeAttribute("aria-current");
  }
  if (detail !== undefined) root.querySelector(`[data-stage="${name}"] [data-detail]`).textContent = detail;
  const heading = root.querySelector(`[data-stage="${name}"] h3`).textContent;
  if ($("work-status").textContent !== heading) $("work-status").textContent = heading;
}
const detail = (name, text) => { root.querySelector(`[data-stage="${name}"] [data-detail]`).textContent = text; };
const done = (name) => { root.querySelector(`[data-stage="${name}"]`).className = "done"; };

function hear(event) {
  if (event.stage === "hash") {
    stage("hash", b.words.of.replace("%name%", event.name).replace("%done%", size(event.done)).replace("%total%", size(event.total)));
    $("hash-bar").hidden = false;
    $("hash-bar").value = event.total ? (100 * event.done) / event.total : 100;
  } else if (event.stage === "hashed") {
    const list = element("div");
    list.append(element("p", event.name));
    const row = element("div", null, { class: "beside fine" });
    for (const [what, value] of [["SHA-256", event.sha256], ["SM3", event.sm3]]) {
      const line = element("details", null, { class: "digest" });
      line.append(element("summary", `${what} ${value.slice(0, 8)}…${value.slice(-6)}`), element("code", value));
      row.append(line);
    }
    list.append(row);
    $("digests").append(list);
    if (event.done === event.total) $("hash-bar").hidden = true;
  } else if (event.stage === "upload") {
    detail("upload", b.words.sent.replace("%size%", size(event.sent)));
  } else if (event.stage === "sign") {
    stage("sign", form.elements.confirm?.checked ? b.words["waiting-passkey"] : "");
  } else if (event.stage === "signed") {
    stage("kept");
    detail("sign", event.digest);
  } else if (event.stage === "kept") {
    stage("chained");
  }
}

function follow({ state }) {
  if (state.position !== undefined) detail("chained", b.words.position.replace("%n%", state.position));
  if (state.state === "chained") stage("final");
  if (state.state === "final") {
    stage("stamped");
    done("final");
    const bracket = state.not_before && b.words.bracket.replace("%from%", beijing(state.not_before)).replace("%to%", beijing(state.not_later));
    detail("final", [b.words.witnesses.replace("%n%", state.witnesses.length), bracket].filter(Boolean).join(" "));
    ready(state);
  }
}

function ready(state) {
  $("work-done").hidden = false;
  $("to-record").href = `/${document.documentElement.lang}/records/${state.trail}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  fail("deposit-error");
  if (files.length === 0) { fail("deposit-error", b.words["need-files"]); $("files").focus(); return; }
  const step = form.elements.step.value.trim();
  if (!step) { fail("deposit-error", b.words["need-step"]); form.elements.step.focus(); return; }
  show("work");
  $("work").focus();
  $("digests").replaceChildren();
  fail("work-error");
  $("work-failed").hidden = true;
  addEventListener("beforeunload", stay);
  try {
    const kept = await b.run("deposit", { files, step, phase: form.elements.phase.value, note: form.elements.note.value.trim(), place: form.elements.place.value.trim(),
      trail: root.dataset.trail, confirm: form.elements.confirm?.checked ?? false }, hear);
    removeEventListener("beforeunload", stay); // it is kept: the rest goes on without this page
    ready(kept);
    const end = await b.run("follow", { digest: kept.digest }, follow);
    if (end.state === "refused") throw Object.assign(new Error(end.refusal), { title: " ", refused: true });
    if (end.stamped) { done("stamped"); detail("stamped", b.words.stamped.replace("%time%", beijing(end.stamped))); } else { detail("stamped", b.words.unstamped); }
    $("work-status").textContent = b.words.finished;
  } catch (error) {
    removeEventListener("beforeunload", stay);
    fail("work-error", error.refused ? error.message : b.say(error));
    root.querySelector(".now")?.setAttribute("class", "failed");
    $("work-failed").hidden = false;
  }
});

function stay(event) { event.preventDefault(); }

$("again").addEventListener("click", () => { show("deposit-form"); form.elements.step.focus(); });

try {
  const state = await b.run("state");
  if (state.state === "ready") {
    show("deposit-form");
    if (root.dataset.demanded) {
      if (form.elements.confirm) {
        form.elements.confirm.disabled = true;
        $("confirm-hint").textContent = b.words.demanded;
      }
      if (!form.elements.confirm || !state.acts) {
        $("deposit-button").disabled = true;
        fail("deposit-error", b.words["demanded-none"]);
      }
    } else if (form.elements.confirm && !state.acts) {
      form.elements.confirm.checked = false;
      form.elements.confirm.disabled = true;
      $("confirm-hint").textContent = b.words["no-passkey"];
    }
  } else {
    const why = { none: state.earlier ? "lost" : "none", foreign: "lost", revoked: "revoked", expired: "expired", made: "made" }[state.state];
    $("no-key-text").textContent = b.words[`no-key-${why}`];
    show("no-key");
  }
} catch (error) {
  show("deposit-form");
  fail("deposit-error", b.say(error));
}
