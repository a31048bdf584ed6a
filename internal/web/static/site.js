// What every page has: copy buttons, drop zones, dialogs. Everything works
// without it but copying.

function enhance(root) {
  for (const button of root.querySelectorAll("button.copy")) {
    button.textContent = document.body.dataset.copy;
    button.hidden = !navigator.clipboard;
  }
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest?.("button.copy");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copyText);
    copy.textContent = document.body.dataset.copied;
    setTimeout(() => { copy.textContent = document.body.dataset.copy; }, 2000);
  }
  const opens = event.target.closest?.("[data-opens]");
  if (opens) document.getElementById(opens.dataset.opens)?.showModal();
});

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    const zone = event.target.closest?.("[data-drop]");
    zone?.classList.toggle("over", type === "dragenter" || type === "dragover");
    // A file dropped beside the zone would otherwise replace the page.
    if (!zone && (type === "dragover" || type === "drop")) event.preventDefault();
  });
}

enhance(document);
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) if (node.nodeType === Node.ELEMENT_NODE) enhance(node);
}).observe(document.body, { childList: true, subtree: true });
