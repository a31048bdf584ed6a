// My records, and one record: what the portal cannot know, the names of steps and
// files, is decrypted here and put beside what it says.

import { $, bench, element, save, size } from "./deposit-bench.js";

const root = $("records") ?? $("record");
if (root?.dataset.worker) {
  for (const part of root.querySelectorAll(".needs-script")) part.hidden = false;
  const b = bench(root);
  if (root.id === "records") records(b);
  else record(b);
}

// opened tells once why nothing can be opened; false when so.
async function opened(b) {
  const state = await b.run("state");
  // A key that signs no more still opens what it opened.
  if (["ready", "revoked", "expired"].includes(state.state)) return true;
  $("opening").textContent = b.words["no-key"];
  return false;
}

async function records(b) {
  const search = $("search");
  const items = [...root.querySelectorAll("li[data-trail]")];
  const texts = new Map(items.map((li) => [li, `${li.textContent} ${li.dataset.digests}`.toLowerCase()]));
  search.addEventListener("input", filter);
  function filter() {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const li of items) {
      li.hidden = !wanted.every((w) => texts.get(li).includes(w));
      n += li.hidden ? 0 : 1;
    }
    $("search-status").textContent = wanted.length ? b.words.found.replace("%n%", n) : "";
  }
  try {
    if (!await opened(b)) return;
    $("opening").textContent = b.words.opening;
    for (const li of items) {
      const files = [];
      const names = [];
      let failure = "";
      for (const digest of li.dataset.manifests.split(" ")) {
        try {
          const m = await b.run("manifest", { digest });
          names.push(m.step);
          files.push(...m.objects.map((o) => o.name));
          texts.set(li, `${texts.get(li)} ${m.step} ${m.note ?? ""} ${Object.values(m.place.claimed).join(" ")} ${m.objects.map((o) => `${o.name} ${o.sha256} ${o.sm3}`).join(" ")}`.toLowerCase());
        } catch (error) {
          failure = b.say(error);
        }
      }
      const name = li.querySelector("[data-name]");
      if (names.length) name.textContent = names.length > 3 ? `${names.slice(0, 2).join(" → ")} → … → ${names.at(-1)}` : names.join(" → ");
      const line = li.querySelector("[data-files]");
      line.hidden = files.length === 0 && !failure;
      line.textContent = files.length > 4 ? `${files.slice(0, 3).join(" · ")} · +${files.length - 3}` : files.join(" · ");
      if (failure) line.append(element("span", `${files.length ? " " : ""}${failure}`, { class: "fine" }));
      if (search.value) filter();
    }
    $("opening").textContent = "";
  } catch (error) {
    $("opening").textContent = b.say(error);
  }
}

async function record(b) {
  const fail = (text) => { $("record-error").hidden = !text; $("record-error").textContent = text ?? ""; };
  $("package")?.addEventListener("click", () => pack(b, fail));
  try {
    if (!await opened(b)) return;
    $("opening").textContent = b.words.opening;
    const names = [];
    for (const li of root.querySelectorAll("li[data-manifest]")) {
      try {
        const m = await b.run("manifest", { digest: li.dataset.manifest });
        names.push(m.step);
        fill(b, li, m, fail);
      } catch (error) {
        li.querySelector("[data-phase]").textContent = b.say(error);
      }
    }
    if (names.length) root.querySelector("[data-title]").textContent = names[0];
    $("opening").textContent = "";
  } catch (error) {
    $("opening").textContent = b.say(error);
  }
}

function fill(b, li, m, fail) {
  li.querySelector("[data-name]").textContent = m.step;
  li.querySelector("[data-phase]").textContent = [b.words[m.phase], m.act?.passkey ? b.words.confirmed : ""].filter(Boolean).join(" · ");
  const note = li.querySelector("[data-note]");
  note.hidden = !m.note;
  note.textContent = m.note ?? "";
  const place = li.querySelector("[data-place]");
  const claimed = Object.values(m.place.claimed).join(" ");
  place.hidden = !claimed;
  place.textContent = b.words.place.replace("%place%", claimed);
  const files = li.querySelector("[data-files]");
  files.hidden = m.objects.length === 0;
  const table = element("table", null, { class: "fold" });
  const head = element("tr");
  for (const word of ["file", "size", "digest"]) head.append(element("th", b.words[word], { scope: "col" }));
  head.append(element("td"));
  const thead = element("thead");
  thead.append(head);
  const body = element("tbody");
  for (const o of m.objects) {
    const row = element("tr");
    const digest = element("details", null, { class: "digest" });
    digest.append(element("summary", `${o.sha256.slice(0, 8)}…${o.sha256.slice(-6)}`), element("code", `SHA-256 ${o.sha256} SM3 ${o.sm3}`));
    const cell = element("td", null, { "data-label": b.words.digest });
    cell.append(digest);
    const get = element("button", b.words.download, { type: "button", class: "link", "aria-label": `${b.words.download} ${o.name}` });
    get.addEventListener("click", async () => {
      fail();
      get.disabled = true;
      try {
        const file = await b.run("object", { object: o }, ({ done, total }) => { $("opening").textContent = b.words.decrypting.replace("%done%", size(done)).replace("%total%", size(total)); });
        save(file, o.name);
      } catch (error) {
        fail(b.say(error));
      }
      $("opening").textContent = "";
      get.disabled = false;
    });
    const last = element("td");
    last.append(get);
    row.append(element("th", o.name, { scope: "row", "data-label": b.words.file }), element("td", size(o.size), { "data-label": b.words.size }), cell, last);
    body.append(row);
  }
  table.append(thead, body);
  files.replaceChildren(table);
}

async function pack(b, fail) {
  fail();
  $("package").disabled = true;
  $("package-progress").hidden = false;
  try {
    const made = await b.run("package", { trail: root.dataset.trail, manifests: root.dataset.manifests.split(" ") },
      ({ done }) => { $("package-progress-text").textContent = b.words.packing.replace("%done%", size(done)); });
    save(made.file, `${b.words["package-name"]}-${root.dataset.trail.slice(0, 8)}.zip`);
    $("opening").textContent = b.words[made.withheld.length || made.no_object ? "packed-without" : "packed"].replace("%size%", size(made.size));
  } catch (error) {
    fail(b.say(error));
  }
  $("package-progress").hidden = true;
  $("package").disabled = false;
}
