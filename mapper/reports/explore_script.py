"""What runs in the page of an exploration: points and lines on two canvases, which ten thousand plans do not slow down,
the choices above them, and the plan that was clicked on. It needs no library and loads nothing."""

SCRIPT = r"""
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("rows").textContent);
  const count = data.names.length, every = [...Array(count).keys()];
  const field = Object.fromEntries(data.fields.map((each) => [each.key, each]));
  const byId = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const VIRIDIS = ["#440154", "#482878", "#3E4989", "#31688E", "#26828E", "#1F9E89", "#35B779", "#6DCD59", "#B4DE2C",
                   "#FDE725"];
  const PART_MS = 12, FRAME_MS = 40, NEAR = 14, CELL = 16, WIDEST = 24, FEW = 8;
  const shown = new Uint8Array(count).fill(1);
  let chosen = -1, places = null, grid = new Map(), tints = [];
  let axes = [], active = 0, drag = null, turn = 0, due = false, most = 1000;

  // values on axes

  function known(each) {
    if (!each.known) {
      each.known = [...new Set(each.values)].sort();
      each.place = new Map(each.known.map((name, i) => [name, i]));
    }
    return each.known;
  }

  function number(each, i) {
    const value = each.values[i];
    if (value === null || value === undefined) { return NaN; }
    return each.text ? (known(each), each.place.get(value)) : logarithmic(each) ? Math.log10(value) : value;
  }

  function logarithmic(each) {
    if (each.logged === undefined) { each.logged = each.log && each.values.every((v) => v === null || v > 0); }
    return each.logged;
  }

  function span(each) {
    if (!each.span) {
      let low = Infinity, high = -Infinity;
      for (const i of every) {
        const value = number(each, i);
        if (value < low) { low = value; }
        if (value > high) { high = value; }
      }
      if (!(low <= high)) { low = 0; high = 1; }
      if (low === high) { low -= 0.5; high += 0.5; }
      each.span = [low, high];
    }
    return each.span;
  }

  function spelled(value) {
    if (value === 0) { return "0"; }
    const size = Math.abs(value);
    if (size >= 1e5) {
      const [name, factor] = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]].find(([, f]) => size >= f);
      return String(Number((value / factor).toPrecision(3))) + " " + name;
    }
    return size < 1e-3 ? value.toExponential(1).replace("e-", "e−") : String(Number(value.toPrecision(3)));
  }

  function ticks(each) {
    const [low, high] = span(each), out = [];
    if (each.text) { return known(each).map((name, i) => ({ at: i, text: String(name) })); }
    if (logarithmic(each) && high - low > 0.7) {
      const steps = high - low > 3 ? [1] : [1, 2, 5];
      for (let power = Math.floor(low); power <= high; power++) {
        for (const step of steps) {
          const at = power + Math.log10(step);
          if (at >= low - 1e-9 && at <= high + 1e-9) { out.push({ at: at, text: spelled(step * 10 ** power) }); }
        }
      }
      return out;
    }
    const from = logarithmic(each) ? 10 ** low : low, to = logarithmic(each) ? 10 ** high : high;
    const rough = (to - from) / 5, power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    if (each.values.every((v) => v === null || Number.isInteger(v))) { step = Math.max(1, Math.round(step)); }
    for (let v = Math.ceil(from / step - 1e-9) * step; v <= to + step * 1e-9; v += step) {
      const value = Math.abs(v) < step * 1e-9 ? 0 : v;
      out.push({ at: logarithmic(each) ? Math.log10(value) : value, text: spelled(value) });
    }
    return out;
  }

  function tint() {
    const each = field[byId("colour").value];
    if (each.text) { known(each); }
    const [low, high] = span(each), first = dark.matches ? 2 : 0, stops = VIRIDIS.slice(first, dark.matches ? 10 : 9);
    tints = every.map((i) => {
      const v = number(each, i);
      if (Number.isNaN(v)) { return "#888888"; }
      return each.text ? data.palette[v % data.palette.length]
        : stops[Math.round((v - low) / (high - low) * (stops.length - 1))];
    });
    legend(each, stops);
  }

  function legend(each, stops) {
    const list = byId("legend"), shade = (text, fill) => {
      const item = document.createElement("li");
      item.textContent = text;
      item.style.borderLeftColor = fill;
      return item;
    };
    if (each.text) {
      const names = known(each), more = names.length - WIDEST, palette = data.palette;
      list.replaceChildren(...names.slice(0, WIDEST).map((name, i) => shade(name, palette[i % palette.length])),
                           ...(more > 0 ? [shade("and " + more + " more", "")] : []));
      return;
    }
    const [low, high] = span(each), values = [...new Set(each.values)].filter((value) => value !== null);
    const back = (share) => low + (high - low) * share, few = values.length <= FEW;
    const told = few ? values.sort((a, b) => a - b) : [0, 0.5, 1].map(back).map((v) => logarithmic(each) ? 10 ** v : v);
    list.replaceChildren(...told.map((value) => {
      const share = ((logarithmic(each) ? Math.log10(value) : value) - low) / (high - low);
      return shade(spelled(value), stops[Math.round(share * (stops.length - 1))]);
    }));
  }

  // drawing

  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  // Pixels that one of the drawing's takes: more than one on a wall, where the page's letters are larger.
  function unit() { return Math.max(1, parseFloat(getComputedStyle(document.body).fontSize) / 14); }

  function sheet(canvas, width, height) {
    const dots = (window.devicePixelRatio || 1) * unit();
    if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px Verdana, Arial, sans-serif";
    return pen;
  }

  function cut(pen, text, room) {
    if (pen.measureText(text).width <= room) { return text; }
    let most = text.length;
    while (most > 1 && pen.measureText(text.slice(0, most) + "…").width > room) { most--; }
    return text.slice(0, most) + "…";
  }

  function words(pen, text, x, y, align, fill) {
    pen.textAlign = align;
    pen.textBaseline = "middle";
    pen.strokeStyle = colour("--paper");
    pen.lineWidth = 3;
    pen.strokeText(text, x, y);
    pen.fillStyle = colour(fill || "--muted");
    pen.fillText(text, x, y);
  }

  function visible(i) { return shown[i] && (!byId("only").checked || data.front[i]); }

  function scatter() {
    const box = byId("plane"), width = box.clientWidth / unit(), height = box.clientHeight / unit();
    const pen = sheet(byId("scatter"), width, height), x = field[byId("x").value], y = field[byId("y").value];
    const left = y.text ? 120 : 64, right = 16, top = 26, bottom = 46;
    const place = (each, from, to) => {
      const [low, high] = span(each), pad = (high - low) * 0.03;
      return (value) => from + (to - from) * (value - low + pad) / (high - low + 2 * pad);
    };
    const across = place(x, left, width - right), up = place(y, height - bottom, top);
    frame(pen, x, y, across, up, { left: left, right: width - right, top: top, bottom: height - bottom });
    places = new Float32Array(2 * count);
    grid = new Map();
    const groups = new Map(), front = [];
    for (const i of every) {
      const px = across(number(x, i)), py = up(number(y, i));
      places[2 * i] = px;
      places[2 * i + 1] = py;
      if (!visible(i) || Number.isNaN(px) || Number.isNaN(py)) { continue; }
      const cell = Math.floor(px / CELL) + 4096 * Math.floor(py / CELL);
      if (grid.has(cell)) { grid.get(cell).push(i); } else { grid.set(cell, [i]); }
      if (data.front[i]) { front.push(i); continue; }
      if (groups.has(tints[i])) { groups.get(tints[i]).push(i); } else { groups.set(tints[i], [i]); }
    }
    pen.globalAlpha = 0.6;
    for (const [fill, members] of groups) {
      pen.fillStyle = fill;
      pen.beginPath();
      for (const i of members) { dot(pen, i, 2.6); }
      pen.fill();
    }
    pen.globalAlpha = 1;
    for (const i of front) {
      pen.beginPath();
      dot(pen, i, 5);
      pen.fillStyle = tints[i];
      pen.fill();
      pen.strokeStyle = colour("--ink");
      pen.lineWidth = 1.3;
      pen.stroke();
    }
    if (chosen >= 0 && visible(chosen)) {
      pen.beginPath();
      dot(pen, chosen, 9);
      pen.strokeStyle = colour("--mark");
      pen.lineWidth = 3;
      pen.stroke();
    }
  }

  function dot(pen, i, radius) {
    pen.moveTo(places[2 * i] + radius, places[2 * i + 1]);
    pen.arc(places[2 * i], places[2 * i + 1], radius, 0, 2 * Math.PI);
  }

  function frame(pen, x, y, across, up, box) {
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 0.6;
    const columns = ticks(x), room = (box.right - box.left) / Math.max(columns.length, 1) - 6;
    let last = -Infinity;
    for (const each of columns) {
      const at = across(each.at), text = cut(pen, each.text, Math.max(room, 28));
      const half = pen.measureText(text).width / 2;
      pen.strokeStyle = colour("--line");
      pen.lineWidth = 0.6;
      pen.strokeRect(at, box.top, 0, box.bottom - box.top);
      if (at - half > last + 6) { words(pen, text, at, box.bottom + 13, "center"); last = at + half; }
    }
    last = Infinity;
    for (const each of ticks(y)) {
      const at = up(each.at);
      pen.strokeStyle = colour("--line");
      pen.lineWidth = 0.6;
      pen.strokeRect(box.left, at, box.right - box.left, 0);
      if (at < last - 14) { words(pen, cut(pen, each.text, box.left - 12), box.left - 6, at, "right"); last = at; }
    }
    words(pen, x.label, (box.left + box.right) / 2, box.bottom + 34, "center", "--ink");
    words(pen, "↑ " + y.label, 4, 10, "left", "--ink");
  }

  function lines() {
    const strip = byId("strip"), width = Math.max(strip.clientWidth / unit(), axes.length * 96), canvas = byId("lines");
    canvas.style.width = width * unit() + "px";
    const height = canvas.clientHeight / unit(), pen = sheet(canvas, width, height), top = 62, bottom = height - 22;
    const end = axes.length && axes[axes.length - 1].field.text ? 160 : 70;
    const gap = (width - 60 - end) / Math.max(axes.length - 1, 1);
    axes.forEach((axis, a) => {
      const [low, high] = span(axis.field);
      axis.x = 60 + a * gap;
      axis.room = a === axes.length - 1 ? end - 10 : gap - 18;
      axis.at = (value) => bottom - (bottom - top) * (value - low) / (high - low);
      axis.back = (py) => low + (high - low) * (bottom - py) / (bottom - top);
    });
    const ways = axes.map((axis) => Float32Array.from(every, (i) => axis.at(number(axis.field, i))));
    const mine = ++turn, pale = colour("--line"), seen = every.map(visible);
    const behind = every.filter((i) => !seen[i]), among = every.filter((i) => seen[i] && !data.front[i]);
    const front = every.filter((i) => seen[i] && data.front[i]);
    const order = drag === null ? [behind, among, front].flat() : [...some(among), ...front];
    let next = 0;
    (function part() {
      if (mine !== turn) { return; }
      const until = performance.now() + PART_MS;
      for (; next < order.length && (next % 50 || performance.now() < until); next++) {
        const i = order[next], best = data.front[i] && seen[i];
        pen.globalAlpha = !seen[i] ? 0.05 : best ? 0.9 : count > 2000 ? 0.12 : 0.4;
        way(pen, ways, i, seen[i] ? tints[i] : pale, best ? 1.6 : 1);
      }
      pen.globalAlpha = 1;
      const over = next === order.length;
      if (over && chosen >= 0) { way(pen, ways, chosen, colour("--mark"), 3); }
      axes.forEach((axis, a) => drawAxis(pen, axis, a, top, bottom, gap));
      byId("lines").dataset.drawn = over ? "all" : "some";
      if (!over) { requestAnimationFrame(part); }
    })();
  }

  // As many of `each`, evenly, as were drawn within a frame: while one drags, the others wait for the end of it.
  function some(each) {
    const step = Math.max(1, Math.ceil(each.length / most));
    return each.filter((_, n) => n % step === 0);
  }

  function way(pen, ways, i, stroke, width) {
    pen.strokeStyle = stroke;
    pen.lineWidth = width;
    pen.beginPath();
    for (let a = 0; a < axes.length; a++) { pen.lineTo(axes[a].x, ways[a][i]); }
    pen.stroke();
  }

  function drawAxis(pen, axis, a, top, bottom, gap) {
    pen.strokeStyle = colour("--ink");
    pen.lineWidth = a === active && document.activeElement === byId("lines") ? 2.5 : 1;
    pen.strokeRect(axis.x, top, 0, bottom - top);
    if (axis.range) {
      const [low, high] = axis.range.map(axis.at);
      pen.fillStyle = colour("--mark");
      pen.globalAlpha = 0.35;
      pen.fillRect(axis.x - 7, high, 14, Math.max(low - high, 2));
      pen.globalAlpha = 1;
    }
    let last = Infinity;
    for (const each of ticks(axis.field)) {
      const at = axis.at(each.at);
      if (at >= last - 14) { continue; }
      const text = cut(pen, each.text, axis.room);
      pen.fillStyle = colour("--paper");
      pen.globalAlpha = 0.8;
      pen.fillRect(axis.x + 3, at - 8, pen.measureText(text).width + 6, 16);
      pen.globalAlpha = 1;
      words(pen, text, axis.x + 6, at, "left", "--ink");
      last = at;
    }
    const label = cut(pen, axis.field.label, axes.length > 1 ? gap * 1.9 - 8 : 400);
    const half = pen.measureText(label).width / 2 + 2, wide = byId("lines").clientWidth / unit();
    words(pen, label, Math.min(Math.max(axis.x, half), wide - half), a % 2 ? 40 : 16, "center", "--ink");
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 0.6;
    pen.strokeRect(axis.x, a % 2 ? 48 : 24, 0, top - (a % 2 ? 48 : 24));
  }

  function redraw() {
    if (due) { return; }
    due = true;
    requestAnimationFrame((begun) => {
      due = false;
      const seen = every.filter(visible).length;
      byId("count").textContent = seen + " of " + count + " plans shown";
      scatter();
      lines();
      if (drag === null) { return; }
      requestAnimationFrame((now) => {
        most = Math.min(Math.max(most * (now - begun < FRAME_MS ? 1.25 : 0.8), 200), count);
      });
    });
  }
"""
"""The values and the drawing; `explore_answers.ANSWERS` goes on."""
