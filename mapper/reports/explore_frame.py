"""The frame of the page of an exploration: what stands in it, and how it looks by day, by night and on paper."""

STYLE = """
:root { --paper: #FFFFFF; --ink: #1B1F24; --muted: #5B6570; --line: #C5CCD4; --box: #F4F5F7; --mark: #0072B2;
        color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171B; --ink: #E8EBEE; --muted: #A3ACB6; --line: #454D57; --box: #22272D; --mark: #56B4E9; }
}
@media print {
  :root { --paper: #FFFFFF; --ink: #000000; --muted: #333333; }
  #controls, #keys, #copy { display: none; }
}
* { box-sizing: border-box; }
body { font: 14px/1.4 Verdana, Arial, sans-serif; color: var(--ink); background: var(--paper); margin: 1.2em auto;
       padding: 0 1.2em; max-width: 100em; }
h1 { font-size: 1.4em; margin: 0; }
p { margin: .3em 0 .8em; color: var(--muted); max-width: 70em; }
#controls { display: flex; flex-wrap: wrap; gap: .4em 1.4em; align-items: center; margin-bottom: .6em; }
select, button, input { font: inherit; color: inherit; accent-color: var(--mark); }
select { max-width: 16em; }
main { display: flex; flex-wrap: wrap; gap: 1.5em; }
#plane { position: relative; flex: 1 1 26em; min-width: 0; height: 34em; }
#point { flex: 1 1 20em; max-width: 36em; min-width: 0; }
#strip { overflow-x: auto; margin-top: 1em; }
#lines { height: 24em; min-width: 100%; }
canvas { display: block; width: 100%; height: 100%; touch-action: pan-y; }
#lines { touch-action: pan-x; }
canvas:focus-visible, button:focus-visible, select:focus-visible {
  outline: 3px solid var(--mark); outline-offset: 2px;
}
#hint { position: absolute; display: none; pointer-events: none; background: var(--box); color: var(--ink);
        border: 1px solid var(--line); padding: .2em .5em; max-width: 24em; z-index: 2; }
table { border-collapse: collapse; margin-top: .6em; }
td { padding: .1em .8em .1em 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--muted); }
ul { list-style: none; margin: .4em 0; padding: 0; display: flex; flex-wrap: wrap; gap: .3em; }
li { padding: .1em .5em; border: 1px solid var(--line); border-left-width: .7em; }
#legend { margin: 0; }
pre { background: var(--box); padding: .7em; white-space: pre-wrap; overflow-wrap: anywhere; margin: .5em 0; }
@media screen and (min-width: 2400px) {
  body { font-size: 22px; max-width: none; }
  #plane { height: 44em; }
  #lines { height: 32em; }
}
"""
"""What it looks like; colours of stages come from `mapper.reports.style`."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="@@policy@@">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@@title@@</title>
<style>@@style@@</style>
</head>
<body>
<h1>@@title@@</h1>
<p>@@told@@. Click on a point for the command that makes its plan; drag along an axis of the lower picture to see only
plans within that range.</p>
<div id="controls">
<label>across <select id="x"></select></label>
<label>up <select id="y"></select></label>
<label>colour <select id="colour"></select></label><ul id="legend" aria-label="Colours"></ul>
<label><input type="checkbox" id="only"> only the front</label>
<button type="button" id="all">All plans</button>
<span id="count" role="status"></span>
</div>
<main>
<div id="plane"><canvas id="scatter" tabindex="0" role="application" aria-label="Plans as points"
aria-describedby="keys"></canvas><div id="hint"></div></div>
<section id="point" aria-live="polite" aria-label="The chosen plan"></section>
</main>
<div id="strip"><canvas id="lines" tabindex="0" role="application" aria-label="Plans as lines from axis to axis"
aria-describedby="keys"></canvas></div>
<p id="keys">Keys, on the points: arrows go to the next plan across and up, Home and End to the first and the last, f
shows only the front. On the lines: left and right choose an axis, up and down move the lower end of its range, with
Shift the upper end, Escape takes all ranges away.</p>
<noscript>This page draws with JavaScript, which is switched off.</noscript>
<script type="application/json" id="rows">@@rows@@</script>
<script>@@script@@</script>
</body>
</html>
"""
"""The frame; names between pairs of @ are replaced."""
