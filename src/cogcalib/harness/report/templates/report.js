"use strict";
// Sorts tables, lists the answers of a bin, filters mistakes. The page reads without it.
(() => {
  const MOST = 200;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const source = document.getElementById("page-data");
  const data = source ? JSON.parse(source.textContent) : null;
  document.documentElement.classList.add("script");

  // ---- Tables ----

  const number = (text) => {
    const found = text.replace(/[,\s]/g, "").replace(/\u2212/g, "-").match(/^[<>]?[-+]?\d*\.?\d+/);
    return found ? parseFloat(found[0].replace(/[<>]/, "")) : NaN;
  };
  const compare = (one, other) => {
    const a = number(one), b = number(other);
    if (Number.isNaN(a) && Number.isNaN(b)) return one.localeCompare(other);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
    return a - b;
  };
  const sort = (table, column, down) => {
    const header = table.tHead.rows[0].cells[column];
    all("th", table.tHead).forEach((each) => each.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = (row) => row.cells[column].textContent.trim();
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b)));
    table.tBodies[0].append(...(down ? rows.reverse() : rows));
  };
  const sorted = (table) => {
    const header = table.querySelector("th[aria-sort]");
    return header && [header.cellIndex, header.getAttribute("aria-sort") === "descending"];
  };
  const sortable = (table) => {
    if (!table.tHead || table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (!cell.textContent.trim()) return;
      const button = make("button", { type: "button", className: "sort" }, ...cell.childNodes);
      button.addEventListener("click", () =>
        sort(table, column, cell.getAttribute("aria-sort") === "ascending"));
      cell.replaceChildren(button);
    });
  };
  all("table.sortable").forEach(sortable);

  // ---- Contents ----

  const links = new Map(all(".contents a").map((link) => [link.hash.slice(1), link]));
  const parts = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let current = null;
  const tell = () => {
    const top = (part) => part.getBoundingClientRect().top;
    let now = parts.filter((part) => top(part) <= innerHeight / 4).at(-1) ?? parts[0];
    // The last parts may be too short to reach the top: there the one asked for counts.
    if (scrollY > 0 && scrollY + innerHeight >= document.documentElement.scrollHeight - 2) {
      const asked = document.getElementById(location.hash.slice(1));
      now = parts.includes(asked) && top(asked) >= 0 && top(asked) < innerHeight ? asked : parts.at(-1);
    }
    if (!now || now === current) return;
    current = now;
    links.forEach((link) => link.removeAttribute("aria-current"));
    const link = links.get(now.id), list = link.closest("ul");
    link.setAttribute("aria-current", "true");
    list.scrollLeft = link.offsetLeft - list.offsetLeft;
  };
  ["scroll", "resize", "hashchange"].forEach((event) => addEventListener(event, tell, { passive: true }));
  tell();

  if (!data) return;

  // ---- Answers of a bin ----

  const row = (cells) => make("tr", {}, ...cells.map(([text, numeric]) =>
    make("td", { className: numeric ? "" : "text", textContent: text })));
  const heads = (names) => make("thead", {}, make("tr", {}, ...names.map(([text, numeric]) =>
    make("th", { scope: "col", className: numeric ? "" : "text", textContent: text }))));
  const chosen = () => {
    const radio = document.querySelector('[name="definition"]:checked');
    const name = radio ? radio.parentNode.textContent.trim() : data.definitions[0];
    return Math.max(0, data.definitions.indexOf(name));
  };
  const kept = data.questions.length < data.total
    ? ` The page keeps ${data.questions.length} of ${data.total} questions.` : "";

  const surest = (n) => n > MOST ? `The surest ${MOST} of ${n}` : `${n} of ${n}`;

  const list = (figure, bin, title) => {
    const method = data.methods[+figure.dataset.method];
    const definition = data.definitions.indexOf(figure.dataset.definition);
    const found = data.questions.map((_, k) => k)
      .filter((k) => method.right[k] !== "-" && method.bins[definition][k] === bin)
      .sort((a, b) => method.confidence[definition][b] - method.confidence[definition][a]);
    const body = make("tbody", {}, ...found.slice(0, MOST).map((k) => row([
      [data.questions[k][0]], [data.questions[k][1]],
      [method.answers[k] + (method.right[k] === "1" ? " \u2713" : "")],
      [method.confidence[definition][k].toFixed(1), true]])));
    const columns = [["Question"], ["Correct answer"], [method.name], ["sure %", true]];
    const name = `${method.name}, ${figure.dataset.definition}, ${title}`;
    const close = make("button", { type: "button", textContent: "Close" });
    const place = figure.closest("section").querySelector(".answers");
    close.addEventListener("click", () => { place.hidden = true; });
    const table = make("table", { className: "prose" }, heads(columns), body);
    sortable(table);
    const scroll = make("div", { className: "scroll tall", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", name);
    place.replaceChildren(make("h3", { textContent: name, tabIndex: -1 }),
      make("p", { className: "note",
        textContent: `${surest(found.length)} answers shown.${kept}` }),
      scroll, close);
    place.hidden = false;
    place.firstChild.focus();
  };
  for (const figure of all("figure[data-method]")) {
    const bins = all("[data-bin]", figure);
    figure.querySelector("svg")?.setAttribute("role", "group");
    bins.forEach((bin, place) => {
      const title = bin.querySelector("title").textContent;
      bin.setAttribute("role", "button");
      bin.setAttribute("aria-label", title);
      bin.setAttribute("tabindex", place ? "-1" : "0");
      bin.addEventListener("click", () => list(figure, +bin.dataset.bin, title));
      bin.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === "Enter" || event.key === " ") list(figure, +bin.dataset.bin, title);
        else if (step && bins[place + step]) {
          bin.setAttribute("tabindex", "-1");
          bins[place + step].setAttribute("tabindex", "0");
          bins[place + step].focus();
        } else return;
        event.preventDefault();
      });
    });
  }

  // ---- Mistakes ----

  const filters = document.querySelector(".filters");
  if (!filters) return;
  const select = (name) => {
    const node = make("select", {}, ...data.methods.map((each, k) =>
      make("option", { value: k, textContent: each.name, selected: each.name === name })));
    return node;
  };
  const first = select(filters.dataset.first), second = select(filters.dataset.second);
  const text = make("input", { type: "search", placeholder: "any" });
  const least = make("input", { type: "number", min: 0, max: 100, value: 0 });
  const better = make("input", { type: "checkbox" });
  const count = make("p", { className: "note" });
  count.setAttribute("role", "status");
  const named = (name, node) => make("label", {}, make("span", { textContent: name }), node);
  filters.append(named("Mistakes of", first), named("beside", second), named("with the words", text),
    named("sure at least, %", least), named("only where the other is correct", better), count);
  filters.hidden = false;
  const table = document.getElementById("mistake-table");
  const show = () => {
    const one = data.methods[+first.value], other = data.methods[+second.value];
    const definition = chosen(), words = text.value.trim().toLowerCase();
    const sure = (method, k) => method.confidence[definition][k];
    const found = data.questions.map((_, k) => k).filter((k) => one.right[k] === "0"
      && sure(one, k) >= +least.value && (!better.checked || other.right[k] === "1")
      && (!words || [...data.questions[k], one.answers[k], other.answers[k]].join(" ")
        .toLowerCase().includes(words)))
      .sort((a, b) => sure(one, b) - sure(one, a));
    const columns = [["Question"], ["Correct answer"], [one.name], ["sure %", true], [other.name],
      ["sure %", true]];
    const body = make("tbody", {}, ...found.slice(0, MOST).map((k) => row([
      [data.questions[k][0]], [data.questions[k][1]], [one.answers[k]],
      [sure(one, k).toFixed(1), true],
      [other.right[k] === "-" ? "\u2013" : other.answers[k] + (other.right[k] === "1" ? " \u2713" : "")],
      [other.right[k] === "-" ? "\u2013" : sure(other, k).toFixed(1), true]])));
    const order = sorted(table);
    table.replaceChildren(heads(columns), body);
    sortable(table);
    if (order) sort(table, ...order);  // stays when the filter changes
    count.textContent = `${surest(found.length)} mistakes shown, under the confidence `
      + `${data.definitions[definition]}.${kept}`;
  };
  [first, second, text, least, better].forEach((each) => each.addEventListener("input", show));
  all('[name="definition"]').forEach((each) => each.addEventListener("input", show));
  show();
})();
