"use strict";
// Sorting, values on hover, heads of the heat maps. Without it the page still shows everything.
const tip = document.getElementById("tip");

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(4, x + 12), innerWidth - box.width - 4);
  const above = y - box.height - 10;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${above > 4 ? above : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
  document.querySelectorAll(".tip.on").forEach((mark) => mark.classList.remove("on"));
}

// Tables: a click on a header sorts by exact values; what has none stays last.
document.querySelectorAll("table.data").forEach((table) => {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === (head.classList.contains("number") ? "descending" : "none");
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[index]?.dataset.sort;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const numeric = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      const order = numeric ? x - y : x.localeCompare(y);
      return up ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  }));
  table.querySelectorAll("[data-tip]").forEach((cell) => cell.removeAttribute("title"));
  table.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("[data-tip]");
    if (cell) showTip(cell.dataset.tip, event.clientX, event.clientY); else hideTip();
  });
  table.addEventListener("pointerleave", hideTip);
  // By keyboard: one cell is a stop of the Tab key, the arrows lead to the others, and the cell in focus tells its values.
  const grid = () => [...body.rows].map((row) => [...row.cells]);
  const start = body.querySelector("[data-tip]");
  if (start) start.tabIndex = 0;
  body.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") hideTip();
    const cell = event.target.closest("td, th");
    if (!step || !cell) return;
    const rows = grid(), row = rows.findIndex((cells) => cells.includes(cell));
    const next = rows[row + step[0]]?.[rows[row].indexOf(cell) + step[1]];
    if (!next) return;
    event.preventDefault();
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  body.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td, th"), box = cell.getBoundingClientRect();
    if (cell.dataset.tip) showTip(cell.dataset.tip, box.left, box.top); else hideTip();
  });
  body.addEventListener("focusout", hideTip);
});

// Figures: the nearest mark within reach tells its value; keyboard users tab through the marks.
document.querySelectorAll("figure svg").forEach((svg) => {
  const marks = [...svg.querySelectorAll(".tip")].map((node) => {
    const title = node.querySelector("title");
    const text = title.textContent;
    title.remove(); // else the browser's own, slower tip would cover ours
    node.setAttribute("tabindex", "0");
    node.setAttribute("aria-label", text);
    const centre = () => {
      const box = node.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2, box];
    };
    node.addEventListener("focus", () => showTip(text, ...centre().slice(0, 2)));
    node.addEventListener("blur", hideTip);
    return { node, text, centre };
  });
  if (!marks.length) return;
  svg.addEventListener("pointermove", (event) => {
    let best = null, reach = 22;
    for (const mark of marks) {
      const [x, y, box] = mark.centre();
      const wide = box.width > 60; // a level line: near it is near
      const distance = wide ? Math.abs(event.clientY - y) + 8 : Math.hypot(event.clientX - x, event.clientY - y);
      if (distance < reach) [best, reach] = [mark, distance];
    }
    hideTip();
    if (!best) return;
    best.node.classList.add("on");
    showTip(best.text, event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", hideTip);
});

// Heat maps: the exact entry under the pointer, and one head instead of the mean.
const maps = JSON.parse(document.getElementById("maps").textContent);
const unpack = (map) => {
  const bytes = Uint8Array.from(atob(map.values), (c) => c.charCodeAt(0));
  return new DataView(bytes.buffer);
};

function rgb(colors, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colors.length - 1);
  const low = Math.min(Math.floor(place), colors.length - 2);
  const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  return [0, 1, 2].map((k) => Math.round(part(colors[low], k) * (low + 1 - place) + part(colors[low + 1], k) * (place - low)));
}

document.querySelectorAll("figure[data-map]").forEach((figure) => {
  const map = maps[figure.dataset.map];
  const image = figure.querySelector("image");
  if (!map || !image) return;
  const view = unpack(map), n = map.size;
  let layer = 0;
  const at = (row, column) => view.getInt16(2 * ((layer * n + row) * n + column), true) * map.scale;
  const drawn = image.getAttribute("href");
  figure.showHead = (index) => {
    layer = Math.min(index, map.tops.length - 1);
    if (layer === 0) { image.setAttribute("href", drawn); return; }
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d"), pixels = context.createImageData(n, n);
    const span = map.signed ? Math.max(-map.lows[layer], map.tops[layer]) : map.tops[layer];
    const flip = image.getAttribute("transform")?.includes("scale(1 -1)");
    for (let i = 0; i < n * n; i++) {
      const row = flip ? n - 1 - Math.floor(i / n) : Math.floor(i / n);
      const value = at(row, i % n);
      const share = map.signed ? (value / span + 1) / 2 : Math.sqrt(Math.max(0, value) / span);
      pixels.data.set([...rgb(map.colors, share), 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
  };
  figure.querySelector("svg").addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / box.width * n);
    const row = Math.floor((event.clientY - box.top) / box.height * n);
    if (column < 0 || row < 0 || column >= n || row >= n) { hideTip(); return; }
    const name = (i) => {
      if (map.tokens[i]) return `${i} “${map.tokens[i]}”`;
      return map.length > n ? `tokens from ${Math.floor(i * map.length / n)}` : `${i}`;
    };
    showTip(`${name(row)} looks at ${name(column)}: ${Number(at(row, column).toFixed(5))}`, event.clientX, event.clientY);
  });
  figure.querySelector("svg").addEventListener("pointerleave", hideTip);
});

document.querySelectorAll(".heads").forEach((chooser) => {
  const figures = [...chooser.parentElement.querySelectorAll("figure[data-map]")].filter((f) => f.showHead);
  const heads = Math.max(0, ...figures.map((f) => maps[f.dataset.map].tops.length - 1));
  if (heads < 2) return;
  const select = chooser.querySelector("select");
  for (let i = 1; i <= heads; i++) select.add(new Option(`head ${i}`, i));
  select.addEventListener("change", () => figures.forEach((f) => f.showHead(Number(select.value))));
  chooser.hidden = false;
});

addEventListener("scroll", hideTip, { passive: true });
