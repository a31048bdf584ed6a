// The page on which this browser gets its key, and gives it what an earlier one
// could open.

import { $, beijing, bench } from "./deposit-bench.js";
import { deviceLabel } from "./keys.js";

const root = $("key");
root.hidden = false;
const b = bench(root);
const form = $("key-form");
let state;

function fail(id, text) {
  $(id).hidden = !text;
  $(id).textContent = text ?? "";
}

async function look() {
  state = await b.run("state");
  $("loading").hidden = true;
  $("have").hidden = state.state !== "ready";
  form.hidden = state.state === "ready";
  if (state.state === "ready") {
    $("have-label").textContent = state.label;
    $("have-kind").textContent = state.algorithm;
    $("have-made").textContent = beijing(state.made);
    $("have-kid").textContent = state.kid;
    return;
  }
  const why = { none: state.earlier ? "lost" : "none", foreign: "lost", revoked: "revoked", expired: "expired", made: "made" }[state.state];
  $("why-text").textContent = b.words[`why-${why}`];
  form.elements.label.value ||= state.label ?? deviceLabel();
  if (state.state === "made") { // interrupted: the key is there, its enrolment is not
    $("key-button").textContent = b.words.finish;
    return;
  }
  $("recovery-choice").hidden = !state.recoverable;
  choose();
}

function choose() {
  $("recovery-field").hidden = $("recovery-choice").hidden || form.elements.recovery.value !== "old";
}
form.addEventListener("change", choose);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  fail("key-error");
  const label = form.elements.label.value.trim();
  if (!label) { fail("key-error", b.words["need-label"]); form.elements.label.focus(); return; }
  const typed = $("recovery-field").hidden ? "" : form.elements["recovery-text"].value.trim();
  if (!$("recovery-field").hidden && !typed) { fail("key-error", b.words["need-recovery"]); form.elements["recovery-text"].focus(); return; }
  $("key-button").disabled = true;
  $("key-status").textContent = b.words.working;
  try {
    // Asked before there is anything to lose: browsers drop what is not persistent
    // when the disk is full.
    await navigator.storage?.persist?.();
    if (state.state === "made") {
      await b.run("finishKey");
      await look();
    } else {
      const made = await b.run("makeKey", { label, recovery: typed });
      if (made.paper) {
        form.hidden = true;
        $("paper").hidden = false;
        $("paper-key").textContent = made.paper;
        $("paper").focus();
      } else {
        $("key-status").textContent = b.words.restoring.replace("%n%", "0");
        const all = await b.run("restore", { recovery: typed }, (e) => { $("key-status").textContent = b.words.restoring.replace("%n%", e.restored); });
        await look();
        tell(all);
      }
    }
  } catch (error) {
    fail("key-error", b.say(error));
    await look().catch(() => {}); // the first failure is the one to tell
  }
  $("key-status").textContent = "";
  $("key-button").disabled = false;
});

function tell(all) {
  $("restore").open = true;
  $("restore-status").textContent = b.words[all.missing ? "restored-some" : "restored"].replace("%n%", all.done).replace("%missing%", all.missing);
}

$("restore-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  fail("restore-error");
  const typed = event.target.elements["restore-key"].value.trim();
  if (!typed) { fail("restore-error", b.words["need-recovery"]); return; }
  try {
    tell(await b.run("restore", { recovery: typed }, (e) => { $("restore-status").textContent = b.words.restoring.replace("%n%", e.restored); }));
    event.target.elements["restore-key"].value = "";
  } catch (error) {
    $("restore-status").textContent = "";
    fail("restore-error", b.say(error));
  }
});

$("paper-print").addEventListener("click", () => print());
const kept = $("paper-kept");
kept.addEventListener("change", () => { $("paper-go").setAttribute("aria-disabled", String(!kept.checked)); });
$("paper-go").addEventListener("click", (event) => {
  if (!kept.checked) { event.preventDefault(); fail("key-error"); kept.focus(); }
});

try {
  await look();
} catch (error) {
  $("loading").hidden = true;
  form.hidden = false;
  fail("key-error", b.say(error));
}
