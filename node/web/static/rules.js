// The rule tester: files or a folder, dropped or chosen, go to the node; its verdict comes back as part of this page.

const form = document.getElementById("rules");
const say = (text) => (document.getElementById("progress").textContent = text);

/** All files of what was dropped, folders included at any depth. */
async function filesOf(items) {
  const found = [];
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  while (entries.length) {
    const entry = entries.shift();
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else entries.push(...(await children(entry)));
  }
  return found;
}

async function children(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) return found;
    found.push(...some);
  }
}

async function send(files) {
  const megabytes = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
  if (!files.length) return say("There is no file in it.");
  if (files.length > Number(form.dataset.most)) return say(`These are ${files.length} files; that is too many.`);
  if (megabytes > Number(form.dataset.limit)) return say(`These are ${megabytes.toFixed(0)} MB; that is too much.`);
  say(`Reading ${files.length} files, ${megabytes.toFixed(1)} MB …`);
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  const token = JSON.parse(document.body.getAttribute("hx-headers"));
  const answer = await fetch("/rules", { method: "POST", body, headers: { ...token, "HX-Request": "true" } });
  const text = await answer.text();
  if (!answer.ok) return say(new DOMParser().parseFromString(text, "text/html").body.textContent);
  document.getElementById("verdicts").innerHTML = text; // made by the node, which escapes what came from the files
  say(`${files.length} files read.`);
}

const guarded = (files) => Promise.resolve(files).then(send).catch((error) => say(`That did not work: ${error.message}`));

for (const id of ["files", "folder"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => {
    guarded([...input.files]);
    input.value = "";
  });
}
for (const kind of ["dragenter", "dragover"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
form.addEventListener("dragleave", () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  guarded(filesOf(event.dataTransfer.items));
});
