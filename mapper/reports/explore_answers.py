"""What answers in the page of an exploration: the mouse, the keys, the choices, and the plan that was clicked on."""

ANSWERS = r"""

  function nearest(px, py) {
    let best = -1, least = NEAR * NEAR;
    for (let cx = -1; cx <= 1; cx++) {
      for (let cy = -1; cy <= 1; cy++) {
        for (const i of grid.get(Math.floor(px / CELL) + cx + 4096 * (Math.floor(py / CELL) + cy)) || []) {
          const far = (places[2 * i] - px) ** 2 + (places[2 * i + 1] - py) ** 2 - (data.front[i] ? 9 : 0);
          if (far < least) { least = far; best = i; }
        }
      }
    }
    return best;
  }

  function hint(event) {
    const i = nearest(event.offsetX / unit(), event.offsetY / unit()), box = byId("hint");
    box.style.display = i < 0 ? "none" : "block";
    byId("scatter").style.cursor = i < 0 ? "default" : "pointer";
    if (i < 0) { return; }
    const x = field[byId("x").value], y = field[byId("y").value];
    box.textContent = data.names[i] + ": " + [x, y].map((each) => each.label + " " + each.values[i]).join(", ");
    const wide = byId("plane").clientWidth;
    box.style.left = Math.max(0, Math.min(event.offsetX + 14, wide - box.offsetWidth)) + "px";
    box.style.top = event.offsetY + 14 + "px";
  }

  function choose(i) {
    if (i < 0) { return; }
    chosen = i;
    tell(i);
    redraw();
  }

  function step(by, ways) {
    const each = field[byId(ways).value], other = field[byId(ways === "x" ? "y" : "x").value];
    const order = every.filter((i) => visible(i) && !Number.isNaN(number(each, i)));
    order.sort((a, b) => number(each, a) - number(each, b) || number(other, a) - number(other, b) || a - b);
    const at = order.indexOf(chosen);
    choose(order.length ? order[Math.min(Math.max(Number.isFinite(by) ? at + by : by < 0 ? 0 : order.length - 1, 0),
                                         order.length - 1)] : -1);
  }

  function filter() {
    for (const i of every) {
      shown[i] = axes.every((axis) => {
        const v = axis.range ? number(axis.field, i) : 0;
        return !axis.range || (v >= axis.range[0] - 1e-9 && v <= axis.range[1] + 1e-9);
      }) ? 1 : 0;
    }
    redraw();
  }

  function reach(by, upper) {
    const axis = axes[active], [low, high] = span(axis.field), size = axis.field.text ? 1 : (high - low) / 40;
    const range = axis.range || [low, high];
    range[upper ? 1 : 0] = Math.min(Math.max(range[upper ? 1 : 0] + by * size, low), high);
    axis.range = range[0] <= range[1] ? range : [range[1], range[0]];
    filter();
  }

  function tell(i) {
    const box = byId("point"), table = document.createElement("table"), command = document.createElement("pre");
    const head = document.createElement("strong"), copy = document.createElement("button");
    const list = document.createElement("ul");
    head.textContent = data.names[i] + (data.front[i] ? " (on the front)" : "");
    data.stages[i].slice(0, WIDEST).forEach(([replicas, threads], s) => {
      const item = document.createElement("li");
      item.textContent = "stage " + s + ": " + replicas + " × " + threads + (threads === 1 ? " thread" : " threads");
      item.style.borderLeftColor = data.palette[s % data.palette.length];
      list.appendChild(item);
    });
    if (data.stages[i].length > WIDEST) {
      const more = document.createElement("li");
      more.textContent = "and " + (data.stages[i].length - WIDEST) + " more";
      list.appendChild(more);
    }
    for (const each of data.fields) {
      if (each.values[i] === null || each.values[i] === undefined) { continue; }
      const line = table.insertRow();
      line.insertCell().textContent = each.label;
      line.insertCell().textContent = String(each.values[i]);
    }
    command.textContent = "mapper plan " + data.options[i];
    copy.textContent = "Copy the command";
    copy.id = "copy";
    copy.type = "button";
    copy.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(command);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (navigator.clipboard) { navigator.clipboard.writeText(command.textContent).catch(() => undefined); }
    });
    box.replaceChildren(head, list, command, copy, table);
  }
  function choice(id, fields, first) {
    const select = byId(id);
    for (const each of fields) {
      const option = document.createElement("option");
      option.value = each.key;
      option.textContent = each.label;
      option.selected = each.key === first;
      select.appendChild(option);
    }
    select.addEventListener("change", () => { tint(); redraw(); });
  }

  function clear() {
    for (const axis of axes) { axis.range = null; }
    byId("only").checked = false;
    filter();
  }

  function grab(event) {
    const near = axes.findIndex((axis) => Math.abs(axis.x - event.offsetX / unit()) < 22);
    if (near < 0) { return; }
    active = near;
    drag = axes[near].back(event.offsetY / unit());
    byId("lines").setPointerCapture(event.pointerId);
  }

  function pull(event, ended) {
    if (drag === null) { return; }
    const axis = axes[active], [low, high] = span(axis.field);
    const ends = [drag, axis.back(event.offsetY / unit())].sort((a, b) => a - b);
    const range = ends.map((v) => Math.min(Math.max(v, low), high));
    const clicked = Math.abs(axis.at(range[0]) - axis.at(range[1])) < 4;
    if (ended) { drag = null; }
    if (!clicked || ended) { axis.range = clicked ? null : range; filter(); }
  }

  const numbers = data.fields.filter((each) => !each.text);
  choice("x", data.fields, "latency_s");
  choice("y", numbers, "elements_per_s");
  choice("colour", data.fields, field.machine && new Set(field.machine.values).size > 1 ? "machine" : "cores_used");
  axes = data.fields.filter((each) => new Set(each.values).size > 1 && !each.values.includes(null))
    .map((each) => ({ field: each, range: null }));
  const points = byId("scatter"), strip = byId("lines");
  points.addEventListener("pointermove", hint);
  points.addEventListener("pointerleave", () => { byId("hint").style.display = "none"; });
  points.addEventListener("click", (event) => choose(nearest(event.offsetX / unit(), event.offsetY / unit())));
  points.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: [1, "x"], ArrowLeft: [-1, "x"], ArrowUp: [1, "y"], ArrowDown: [-1, "y"],
                    Home: [-Infinity, "x"], End: [Infinity, "x"] };
    if (moves[event.key]) { step(...moves[event.key]); event.preventDefault(); }
    if (event.key === "f") { byId("only").checked = !byId("only").checked; redraw(); }
  });
  strip.addEventListener("pointerdown", grab);
  strip.addEventListener("pointermove", (event) => pull(event, false));
  strip.addEventListener("pointerup", (event) => pull(event, true));
  strip.addEventListener("pointercancel", (event) => pull(event, true));
  strip.addEventListener("keydown", (event) => {
    const last = axes.length - 1;
    if (event.key === "ArrowRight") { active = Math.min(active + 1, last); redraw(); }
    else if (event.key === "ArrowLeft") { active = Math.max(active - 1, 0); redraw(); }
    else if (event.key === "ArrowUp") { reach(1, event.shiftKey); }
    else if (event.key === "ArrowDown") { reach(-1, event.shiftKey); }
    else if (event.key === "Escape") { clear(); }
    else { return; }
    event.preventDefault();
  });
  for (const canvas of [points, strip]) {
    canvas.addEventListener("focus", redraw);
    canvas.addEventListener("blur", redraw);
  }
  byId("only").addEventListener("change", redraw);
  byId("all").addEventListener("click", clear);
  dark.addEventListener("change", () => { tint(); redraw(); });
  new ResizeObserver(redraw).observe(byId("plane"));
  tint();
  const first = data.front.indexOf(true);
  if (first >= 0) { chosen = first; tell(first); }
  redraw();
})();
"""
"""The rest of the script, which begins in `explore_script.SCRIPT`."""
