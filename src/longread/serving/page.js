"use strict";
const at = (id) => document.getElementById(id);
const milliseconds = (value) => `${Number(value).toFixed(0)} ms`;

async function ask(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || `status ${response.status}`);
  return { answer, headers: response.headers };
}

function given() {
  const body = { text: at("text").value };
  if (!at("pair-field").hidden && at("pair").value) body.pair = at("pair").value;
  return body;
}

// One label, several, or a number: as the model was trained.
function said(answer) {
  if (answer.why) return `No answer: ${answer.why}`;
  if ("value" in answer) return Number(answer.value.toPrecision(6)).toLocaleString("en");
  if (answer.labels) return answer.labels.join(", ") || "None of the labels";
  return answer.label;
}

function showAnswer(answer, headers) {
  at("label").textContent = said(answer);
  const cut = answer.truncated ? "; a part was not read" : "";
  at("facts").textContent =
    `${answer.tokens.toLocaleString("en")} of ${answer.tokens_in_text.toLocaleString("en")} tokens read${cut} · ` +
    `${milliseconds(headers.get("x-total-time"))} (${milliseconds(headers.get("x-inference-time"))} in the model)`;
  const rows = Object.entries(answer.probabilities || {}).sort((a, b) => b[1] - a[1]).slice(0, 20).map(([name, p]) => {
    const row = document.createElement("tr");
    const meter = document.createElement("meter");
    meter.value = p;
    meter.setAttribute("aria-label", name);
    for (const [kind, content] of [["", name], ["bar", meter], ["number", `${(100 * p).toFixed(1)} %`]]) {
      const cell = document.createElement("td");
      if (kind) cell.className = kind;
      cell.append(content);
      row.append(cell);
    }
    return row;
  });
  at("probabilities").replaceChildren(...rows);
  at("words").replaceChildren();
  at("result").hidden = false;
}

function coloured(text, tokens) {
  const strongest = Math.max(...tokens.map((t) => Math.abs(t.attribution)), 1e-9);
  const paragraph = document.createElement("p");
  // Offsets count code points, strings of this language 16-bit units.
  const points = Array.from(text);
  let place = 0;
  for (const token of [...tokens].sort((a, b) => a.start - b.start)) {
    let begin = Math.max(token.start, place);
    while (begin < token.end && !points[begin].trim()) begin++;  // a space at a line's end would be a stripe
    if (token.end <= begin) continue;
    paragraph.append(points.slice(place, begin).join(""));
    const mark = document.createElement("mark");
    const side = token.attribution > 0 ? "--for" : "--against";
    const share = (0.8 * Math.abs(token.attribution)) / strongest;
    mark.style.background = `rgba(var(${side}), ${share.toFixed(3)})`;
    mark.title = token.attribution.toFixed(4);
    mark.append(points.slice(begin, token.end).join(""));
    paragraph.append(mark);
    place = token.end;
  }
  paragraph.append(points.slice(place).join(""));
  return paragraph;
}

function showWords(answer, body) {
  const texts = body.pair === undefined ? [body.text] : [body.text, body.pair];
  const title = document.createElement("h3");
  const name = answer.explained_label;
  title.textContent = "value" in answer
    ? `What raises ${name} (blue) and lowers it (orange)`
    : `What speaks for ${name} (blue) and against it (orange)`;
  const parts = texts.map((text, part) => coloured(text, answer.tokens.filter((t) => t.part === part)));
  at("words").replaceChildren(title, ...parts);
}

async function run(work) {
  const buttons = document.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  at("error").hidden = true;
  try {
    await work();
  } catch (error) {
    at("error").textContent = error.message;
    at("error").hidden = false;
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

async function classify() {
  const body = given();
  const { answer, headers } = await ask("/predict", { inputs: body });
  showAnswer(answer, headers);
  return body;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run(classify);
});
at("why").addEventListener("click", () =>
  run(async () => {
    const body = await classify();
    const { answer } = await ask("/explain", body);
    showWords(answer, body);
  }),
);

async function open(file) {
  if (file) at("text").value = await file.text();
}
at("file").addEventListener("change", (event) => open(event.target.files[0]));
at("text").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("text").classList.add("over");
});
at("text").addEventListener("dragleave", () => at("text").classList.remove("over"));
at("text").addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  at("text").classList.remove("over");
  open(event.dataTransfer.files[0]);
});

function labels(model) {
  if (model.problem_type === "regression") return `predicts ${model.labels[0]}`;
  const named = `${model.labels.slice(0, 6).join(", ")}${model.labels.length > 6 ? ", …" : ""}`;
  const any = model.problem_type === "multi_label_classification" ? ", any of which a text may have" : "";
  return `${model.labels.length} labels (${named})${any}`;
}

fetch("/ready").then(async (response) => {
  const model = await response.json();
  at("model").textContent = response.ok
    ? `${labels(model)}, ` +
      (model.max_length === null
        ? `${model.attention}, every word is read`
        : `${model.attention} attention, up to ${model.max_length.toLocaleString("en")} tokens`)
    : model.error;
  at("pair-field").hidden = !model.pairs;
});
