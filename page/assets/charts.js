// The charts, drawn by Observable Plot as SVG from the page's JSON. Colours are variables of the style sheet, so they
// follow light and dark. Under each chart is a table of the same figures.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const colours = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"];
  const symbols = { measured: "circle", compiled: "diamond", projected: "circle", published: "square", imported: "square", emulated: "triangle" };
  const hollow = new Set(["projected", "published", "imported"]);
  const text = { fontSize: "13px", fontFamily: "inherit", color: "var(--text)", background: "none" };
  const ink = (point) => `var(--${point.origin || "measured"})`;
  const fill = (point) => (hollow.has(point.origin) ? "var(--surface)" : ink(point));
  const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
  const unique = (points, name) => [...new Set(points.map((point) => point[name]))];

  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };

  const legend = (names) => element("div", "legend", ...names.map((name, index) => {
    const item = element("span", "", name);
    item.style.setProperty("--key", colours[index % colours.length]);
    return item;
  }));

  const dots = (points, channels) => Plot.dot(points, {
    r: 5.5, symbol: (point) => symbols[point.origin] ?? "circle", fill, stroke: ink, strokeWidth: 2, ...channels,
  });

  // One row per name, in groups: a dot at its value, the span of its samples as a line, a rule where it matters.
  const rows = ({ points, options }, width) => {
    const values = points.flatMap((point) => [point.value, point.low ?? point.value, point.high ?? point.value]);
    const all = options.rule ? [...values, options.rule.value] : values;
    const wide = Math.min(...all) > 0 && Math.max(...all) / Math.min(...all) > 10;
    const x = wide
      ? { type: "log", domain: [Math.min(...all) / 1.4, Math.max(...all) * 1.4] }
      : { domain: [0, Math.max(...all) * 1.08], nice: true };
    const groups = unique(points, "group");
    return groups.map((group, index) => {
      const mine = points.filter((point) => point.group === group);
      const last = index === groups.length - 1;
      const top = options.rule && index === 0 ? 20 : 6;
      const drawing = Plot.plot({
        width, height: 44 * mine.length + top + (last ? 40 : 4), style: text, ariaLabel: `${options.x} ${group}`.trim(),
        marginLeft: 8, marginRight: 64, marginTop: top, marginBottom: last ? 40 : 4,
        x: { ...x, label: last ? options.x + (wide ? ", logarithmic" : "") : null, ticks: Math.max(3, Math.round(width / 130)), tickFormat: last ? number : () => "", tickSize: 0, grid: true },
        y: { type: "point", domain: mine.map((_, place) => place), axis: null, padding: 0.5 },
        marks: [
          Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: Math.max(3, Math.round(width / 130)) }),
          options.rule ? Plot.ruleX([options.rule.value], { stroke: "var(--text)", strokeDasharray: "3 3" }) : null,
          options.rule && index === 0 ? Plot.text([options.rule], { x: "value", frameAnchor: "top", dy: -15, text: "name", fill: "var(--muted)", textAnchor: (wide ? options.rule.value ** 2 > x.domain[0] * x.domain[1] : options.rule.value > x.domain[1] / 2) ? "end" : "start" }) : null,
          Plot.text(mine, { frameAnchor: "left", y: (_, place) => place, dy: -9, textAnchor: "start", text: "name", fill: "var(--text)", stroke: "var(--surface)", strokeWidth: 4 }),
          Plot.ruleY(mine.filter((point) => point.low != null), { y: (point) => mine.indexOf(point), x1: "low", x2: "high", dy: 8, stroke: ink, strokeWidth: 2 }),
          dots(mine, { x: "value", y: (_, place) => place, dy: 8 }),
          Plot.text(mine, { x: (point) => point.high ?? point.value, y: (_, place) => place, dx: 11, dy: 8, textAnchor: "start", text: "shown", fill: "var(--muted)", stroke: "var(--surface)", strokeWidth: 4 }),
        ],
      });
      return group ? element("div", "", element("h4", "", group), drawing) : drawing;
    });
  };

  // One bar per name, of parts in the same order.
  const bars = ({ points, options }, width) => {
    const parts = unique(points, "part");
    const names = unique(points, "name");
    return [legend(parts), Plot.plot({
      width, height: 46 * names.length + 50, style: text, ariaLabel: options.x,
      marginLeft: 8, marginRight: 18, marginTop: 6, marginBottom: 40,
      x: { label: options.x, grid: true, nice: true, ticks: Math.max(3, Math.round(width / 130)), tickSize: 0, tickFormat: number },
      y: { domain: names, axis: null, padding: 0.1 },
      color: { domain: parts, range: colours },
      marks: [
        Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: Math.max(3, Math.round(width / 130)) }),
        Plot.text(names, { frameAnchor: "left", y: (name) => name, dx: 3, dy: -13, textAnchor: "start", text: (name) => name, fill: "var(--text)", stroke: "var(--surface)", strokeWidth: 4 }),
        Plot.barX(points, { x: "value", y: "name", fill: "part", insetTop: 20, insetBottom: 4, insetRight: 1, title: (point) => `${point.part}: ${point.shown}` }),
        Plot.ruleX([0], { stroke: "var(--muted)" }),
      ],
    })];
  };

  const scatter = ({ points, options }, width) => {
    const middle = (Math.min(...points.map((point) => point.x)) + Math.max(...points.map((point) => point.x))) / 2;
    const names = (side, textAnchor, dx) => Plot.text(points.filter((point) => (point.x > middle) === side), { // towards the middle
      x: "x", y: "y", text: "name", dx, textAnchor, fill: "var(--text)", stroke: "var(--surface)", strokeWidth: 4,
    });
    return [Plot.plot({
      width, height: Math.max(260, Math.min(380, width * 0.6)), style: text, ariaLabel: `${options.y} against ${options.x}`,
      marginLeft: 54, marginRight: 24, marginTop: 26, marginBottom: 44, insetLeft: 20, insetRight: 40, insetTop: 16, insetBottom: 16,
      x: { label: options.x, nice: true, grid: true, tickSize: 0, ticks: Math.max(3, Math.round(width / 130)), type: options.log ? "log" : "linear", tickFormat: number },
      y: { label: options.y, nice: true, grid: true, tickSize: 0, tickFormat: number },
      marks: [dots(points, { x: "x", y: "y" }), names(false, "start", 11), names(true, "end", -11)],
    })];
  };

  // Kernels under the roofs of a card: what they compute per byte, and how much they could compute per second.
  const roofline = ({ points, options }, width) => {
    const parts = unique(points, "part");
    const rates = options.roofs.map((roof) => roof.rate);
    const ridge = Math.max(...rates) / options.bandwidth;
    const from = Math.min(...points.map((point) => point.x), ridge) / 3;
    const to = Math.max(...points.map((point) => point.x), ridge) * 4;
    const slope = [from, ridge].map((x) => ({ x, y: x * options.bandwidth }));
    const flat = options.roofs.flatMap(({ name, rate }) => [rate / options.bandwidth, to].map((x) => ({ x, y: rate, name })));
    const named = points.filter((point) => point.share > 0.05).sort((one, other) => one.x - other.x);
    const away = (point) => 7 + 30 * Math.sqrt(point.share);
    const names = named.map((point, place) => Plot.text([point], { // above and below in turn, since kinds lie close together
      x: "x", y: "y", text: "name", dy: place % 2 ? away(point) : -away(point), fill: "var(--text)", stroke: "var(--surface)", strokeWidth: 4,
    }));
    return [legend(parts), Plot.plot({
      width, height: Math.max(300, Math.min(440, width * 0.62)), style: text, ariaLabel: `${options.y} against ${options.x}`,
      marginLeft: 58, marginRight: 20, marginTop: 26, marginBottom: 44,
      x: { type: "log", domain: [from, to], label: options.x, tickSize: 0, ticks: Math.max(4, Math.round(width / 60)), tickFormat: number },
      y: { type: "log", domain: [Math.min(...points.map((point) => point.y), ...rates) / 2.5, Math.max(...rates) * 3], label: options.y, tickSize: 0, tickFormat: number },
      r: { type: "sqrt", domain: [0, 1], range: [2, 30] },
      color: { domain: parts, range: colours },
      marks: [
        Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: 4 }),
        Plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 4 }),
        Plot.lineY(slope, { x: "x", y: "y", stroke: "var(--muted)", strokeWidth: 2, clip: true }),
        Plot.lineY(flat, { x: "x", y: "y", z: "name", stroke: "var(--muted)", strokeWidth: 2 }),
        Plot.text(options.roofs, { x: () => to, y: "rate", text: "name", dy: -9, textAnchor: "end", fill: "var(--muted)" }),
        Plot.dot(points, { x: "x", y: "y", r: "share", fill: "part", fillOpacity: 0.8, stroke: "var(--surface)" }),
        ...names,
      ],
    })];
  };

  const line = ({ points, options }, width) => {
    const names = unique(points, "name");
    return [names.length > 1 ? legend(names) : "", Plot.plot({
      width, height: Math.max(180, Math.min(260, width * 0.3)), style: text, ariaLabel: `${options.y} against ${options.x}`,
      marginLeft: 54, marginRight: 18, marginTop: 26, marginBottom: 44,
      x: { label: options.x, tickSize: 0, ticks: Math.max(3, Math.round(width / 110)), tickFormat: number },
      y: { label: options.y, grid: true, nice: true, zero: options.zero ?? false, tickSize: 0, ticks: 4, tickFormat: number },
      color: { domain: names, range: colours },
      marks: [
        options.zero ? Plot.ruleY([0], { stroke: "var(--muted)" }) : null,
        Plot.lineY(points, { x: "x", y: "y", stroke: "name", strokeWidth: 2, curve: options.step ? "step-before" : "linear" }),
        points.length < 40 ? Plot.dot(points, { x: "x", y: "y", fill: "name", r: 3 }) : null,
      ],
    })];
  };

  const kinds = { rows, bars, scatter, roofline, line };
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[Number(place.dataset.chart)];
    let drawn = 0;
    const draw = () => {
      const width = Math.floor(place.clientWidth);
      if (width < 1 || Math.abs(width - drawn) < 2) return;
      drawn = width;
      place.replaceChildren(...kinds[chart.kind](chart, width));
      for (const drawing of place.querySelectorAll("svg")) {
        drawing.setAttribute("role", "img"); // as one picture: its figures are in the table
        for (const inner of drawing.querySelectorAll("[aria-label]")) inner.removeAttribute("aria-label");
      }
    };
    draw();
    new ResizeObserver(draw).observe(place);
    place.closest(".chart").querySelector("details").open = false;
  }
})();
