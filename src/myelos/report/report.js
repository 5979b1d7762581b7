// Corrections in the page. Everything shown follows from the cells as delivered and one list of corrections: `journal`.
// The rules are those of counting.py; intervals that need the places of cells are left to `myelos recount`.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const original = new Map(data.cells.map(([id, slide, x, y, width, height, type]) =>
    [id, { id, slide, x, y, width, height, type }]));
  const SVG = "http://www.w3.org/2000/svg";
  let journal = [];
  let past = []; // earlier journals, for undo
  let selected = null;
  let adding = false;
  let saved = 0;
  let serial = 0;

  const { beta, interval } = statistics;
  const exact = (k, n) => interval(k, n, data.level);

  // ---- state: the cells after the corrections so far
  const current = () => {
    const cells = new Map([...original].map(([id, cell]) => [id, { ...cell, struck: false, altered: false }]));
    for (const act of journal) {
      if (act.action === "add") {
        cells.set(act.cell_id, { id: act.cell_id, slide: act.slide_id, x: act.x, y: act.y, width: act.width,
          height: act.height, type: act.to_type, struck: false, altered: true, added: true });
      } else {
        const cell = cells.get(act.cell_id);
        if (act.action === "strike") cell.struck = true; else cell.type = act.to_type;
      }
    }
    for (const cell of cells.values()) {
      cell.altered = cell.added || cell.struck || cell.type !== original.get(cell.id).type;
    }
    return cells;
  };
  let cells = current();

  const numbers = () => {
    const found = { ...data.rest };
    for (const cell of cells.values()) if (!cell.struck) found[cell.type] = (found[cell.type] || 0) + 1;
    return found;
  };
  const total = (found, names) => names.reduce((sum, name) => sum + (found[name] || 0), 0);

  // ---- showing numbers
  const shape = (element, values) => { for (const name in values) element.setAttribute(name, values[name]); };
  const one = (value, digits = 1) => value.toFixed(digits);
  const put = (element, text) => {
    if (!element || element.textContent === text) return;
    element.textContent = text;
  };
  const chance = (p) => p < 0.001 ? "< 0.1 %" : p > 0.999 ? "> 99.9 %" : `${one(100 * p)} %`;
  const inside = Object.keys(data.types).filter((name) => data.types[name].inside);
  const initial = numbers();

  const showRow = (row, names, found, counted) => {
    const k = total(found, names);
    const changed = k !== total(initial, names);
    if (k) row.hidden = false;
    const number = row.querySelector("[data-number]");
    put(number, String(k));
    number.classList.toggle("changed", changed);
    const share = counted ? k / counted : 0;
    const [low, high] = counted ? exact(k, counted) : [0, 0];
    put(row.querySelector("[data-percent]"), counted ? one(100 * share) : "–");
    put(row.querySelector("[data-interval]"), counted ? `${one(100 * low)} – ${one(100 * high)}` : "–");
    const again = row.querySelector("[data-bootstrap]");
    if (again) {
      if (!again.dataset.first) again.dataset.first = again.textContent;
      put(again, journal.length ? "recount" : again.dataset.first);
    }
    const place = (value) => String(Math.min(100, 100 * 100 * value / data.axis));
    row.querySelector("[data-bar]").setAttribute("width", place(share));
    for (const line of row.querySelectorAll("[data-whisker]")) shape(line, { x1: place(low), x2: place(high) });
  };
  const showBlasts = (found, counted) => {
    if (!$("blasts")) return;
    const k = total(found, inside.filter((name) => data.types[name].lineage === "blasts"));
    put($("blasts"), counted ? one(100 * k / counted) : "–");
    put($("blasts-interval"), counted ? exact(k, counted).map((p) => one(100 * p)).join(" – ") : "–");
  };
  const showRatio = (found) => {
    if (!data.marrow || !$("ratio")) return;
    const part = (letter) => inside.filter((name) => data.types[name].ratio === letter);
    const m = total(found, part("m")), e = total(found, part("e"));
    put($("myeloid"), String(m));
    put($("erythroid"), String(e));
    if (e < data.leastErythroid) {
      put($("ratio"), "–");
      put($("ratio-note"), `undefined: ${e} erythroid cell${e === 1 ? "" : "s"}, at least ${data.leastErythroid} are needed`);
      return;
    }
    const [low, high] = exact(m, m + e).map((p) => p / (1 - p));
    put($("ratio"), one(m / e));
    put($("ratio-note"), `${one(100 * data.level, 0)} % interval ${one(low)} – ${one(high)} (exact binomial)`);
  };
  const showThresholds = (found, counted) => {
    for (const row of document.querySelectorAll("[data-threshold]")) {
      const k = total(found, data.groups[row.dataset.threshold].filter((name) => inside.includes(name)));
      const cell = row.querySelector("[data-chance]"), method = row.querySelector("[data-method]");
      if (!cell.dataset.first) { cell.dataset.first = cell.textContent; method.dataset.first = method.textContent; }
      if (!journal.length || !counted) { put(cell, cell.dataset.first); put(method, method.dataset.first); continue; }
      if (method.dataset.first.startsWith("not judged") && !k) continue;
      put(cell, chance(beta(counted - k + 0.5, k + 0.5, 1 - Number(row.dataset.at) / 100)));
      put(method, "Jeffreys posterior, live");
    }
  };
  const showStale = () => { // what needs the places of cells and the classifier's errors is left to a recount
    for (const cell of document.querySelectorAll("[data-deciding], [data-stop]")) {
      if (cell.dataset.first === undefined) cell.dataset.first = cell.textContent;
      put(cell, journal.length && cell.dataset.first ? "recount" : cell.dataset.first);
    }
  };
  const showNumbers = () => {
    const found = numbers();
    const counted = total(found, inside);
    put($("counted"), String(counted));
    put($("named"), String(Object.values(found).reduce((sum, k) => sum + k, 0)));
    for (const row of document.querySelectorAll("tr[data-type]")) showRow(row, [row.dataset.type], found, counted);
    for (const row of document.querySelectorAll("tr[data-lineage]")) {
      showRow(row, inside.filter((name) => data.types[name].lineage === row.dataset.lineage), found, counted);
    }
    for (const row of document.querySelectorAll("tr[data-beside]")) {
      const k = found[row.dataset.beside] || 0;
      put(row.querySelector("[data-number]"), String(k));
      row.querySelector("[data-number]").classList.toggle("changed", k !== (initial[row.dataset.beside] || 0));
      put(row.querySelector("[data-hundred]"), counted ? one(100 * k / counted) : "–");
    }
    showBlasts(found, counted);
    showRatio(found);
    showThresholds(found, counted);
    showStale();
  };

  // ---- showing cells
  const buttons = new Map([...document.querySelectorAll(".cell")].map((el) => [el.dataset.cell, el]));
  const boxes = new Map([...document.querySelectorAll(".box")].map((el) => [el.dataset.cell, el]));
  const tags = new Map([...document.querySelectorAll(".tag")].map((el) => [el.dataset.tag, el]));
  for (const el of buttons.values()) el.dataset.score = el.querySelector(".score").textContent;

  const drawBox = (cell) => {
    const svg = [...document.querySelectorAll("svg[data-slide]")].find((el) => el.dataset.slide === cell.slide);
    const box = document.createElementNS(SVG, "rect");
    shape(box, { x: cell.x, y: cell.y, width: cell.width, height: cell.height });
    box.dataset.cell = cell.id;
    box.append(document.createElementNS(SVG, "title"));
    const tag = document.createElementNS(SVG, "text");
    const wide = svg.viewBox.baseVal.width;
    shape(tag, { x: cell.x, y: Math.max(cell.y - wide / 300, wide / 55), "font-size": wide / 48 });
    svg.append(box, tag);
    boxes.set(cell.id, box);
    tags.set(cell.id, tag);
  };
  const showCell = (cell) => {
    const type = data.types[cell.type];
    const button = buttons.get(cell.id), box = boxes.get(cell.id);
    if (button) {
      button.classList.toggle("altered", cell.altered);
      button.classList.toggle("struck", cell.struck);
      put(button.querySelector(".score"), cell.struck ? "struck out" : cell.altered ? `→ ${type.short}` : button.dataset.score);
      button.title = `${type.label} · ${cell.id}`;
    }
    if (tags.has(cell.id)) {
      put(tags.get(cell.id), type.short);
      tags.get(cell.id).setAttribute("class", `tag c-${cell.type}${cell.struck ? " struck" : ""}`);
    }
    if (box) {
      box.setAttribute("class", `box c-${cell.type}${cell.struck ? " struck" : ""}${cell.added ? " added" : ""}`);
      if (cell.altered) box.querySelector("title").textContent = type.label + (cell.struck ? " (struck out)" : "");
      box.classList.toggle("selected", cell.id === selected);
    }
  };
  const showBench = () => {
    const n = journal.length;
    put($("state"), n === 0 ? "No corrections" : `${n} correction${n > 1 ? "s" : ""}${n === saved ? ", saved" : ", not saved"}`);
    $("stale").hidden = !n;
    $("undo").disabled = !past.length;
    $("save").disabled = !n;
    const cell = cells.get(selected);
    document.body.classList.toggle("choosing", Boolean(cell) || adding);
    put($("selected"), cell ? `Selected: ${data.types[cell.type].label}${cell.struck ? ", struck out" : ""}` : adding ? "Click or drag in an image" : "Select a cell to correct it");
  };

  const update = () => {
    const before = cells;
    cells = current();
    for (const id of before.keys()) {
      if (cells.has(id)) continue; // an added cell that was undone
      for (const shown of [boxes, tags]) { shown.get(id)?.remove(); shown.delete(id); }
      if (selected === id) selected = null;
    }
    for (const [id, cell] of cells) {
      if (!boxes.has(id) && cell.added) drawBox(cell);
      const old = before.get(id);
      if (!old || old.type !== cell.type || old.struck !== cell.struck) showCell(cell);
    }
    showNumbers();
    showBench();
  };
  const select = (id, scroll) => {
    const last = selected;
    selected = id;
    for (const one of [last, id]) {
      buttons.get(one)?.classList.toggle("selected", one === id);
      boxes.get(one)?.classList.toggle("selected", one === id);
    }
    if (scroll) buttons.get(id)?.focus();
    showBench();
  };

  // ---- acts
  const commit = (next) => {
    past.push(journal);
    journal = next;
    saved = -1;
    update();
  };
  const entry = (cell, action, from, to) => ({
    slide_id: cell.slide, cell_id: cell.id, action, from_type: from, to_type: to, x: cell.x, y: cell.y,
    width: cell.width, height: cell.height, who: $("who").value.trim(), time: new Date().toISOString(),
    why: $("why").value.trim(),
  });
  const rename = (to) => {
    const cell = cells.get(selected);
    if (!cell || cell.struck || cell.type === to) return;
    if (cell.added) { // a cell drawn here keeps one entry, with its final type
      commit(journal.map((act) => act.cell_id === cell.id ? { ...act, to_type: to } : act));
    } else {
      commit([...journal, entry(cell, "reclassify", cell.type, to)]);
    }
    put($("announce"), `${data.types[to].label}`);
  };
  const strike = () => {
    const cell = cells.get(selected);
    if (!cell || cell.struck) return;
    if (cell.added) commit(journal.filter((act) => act.cell_id !== cell.id));
    else commit([...journal, entry(cell, "strike", cell.type, null)]);
    put($("announce"), "Struck out");
  };
  const undo = () => {
    if (!past.length) return;
    journal = past.pop();
    saved = -1;
    update();
  };
  const save = () => {
    const who = $("who").value.trim();
    $("who").classList.toggle("missing", !who);
    if (!who) { $("who").focus(); put($("announce"), "Enter who read the cells"); return; }
    const content = { format: "myelos-corrections-1", research_use: data.researchUse, base: data.base, title: data.title,
      corrections: journal.map((act) => ({ ...act, who: act.who || who })) };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    link.download = "corrections.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = journal.length;
    showBench();
  };

  // ---- drawing a missed cell
  const setAdding = (on) => {
    adding = on;
    document.body.classList.toggle("adding", on);
    $("add").setAttribute("aria-pressed", String(on));
    showBench();
  };
  const usual = (slide) => { // side of a box set by a click: the middle of the boxes of that image, or of all
    const sides = (list) => list.map((cell) => Math.max(cell.width, cell.height)).sort((a, b) => a - b);
    const here = sides([...original.values()].filter((cell) => cell.slide === slide));
    const all = here.length ? here : sides([...original.values()]);
    return all.length ? all[Math.floor(all.length / 2)] : 60;
  };
  const point = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const spanned = (svg, a, b) => {
    const { width: right, height: bottom } = svg.viewBox.baseVal;
    let [x1, x2] = [Math.min(a.x, b.x), Math.max(a.x, b.x)], [y1, y2] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
    const side = usual(svg.dataset.slide);
    if (x2 - x1 < side / 5 || y2 - y1 < side / 5) {
      [x1, x2, y1, y2] = [a.x - side / 2, a.x + side / 2, a.y - side / 2, a.y + side / 2];
    }
    [x1, y1, x2, y2] = [Math.max(0, x1), Math.max(0, y1), Math.min(right, x2), Math.min(bottom, y2)];
    const tidy = (value) => Math.round(value * 10) / 10;
    return { x: tidy(x1), y: tidy(y1), width: tidy(x2 - x1), height: tidy(y2 - y1) };
  };
  for (const svg of document.querySelectorAll("svg[data-slide]")) {
    svg.addEventListener("pointerdown", (event) => {
      if (!adding || event.button !== 0) return;
      event.preventDefault();
      const start = point(svg, event);
      const draft = document.createElementNS(SVG, "rect");
      draft.setAttribute("class", "draft");
      shape(draft, spanned(svg, start, start));
      svg.append(draft);
      const move = (moved) => shape(draft, spanned(svg, start, point(svg, moved)));
      const end = (ended) => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", end);
        window.removeEventListener("pointercancel", end);
        draft.remove();
        if (ended.type === "pointercancel") return;
        const box = spanned(svg, start, point(svg, ended));
        if (box.width <= 0 || box.height <= 0) return;
        const cell = { id: `new-${++serial}`, slide: svg.dataset.slide, ...box };
        commit([...journal, entry(cell, "add", null, "not_identifiable")]);
        select(cell.id, false);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
      window.addEventListener("pointercancel", end);
    });
  }

  // ---- events
  const neighbour = (step, line) => {
    const shown = [...document.querySelectorAll(".cell")].filter((el) => el.offsetParent);
    const at = shown.findIndex((el) => el.dataset.cell === selected);
    if (at < 0) return shown[0];
    if (!line) return shown[at + step];
    const here = shown[at].getBoundingClientRect();
    const rows = shown.filter((el) => step * (el.getBoundingClientRect().top - here.top) > here.height / 2);
    const top = rows.length ? Math[step > 0 ? "min" : "max"](...rows.map((el) => el.getBoundingClientRect().top)) : 0;
    return rows.filter((el) => el.getBoundingClientRect().top === top)
      .sort((a, b) => Math.abs(a.getBoundingClientRect().left - here.left) - Math.abs(b.getBoundingClientRect().left - here.left))[0];
  };
  const arrows = { ArrowRight: [1, false], ArrowLeft: [-1, false], ArrowDown: [1, true], ArrowUp: [-1, true] };
  const byKey = Object.fromEntries(Object.entries(data.types).filter(([, type]) => type.key).map(([name, type]) => [type.key, name]));
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "z") { event.preventDefault(); undo(); return; } // with or without Ctrl or Cmd
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrows[key] && selected !== null && buttons.has(selected)) {
      event.preventDefault();
      const next = neighbour(...arrows[key]);
      if (next) select(next.dataset.cell, true);
    } else if (key === "Delete" || key === "Backspace" || key === "-") { event.preventDefault(); strike(); }
    else if (key === "+") setAdding(!adding);
    else if (key === "Escape") { if (adding) setAdding(false); else select(null, false); }
    else if (byKey[key]) { event.preventDefault(); rename(byKey[key]); }
  });
  document.addEventListener("click", (event) => {
    const target = event.target;
    const cell = target.closest(".cell") || (!adding && target.closest(".box"));
    if (cell) { select(cell.dataset.cell, false); return; }
    const key = target.closest(".key");
    if (key) { rename(key.dataset.to); return; }
    const all = target.closest(".all");
    if (all) { all.closest(".gallery").classList.add("open"); all.remove(); }
    const enlarge = target.closest(".enlarge");
    if (enlarge) put(enlarge, enlarge.closest(".field").classList.toggle("wide") ? "Reduce" : "Enlarge");
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.classList.contains("cell") && event.target.matches(":focus-visible")) select(event.target.dataset.cell, false);
  });
  $("strike").addEventListener("click", strike);
  $("undo").addEventListener("click", undo);
  $("save").addEventListener("click", save);
  $("add").addEventListener("click", () => setAdding(!adding));
  $("who").addEventListener("input", () => $("who").classList.remove("missing"));
  window.addEventListener("beforeunload", (event) => {
    if (journal.length && saved !== journal.length) event.preventDefault();
  });
  if (original.size) document.body.classList.add("bench-on");
  showBench();
})();
