"""The page of an exploration: its frame, and what runs in it."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="@@policy@@">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@@title@@</title>
<style>
body { font: 14px/1.4 Verdana, Arial, sans-serif; color: #1B1F24; margin: 1.5em; max-width: 90em; }
h1 { font-size: 1.4em; margin: 0; }
p { margin: .3em 0 1em; color: #5B6570; }
label { margin-right: 1.2em; }
main { display: flex; flex-wrap: wrap; gap: 1.5em; }
#scatter { flex: 1 1 40em; height: 34em; }
#point { flex: 1 1 22em; max-width: 34em; }
#lines { height: 26em; margin-top: 1em; }
table { border-collapse: collapse; }
td { padding: .1em .8em .1em 0; vertical-align: top; }
td:first-child { color: #5B6570; }
pre { background: #F4F5F7; padding: .7em; white-space: pre-wrap; word-break: break-word; }
</style>
</head>
<body>
<h1>@@title@@</h1>
<p>@@told@@. Click on a point for the command that makes its plan; drag along an axis of the lower picture to see only
plans within that range.</p>
<div>
<label>across <select id="x"></select></label>
<label>up <select id="y"></select></label>
<label>colour <select id="colour"></select></label>
<label><input type="checkbox" id="only"> only the front</label>
</div>
<main><div id="scatter"></div><div id="point"></div></main>
<div id="lines"></div>
<noscript>This page draws with JavaScript, which is switched off.</noscript>
<script type="application/json" id="rows">@@rows@@</script>
<script>@@library@@</script>
<script>@@script@@</script>
</body>
</html>
"""
"""The frame; names between pairs of @ are replaced."""

SCRIPT = """
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("rows").textContent);
  const count = data.names.length;
  const field = Object.fromEntries(data.fields.map((each) => [each.key, each]));
  const shown = new Array(count).fill(true);
  const byId = (id) => document.getElementById(id);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const names = data.names.map(escaped);

  function choice(id, fields, chosen) {
    const select = byId(id);
    for (const each of fields) {
      const option = document.createElement("option");
      option.value = each.key;
      option.textContent = each.label;
      option.selected = each.key === chosen;
      select.appendChild(option);
    }
    select.addEventListener("change", draw);
  }

  function codes(each) {
    const known = [...new Set(each.values)];
    const place = new Map(known.map((value, i) => [value, i]));
    return { known: known, values: each.values.map((value) => place.get(value)) };
  }

  function axis(each) {
    const type = each.text ? "category" : each.log ? "log" : "linear";
    return { title: { text: escaped(each.label) }, type: type, automargin: true };
  }

  function colours(each, rows) {
    if (!each.text) {
      return { color: rows.map((i) => each.values[i]), colorscale: "Viridis", showscale: true,
               colorbar: { title: { text: escaped(each.label), side: "right" }, thickness: 14 } };
    }
    const found = codes(each).values;
    return { color: rows.map((i) => data.palette[found[i] % data.palette.length]) };
  }

  function trace(rows, name, marker) {
    const x = field[byId("x").value], y = field[byId("y").value], colour = field[byId("colour").value];
    return {
      type: "scattergl", mode: "markers", name: name, customdata: rows,
      x: rows.map((i) => x.text ? escaped(x.values[i]) : x.values[i]),
      y: rows.map((i) => y.text ? escaped(y.values[i]) : y.values[i]),
      text: rows.map((i) => names[i]), hovertemplate: "%{text}<br>%{x}, %{y}<extra></extra>",
      marker: Object.assign(colours(colour, rows), marker),
    };
  }

  function draw() {
    const all = [...Array(count).keys()].filter((i) => shown[i]);
    const front = all.filter((i) => data.front[i]);
    const traces = byId("only").checked ? [] : [trace(all, "plans", { size: 5, opacity: 0.6 })];
    traces.push(trace(front, "the front", { size: 9, line: { width: 1.2, color: "#1B1F24" } }));
    if (traces.length > 1) {
      delete traces[1].marker.colorbar;
      traces[1].marker.showscale = false;
      const values = traces[0].marker.color.filter((value) => typeof value === "number");
      if (values.length) {
        const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
        for (const each of traces) { each.marker.cmin = low; each.marker.cmax = high; }
      }
    }
    Plotly.react("scatter", traces, {
      xaxis: axis(field[byId("x").value]), yaxis: axis(field[byId("y").value]), hovermode: "closest",
      showlegend: false, margin: { l: 60, r: 10, t: 20, b: 50 }, uirevision: byId("x").value + byId("y").value,
    }, { displaylogo: false, responsive: true });
  }

  function lines() {
    const wanted = data.fields.filter((each) => new Set(each.values).size > 1 && !each.values.includes(null));
    const dimensions = wanted.map((each) => {
      if (each.text) {
        const found = codes(each);
        return { label: escaped(each.label), values: found.values, tickvals: found.known.map((_, i) => i),
                 ticktext: found.known.map((value) => escaped(String(value)).slice(0, 24)) };
      }
      if (!each.log) { return { label: escaped(each.label), values: each.values }; }
      const ticks = ticksOf(each.values);
      return { label: escaped(each.label), values: each.values.map(Math.log10),
               tickvals: ticks.map(Math.log10), ticktext: ticks.map((value) => String(Number(value.toPrecision(1)))) };
    });
    const best = field.elements_per_s.values;
    Plotly.newPlot("lines", [{ type: "parcoords", dimensions: dimensions, labelangle: -15,
                               line: { color: best.map(Math.log10), colorscale: "Viridis" } }],
                   { margin: { l: 60, r: 60, t: 90, b: 20 } }, { displaylogo: false, responsive: true });
    byId("lines").on("plotly_restyle", () => {
      const made = byId("lines").data[0].dimensions;
      for (let i = 0; i < count; i++) { shown[i] = made.every((each) => within(each, i)); }
      draw();
    });
  }

  function ticksOf(values) {
    const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)), out = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of [1, 2, 5]) { out.push(step * 10 ** power); }
    }
    return out.filter((value) => value >= low && value <= high);
  }

  function within(dimension, i) {
    const range = dimension.constraintrange;
    if (!range || !range.length) { return true; }
    const parts = Array.isArray(range[0]) ? range : [range];
    return parts.some((part) => dimension.values[i] >= part[0] && dimension.values[i] <= part[1]);
  }

  function tell(i) {
    const box = byId("point"), table = document.createElement("table"), command = document.createElement("pre");
    const head = document.createElement("strong"), copy = document.createElement("button");
    head.textContent = data.names[i];
    for (const each of data.fields) {
      if (each.values[i] === null || each.values[i] === undefined) { continue; }
      const line = table.insertRow();
      line.insertCell().textContent = each.label;
      line.insertCell().textContent = String(each.values[i]);
    }
    command.textContent = "mapper plan " + data.options[i];
    copy.textContent = "Copy";
    copy.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(command);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (navigator.clipboard) { navigator.clipboard.writeText(command.textContent).catch(() => undefined); }
    });
    box.replaceChildren(head, command, copy, table);
  }

  const numbers = data.fields.filter((each) => !each.text);
  choice("x", data.fields, "latency_s");
  choice("y", numbers, "elements_per_s");
  choice("colour", data.fields, new Set(field.machine.values).size > 1 ? "machine" : "cores_used");
  byId("only").addEventListener("change", draw);
  draw();
  byId("scatter").on("plotly_click", (event) => tell(event.points[0].customdata));
  lines();
  const first = data.front.indexOf(true);
  if (first >= 0) { tell(first); }
})();
"""
"""What runs in the page: the scatter with its choices, the parallel coordinates, and the point that was clicked on."""
