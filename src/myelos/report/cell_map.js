"use strict";
// The map: points on a canvas, the cells themselves where there is room for them.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { points, types, alike, side, columns, perSheet } = data;
  const sheets = [...document.querySelectorAll("img.sheet")];
  const element = (id) => document.getElementById(id);
  const canvas = element("map");
  const context = canvas.getContext("2d");
  const HIT = 14; // px: how near a pointer must come
  const ROOM = 46; // px: the size of a cell's picture on the map
  const MOST = 350; // pictures that are drawn at once

  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const bounds = { left: least(xs), right: most(xs), bottom: least(ys), top: most(ys) };
  const shown = new Set(types.map((_, index) => index));
  const state = { by: 2, differing: false, hovered: -1, kept: -1, scale: 1, x: 0, y: 0 };
  let visible = [];
  let width = 0;
  let height = 0;
  let waiting = false;

  const differs = (point) => point[3] >= 0 && !types[point[2]][3].includes(point[3]);
  const colour = (point) => (point[state.by] >= 0 ? types[point[state.by]][2] : "#9e9e9e");
  const current = () => (state.kept >= 0 ? state.kept : state.hovered);
  const screen = (index) => [
    width / 2 + (xs[index] - state.x) * state.scale,
    height / 2 - (ys[index] - state.y) * state.scale, // up is up, as in the picture
  ];

  function select() {
    visible = points.map((_, index) => index).filter((index) => {
      const point = points[index];
      return (point[state.by] < 0 || shown.has(point[state.by])) && (!state.differing || differs(point));
    });
    draw();
  }

  function whole() {
    const spanX = Math.max(bounds.right - bounds.left, 1e-6);
    const spanY = Math.max(bounds.top - bounds.bottom, 1e-6);
    state.scale = Math.min((width - 60) / spanX, (height - 60) / spanY);
    state.x = (bounds.left + bounds.right) / 2;
    state.y = (bounds.bottom + bounds.top) / 2;
    draw();
  }

  function resize() {
    const first = width === 0;
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth; // within the border, as the places of pointer events are
    height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (first) whole();
    else draw();
  }

  function draw() {
    if (waiting) return;
    waiting = true;
    window.requestAnimationFrame(() => {
      waiting = false;
      paint();
    });
  }

  function inside() {
    return visible.filter((index) => {
      const [x, y] = screen(index);
      return x > -ROOM && y > -ROOM && x < width + ROOM && y < height + ROOM;
    });
  }

  function paint() {
    context.clearRect(0, 0, width, height);
    const seen = inside();
    const pictures = seen.length <= MOST && seen.length * ROOM * ROOM < 0.9 * width * height;
    const radius = Math.min(6, Math.max(2.2, 130 / Math.sqrt(Math.max(seen.length, 1))));
    for (const index of seen) {
      const [x, y] = screen(index);
      if (pictures) picture(context, index, x - ROOM / 2, y - ROOM / 2, ROOM);
      else dot(x, y, radius, colour(points[index]));
    }
    mark(current(), pictures ? ROOM / 2 + 4 : radius + 3);
  }

  function dot(x, y, radius, fill) {
    context.fillStyle = fill;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }

  function picture(target, index, x, y, size) {
    const place = index % perSheet;
    const sheet = sheets[Math.floor(index / perSheet)];
    const left = (place % columns) * side;
    const top = Math.floor(place / columns) * side;
    target.drawImage(sheet, left, top, side, side, x, y, size, size);
    target.strokeStyle = colour(points[index]);
    target.lineWidth = 3;
    target.strokeRect(x, y, size, size);
  }

  function mark(index, radius) {
    if (index < 0) return;
    const [x, y] = screen(index);
    for (const [line, stroke] of [[5, "#ffffff"], [2.5, "#000000"]]) {
      context.lineWidth = line;
      context.strokeStyle = stroke;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function nearest(x, y) {
    let best = -1;
    let distance = HIT * HIT;
    for (const index of visible) {
      const [a, b] = screen(index);
      const own = (a - x) ** 2 + (b - y) ** 2;
      if (own < distance) [best, distance] = [index, own];
    }
    return best;
  }

  function line(name, text) {
    const paragraph = document.createElement("p");
    paragraph.className = name;
    paragraph.textContent = text;
    return paragraph;
  }

  function describe() {
    const index = current();
    const crop = element("crop").getContext("2d");
    crop.clearRect(0, 0, 192, 192);
    element("alike").hidden = index < 0;
    if (index < 0) {
      element("said").replaceChildren(line("small", "Point at a cell."));
      return;
    }
    const point = points[index];
    picture(crop, index, 0, 0, 192);
    const lines = [line("name", types[point[2]][1])];
    if (point[3] >= 0) {
      lines.push(line(differs(point) ? "differs" : "small", `The network says: ${types[point[3]][1]}`));
    }
    lines.push(line("mono", point[4]));
    element("said").replaceChildren(...lines);
    element("row").replaceChildren(...alike[index].map(small));
  }

  function small(index) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = types[points[index][2]][1];
    button.setAttribute("aria-label", `${button.title}, ${points[index][4]}`);
    button.style.borderColor = colour(points[index]);
    const inner = document.createElement("canvas");
    inner.width = inner.height = 52;
    picture(inner.getContext("2d"), index, 0, 0, 52);
    button.append(inner);
    button.addEventListener("click", () => keep(index, true));
    return button;
  }

  function keep(index, centre) {
    state.kept = index;
    if (index >= 0) bring(index, centre);
    describe();
    draw();
  }

  function bring(index, centre) {
    const [x, y] = screen(index);
    if (centre && x > 30 && y > 30 && x < width - 30 && y < height - 30) return;
    if (!centre && x > 0 && y > 0 && x < width && y < height) return;
    [state.x, state.y] = [xs[index], ys[index]];
  }

  function zoom(factor, x = width / 2, y = height / 2) {
    const scale = Math.min(Math.max(state.scale * factor, 1e-3), 1e6);
    const held = [state.x + (x - width / 2) / state.scale, state.y - (y - height / 2) / state.scale];
    state.scale = scale;
    state.x = held[0] - (x - width / 2) / scale;
    state.y = held[1] + (y - height / 2) / scale;
    draw();
  }

  // The next cell in a direction: near, and not far off its line.
  function step(dx, dy) {
    const from = current();
    if (from < 0) {
      keep(nearestTo(width / 2, height / 2), true);
      return;
    }
    const [x, y] = screen(from);
    let best = -1;
    let cost = Infinity;
    for (const index of visible) {
      if (index === from) continue;
      const [a, b] = screen(index);
      const along = (a - x) * dx + (b - y) * dy;
      const off = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (along <= 1e-9 || off > 2 * along) continue;
      if (along + 2 * off < cost) [best, cost] = [index, along + 2 * off];
    }
    if (best >= 0) keep(best, true);
  }

  function nearestTo(x, y) {
    let best = -1;
    let distance = Infinity;
    for (const index of visible) {
      const [a, b] = screen(index);
      const own = (a - x) ** 2 + (b - y) ** 2;
      if (own < distance) [best, distance] = [index, own];
    }
    return best;
  }

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      state.x -= dx / state.scale;
      state.y += dy / state.scale;
      drag = { x: event.offsetX, y: event.offsetY, moved: true };
      draw();
      return;
    }
    hover(nearest(event.offsetX, event.offsetY));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) keep(nearest(event.offsetX, event.offsetY), false);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
  }, { passive: false });

  function hover(index) {
    if (index === state.hovered) return;
    state.hovered = index;
    if (state.kept < 0) {
      describe();
      draw();
    }
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) {
      state.x += (arrow[0] * 60) / state.scale;
      state.y -= (arrow[1] * 60) / state.scale;
      draw();
    } else if (arrow) step(...arrow);
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") whole();
    else if (event.key === "Enter") keep(current(), true);
    else if (event.key === "Escape") keep(-1, false);
    else return;
    event.preventDefault();
  });

  function legend() {
    const numbers = types.map((_, index) => points.filter((point) => point[state.by] === index).length);
    element("legend").replaceChildren(...types.flatMap((kind, index) => (numbers[index] ? [entry(kind, index, numbers[index])] : [])));
  }

  function entry(kind, index, number) {
    const button = document.createElement("button");
    const swatch = document.createElement("i");
    const label = document.createElement("span");
    const count = document.createElement("b");
    swatch.style.background = kind[2];
    label.textContent = kind[1];
    count.textContent = String(number);
    button.type = "button";
    button.dataset.type = kind[0];
    button.setAttribute("aria-pressed", String(shown.has(index)));
    button.append(swatch, label, count);
    button.addEventListener("click", (event) => {
      if (event.detail > 1) return; // the second click of a double one
      if (shown.has(index)) shown.delete(index);
      else shown.add(index);
      refresh();
    });
    button.addEventListener("dblclick", () => {
      shown.clear();
      shown.add(index);
      refresh();
    });
    return button;
  }

  function refresh() {
    for (const button of element("legend").children) {
      const index = types.findIndex((kind) => kind[0] === button.dataset.type);
      button.setAttribute("aria-pressed", String(shown.has(index)));
    }
    select();
  }

  element("in").addEventListener("click", () => zoom(1.6));
  element("out").addEventListener("click", () => zoom(1 / 1.6));
  element("whole").addEventListener("click", whole);
  element("all").addEventListener("click", () => {
    types.forEach((_, index) => shown.add(index));
    refresh();
  });
  element("by").addEventListener("change", (event) => {
    state.by = Number(event.target.value);
    legend();
    select();
    describe();
  });
  element("differing").addEventListener("change", (event) => {
    state.differing = event.target.checked;
    select();
  });
  const said = points.some((point) => point[3] >= 0);
  element("by").closest("p").hidden = !said;
  element("differing").closest("p").hidden = !said;
  element("number").textContent = String(points.filter(differs).length);
  // For tests and for the curious: where a cell lies on the screen, and which one is chosen.
  window.cellMap = { screen, current, zoom, visible: () => visible.length };

  new ResizeObserver(resize).observe(canvas);
  legend();
  select();
  Promise.all(sheets.map((sheet) => sheet.decode())).then(draw);
})();
