// What the lists need beyond htmx: ticks that survive new rows, and a dialog that asks first.

const ticks = () => [...document.querySelectorAll("input[name=id]")];
const ticked = new Set();
const dialog = () => document.getElementById("ask");

function count() {
  const bar = document.getElementById("chosen");
  if (!bar) return;
  const all = document.getElementById("everything");
  const number = all?.checked ? Number(all.dataset.count) : ticked.size;
  bar.querySelector("output").textContent = number === 1 ? "1 job chosen" : `${number} jobs chosen`;
  for (const button of bar.querySelectorAll("button[name=act]")) button.disabled = !number;
  const page = document.getElementById("this-page");
  if (page) {
    const boxes = ticks();
    page.checked = boxes.length > 0 && boxes.every((box) => box.checked);
    page.indeterminate = !page.checked && boxes.some((box) => box.checked);
  }
}

document.addEventListener("change", ({ target }) => {
  if (target.name === "id") target.checked ? ticked.add(target.value) : ticked.delete(target.value);
  else if (target.id === "this-page") {
    for (const box of ticks()) {
      box.checked = target.checked;
      target.checked ? ticked.add(box.value) : ticked.delete(box.value);
    }
  } else if (target.id !== "everything") return;
  count();
});

// New rows come with no box ticked: those that were ticked are ticked again.
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  for (const box of ticks()) box.checked = ticked.has(box.value);
  count();
  if (detail.target.id === "ask" && !dialog().open) dialog().showModal();
});

// What was chosen on pages that are not shown goes with the form too.
document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.elt.name === "act") detail.parameters.id = [...ticked].join(",");
});

document.addEventListener("htmx:responseError", ({ detail }) => {
  if (detail.xhr.status === 401) return; // htmx goes to the log-in
  const place = document.getElementById("message");
  place.textContent = new DOMParser().parseFromString(detail.xhr.responseText, "text/html").body.textContent;
  place.hidden = false;
  if (dialog()?.open) dialog().close();
});

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-close]")) dialog().close();
});

document.addEventListener("DOMContentLoaded", count);
