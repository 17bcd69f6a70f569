"""What on a page cannot be read, found in the browser: texts over each other, over a rim, too small, too pale."""

from __future__ import annotations

COVERED = """(() => {
  const out = [];
  for (const svg of document.querySelectorAll(".paper svg")) {
    const own = svg.getBoundingClientRect();
    if (own.width === 0) continue;
    const name = svg.querySelector("title").id;
    const boxes = Array.from(svg.querySelectorAll("text")).map((text) => {
      const box = text.getBoundingClientRect(), slack = box.height * 0.2;  // a line is higher than its letters
      return { text: text.textContent, left: box.left, right: box.right, top: box.top + slack,
               bottom: box.bottom - slack };
    });
    boxes.forEach((one, i) => {
      if (one.left < own.left - 1 || one.right > own.right + 1 || one.top < own.top - 1 || one.bottom > own.bottom + 1)
        out.push(`${name}: ${one.text} leaves the paper`);
      for (const other of boxes.slice(i + 1)) {
        if (one.left < other.right - 0.5 && other.left < one.right - 0.5 && one.top < other.bottom
            && other.top < one.bottom) out.push(`${name}: ${one.text} | ${other.text}`);
      }
    });
  }
  return out;
})()"""
"""Texts of pictures that cover each other or leave the paper."""

SPILT = """(() => {
  const out = [];
  for (const svg of document.querySelectorAll(".paper svg")) {
    if (svg.getBoundingClientRect().width === 0) continue;
    const rects = [];
    for (const mark of svg.querySelectorAll("rect, text")) {
      const box = mark.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
      if (mark.tagName === "rect") { rects.push(box); continue; }
      const home = rects.findLast((r) => r.left <= x && x <= r.right && r.top <= y && y <= r.bottom);
      if (home && (box.left < home.left - 1 || box.right > home.right + 1))
        out.push(`${svg.querySelector("title").id}: ${mark.textContent} is wider than its box`);
    }
  }
  return out;
})()"""
"""Texts of pictures that are wider than the box in which they stand."""

LEAVING = """(() => {
  const wide = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > wide) out.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (box.width === 0 || box.right <= wide + 1 || (element.closest("svg") && element.tagName !== "svg")) continue;
    let outer = element.parentElement;
    while (outer && getComputedStyle(outer).overflowX === "visible") outer = outer.parentElement;
    if (!outer) out.push(`${element.tagName}.${element.className} ends at ${box.right}`);
  }
  for (const paper of document.querySelectorAll(".paper")) {
    if (paper.scrollWidth > paper.clientWidth + 1) out.push(`${paper.getAttribute("aria-label")} is to be scrolled`);
  }
  return out;
})()"""
"""What hangs over the side of the page, and pictures that one has to push from side to side."""

SMALLEST = """Math.min(...Array.from(document.querySelectorAll(".paper svg text"))
  .filter((text) => text.getClientRects().length > 0)
  .map((text) => parseFloat(text.getAttribute("font-size")) * text.getScreenCTM().a))"""
"""The size of the smallest letters of all pictures, in pixels."""

PALE = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number).slice(0, 3);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const out = [];
  for (const svg of document.querySelectorAll(".paper svg")) {
    if (svg.getClientRects().length === 0) continue;
    const paper = channels(getComputedStyle(svg.closest("section")).backgroundColor), rects = [];
    for (const mark of svg.querySelectorAll("rect, text")) {
      const box = mark.getBoundingClientRect();
      if (mark.tagName === "rect") { rects.push([mark, box]); continue; }
      const x = box.left + box.width / 2, y = box.top + box.height / 2;
      let ground = paper;
      for (const [rect, r] of rects) {
        if (!(r.left <= x && x <= r.right && r.top <= y && y <= r.bottom)) continue;
        const look = getComputedStyle(rect), share = parseFloat(look.fillOpacity), fill = channels(look.fill);
        ground = ground.map((v, i) => fill[i] * share + v * (1 - share));
      }
      const two = [light(channels(getComputedStyle(mark).fill)), light(ground)];
      const contrast = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
      if (contrast < 3) out.push(`${svg.querySelector("title").id}: ${mark.textContent} has ${contrast.toFixed(1)}`);
    }
  }
  return out;
})()"""
"""Texts of pictures that stand out from what is behind them by less than 3 (WCAG 2, large letters and graphics)."""

WITHOUT_UNIT = """Array.from(document.querySelectorAll(".paper svg")).flatMap((svg) =>
  svg.querySelector("title").id.startsWith("roofline") ? [] : Array.from(svg.querySelectorAll("text.f-muted"))
    .filter((text) => /^[\\d.,e-]+$/.test(text.textContent)).map((text) => text.textContent))"""
"""Values along axes without their unit; the roofline says its unit below the axis."""

FOLDED_OUT = "document.querySelectorAll('details.more').forEach((each) => { each.open = true; })"
