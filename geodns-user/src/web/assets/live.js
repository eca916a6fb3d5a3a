// Live numbers and plots. Without it, pages are as they were when they were loaded.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const group = (n) => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const rate = (n) => n === 0 ? "0" : n < 10 ? n.toFixed(1) : group(n);
  const percent = (s) => {
    const p = s * 100;
    if (p > 99.9 && s < 1) return "99.9 %";
    if (p < 0.1 && s > 0) return "< 0.1 %";
    return (p === 0 || p === 100 ? p.toFixed(0) : p.toFixed(1)) + " %";
  };
  const put = (id, text) => { const e = $(id); if (e && e.textContent !== text) e.textContent = text; };

  if ($("totals")) {
    const events = new EventSource("/live");
    events.onmessage = (event) => {
      const n = JSON.parse(event.data);
      put("kernel", rate(n.kernel));
      put("slow", rate(n.slow));
      put("dropped", rate(n.dropped));
      put("share", n.kernel_share === null ? "–" : percent(n.kernel_share));
      put("in-service", String(n.in_service));
      put("mirrors", String(n.mirrors));
      put("answered", group(n.answered));
      put("as-of", "as of " + new Date(n.at_unix_ms).toISOString().slice(11, 19) + " UTC");
      document.documentElement.classList.add("live");
    };
    events.onerror = () => document.documentElement.classList.remove("live");
  }

  const pool = $("pool");
  if (pool) pool.addEventListener("change", () => pool.form.submit());

  const box = $("plot");
  if (!box || typeof uPlot === "undefined") return;
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const SECONDS = { hour: 3600, day: 24 * 3600, week: 7 * 24 * 3600 };
  let plot = null, span = box.dataset.span;
  const draw = (p) => {
    if (plot) plot.destroy();
    const text = style("--quiet"), line = style("--line");
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const one = (label, color, fill) => ({ label, stroke: color, width: 2, fill, points: { show: p.at.length < 3 }, value: (_, v) => v === null ? "–" : rate(v) });
    plot = new uPlot({
      width: box.clientWidth, height: 260,
      cursor: { y: false, drag: { x: false } },
      scales: {
        // The whole span, however little of it there is.
        x: { range: () => [Date.now() / 1000 - SECONDS[span], Date.now() / 1000] },
        y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] },
      },
      axes: [axis, { ...axis, size: 64, values: (_, all) => all.map(rate) }],
      series: [
        { label: "Time" },
        one("Kernel", style("--kernel"), style("--kernel-fill")),
        one("Slow path", style("--slow")),
        one("Dropped", style("--dropped")),
      ],
    }, [p.at, p.kernel, p.slow, p.dropped], box);
  };
  let points = null;
  const load = async () => {
    const answer = await fetch("/trends.json?span=" + span);
    if (!answer.ok) return;
    points = await answer.json();
    if (points.at.length === 0) return;
    if (box.hidden) { box.hidden = false; $("values").open = false; }
    draw(points);
  };
  for (const link of document.querySelectorAll("[data-span]")) {
    if (link === box) continue;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      span = link.dataset.span;
      for (const other of document.querySelectorAll("a[data-span]")) other.removeAttribute("aria-current");
      link.setAttribute("aria-current", "true");
      load();
    });
  }
  new ResizeObserver(() => { if (plot && points && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: 260 }); }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => points && draw(points));
  load();
  setInterval(load, 10000);
})();
