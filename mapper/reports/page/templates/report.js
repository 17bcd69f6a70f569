"use strict";
// What lights up, what is told of it, and how large pictures are. Everything else on the page is there without this.
(function () {
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
  const tip = document.getElementById("tip");
  const chips = all("#stages button");
  let kept = null;

  // Tips: the title of a mark becomes one of ours, so that keyboards have them too.
  for (const title of all("svg rect > title")) {
    title.parentNode.setAttribute("data-tip", title.textContent);
    title.remove();
  }

  function stagesOf(element) {
    const of = element.getAttribute("data-s") || element.getAttribute("data-of") || "";
    return of.split(" ").filter(Boolean);
  }

  function light(stages) {
    const wanted = new Set(stages);
    document.body.classList.toggle("linked", wanted.size > 0);
    for (const element of all("[data-s], [data-of]")) {
      element.classList.toggle("on", stagesOf(element).some((stage) => wanted.has(stage)));
    }
  }

  function keep(stage) {
    kept = stage;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.getAttribute("data-s") === stage));
    light(stage === null ? [] : [stage]);
  }

  function tell(element, x, y) {
    tip.textContent = element.getAttribute("data-tip");
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + 18 + box.height > window.innerHeight ? Math.max(4, y - box.height - 12) : y + 18) + "px";
  }

  const hush = () => { tip.hidden = true; };
  const linked = (target) => target.closest("[data-s]");
  let lit = null;

  document.addEventListener("pointerover", (event) => {
    const mark = linked(event.target);
    if (kept === null && mark !== lit) {
      lit = mark;
      light(mark === null ? [] : stagesOf(mark));
    }
  });
  document.addEventListener("pointermove", (event) => {
    const told = event.target.closest("[data-tip]");
    if (told === null) hush(); else tell(told, event.clientX, event.clientY);
  });
  document.addEventListener("pointerleave", hush);
  document.addEventListener("click", (event) => {
    const mark = linked(event.target);
    if (mark === null || event.target.closest("summary")) return;
    const stage = mark.getAttribute("data-s");
    keep(kept === stage ? null : stage);
    const told = event.target.closest("[data-tip]");
    if (told !== null) tell(told, event.clientX, event.clientY);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      keep(null);
      hush();
    }
  });

  // Stages by keyboard: one stop of the tab key, arrows within.
  function step(items, current, key) {
    const at = items.indexOf(current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[key];
    return to === undefined ? undefined : items[(to + items.length) % items.length];
  }
  for (const chip of chips) {
    chip.addEventListener("focus", () => {
      for (const other of chips) other.tabIndex = other === chip ? 0 : -1;
      if (kept === null) light(stagesOf(chip));
    });
    chip.addEventListener("blur", () => { if (kept === null) light([]); });
    chip.addEventListener("keydown", (event) => {
      const next = step(chips, chip, event.key);
      if (next === undefined) return;
      event.preventDefault();
      next.focus();
    });
  }

  // Pictures by keyboard: arrows go through their parts, + - 0 zoom.
  function zoom(paper, how) {
    const factor = { in: 1.3, out: 1 / 1.3 }[how];
    for (const svg of all("svg", paper)) {
      if (svg.clientWidth === 0) continue;
      svg.style.width = factor === undefined ? "" : svg.getBoundingClientRect().width * factor + "px";
      svg.style.minWidth = factor === undefined ? "" : "0";
    }
    paper.classList.toggle("zoomed", factor !== undefined);
  }
  for (const figure of all("figure")) {
    const paper = figure.querySelector(".paper");
    for (const button of all("[data-zoom]", figure)) {
      button.addEventListener("click", () => zoom(paper, button.getAttribute("data-zoom")));
    }
    let current = null;
    const leave = () => {
      if (current !== null) current.classList.remove("at");
      current = null;
      hush();
    };
    paper.addEventListener("blur", leave);
    paper.addEventListener("keydown", (event) => {
      const how = { "+": "in", "=": "in", "-": "out", "0": "fit" }[event.key];
      if (how !== undefined && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        zoom(paper, how);
        return;
      }
      const marks = all("[data-tip]", paper).filter((mark) => mark.getClientRects().length > 0);
      if (event.key === "Enter" && current !== null && current.hasAttribute("data-s")) {
        const stage = current.getAttribute("data-s");
        keep(kept === stage ? null : stage);
        return;
      }
      const next = step(marks, current, event.key);
      if (next === undefined) return;
      event.preventDefault();
      leave();
      current = next;
      current.classList.add("at");
      current.scrollIntoView({ block: "nearest", inline: "nearest" });
      const box = current.getBoundingClientRect();
      tell(current, box.left, box.bottom - 10);
      if (kept === null) light(stagesOf(current));
    });
  }

  // On paper everything is unfolded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = all("section > details.more:not([open])");
    for (const details of folded) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
})();
