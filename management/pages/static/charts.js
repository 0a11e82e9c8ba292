// Draws the charts that pages hold as data: stacked bars by day, in the colours of the page.
"use strict";

const HEIGHT_PX = 200;
const DAY_S = 86400;
const drawn = new Map();

const colour = (name) => {
  // The browser resolves light-dark() only in a property that it uses.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const short = (value) => compact.format(value).replace("K", "k"); // as the tables write it
const count = new Intl.NumberFormat("en");
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const small = new Intl.NumberFormat("en", { minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const money = (value) => (value === 0 || value >= 0.1 ? cents : small).format(value); // as the tables write it
const full = { count: count.format, money };
const months = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const day = (seconds) => months.format(new Date(seconds * 1000));

// As wide as what stands there: the parts of a cent have many digits.
const wide = (_, shown) => Math.max(48, ...(shown ?? []).map((each) => 12 + 6.5 * each.length));

function options(data, width) {
  const axis = { stroke: colour("--soft"), font: "11px Inter, sans-serif", ticks: { show: false }, grid: { stroke: colour("--line"), width: 1 } };
  const bars = uPlot.paths.bars({ size: [0.72, 28], align: 0, radius: 0 });
  return {
    width,
    height: HEIGHT_PX,
    padding: [8, 6, 0, 0],
    legend: { show: false },
    hooks: { setCursor: [(plot) => tell(plot, data)] },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { range: (_, low, high) => [low - DAY_S * 0.6, high + DAY_S * 0.6] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, gap: 6, values: (_, at) => at.map(day), incrs: [1, 2, 3, 7, 14, 30, 60].map((days) => days * DAY_S), space: 60 },
      // There are no parts of requests or tokens.
      { ...axis, size: wide, gap: 6, values: (_, at) => at.map((value) => (data.unit === "money" || value % 1 === 0 ? short(value) : "")) },
    ],
    series: [
      {},
      ...data.series.map((each, number) => ({
        label: each.label,
        fill: colour(each.label === "others" ? "--s6" : `--s${(number % 5) + 1}`),
        width: 0,
        paths: bars,
        points: { show: false },
      })),
    ],
  };
}

function tell(plot, data) {
  // The legend has the sums; while a day is pointed at, those of that day.
  const figure = plot.root.closest("figure");
  const index = plot.cursor.idx;
  figure.querySelector(".day").textContent = index == null ? "" : day(data.days[index]);
  figure.querySelectorAll(".legend b").forEach((shown, number) => {
    shown.dataset.sum ??= shown.textContent;
    shown.textContent = index == null ? shown.dataset.sum : full[data.unit](data.series[number].values[index]);
  });
}

function heights(data) {
  // The highest stands behind, so that of each only its own part is seen.
  const sums = data.days.map(() => 0);
  const stacked = data.series.map((each) => each.values.map((value, at) => (sums[at] += value)));
  return { stacked, order: data.series.map((_, number) => number).reverse() };
}

function draw(element) {
  drawn.get(element)?.destroy();
  const data = JSON.parse(element.dataset.chart);
  const { stacked, order } = heights(data);
  const drawing = options(data, element.clientWidth);
  const [x, ...series] = drawing.series;
  drawing.series = [x, ...order.map((number) => series[number])];
  const plot = new uPlot(drawing, [data.days, ...order.map((number) => stacked[number])], element);
  plot.shown = element.dataset.chart;
  drawn.set(element, plot);
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const width = target.clientWidth;
    if (drawn.get(target)?.width !== width && width > 0) drawn.get(target)?.setSize({ width, height: HEIGHT_PX });
  }
});

function drawAll({ anew = false } = {}) {
  for (const [element, plot] of drawn) {
    if (element.isConnected) continue;
    plot.destroy();
    drawn.delete(element);
  }
  for (const element of document.querySelectorAll("[data-chart]")) {
    const plot = drawn.get(element);
    if (!anew && plot && plot.shown === element.dataset.chart && element.contains(plot.root)) continue;
    draw(element);
    sizes.observe(element);
  }
}

drawAll();
document.addEventListener("theme", () => drawAll({ anew: true }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll({ anew: true }));
matchMedia("print").addEventListener("change", () => drawAll({ anew: true }));
document.addEventListener("htmx:after:swap", () => drawAll());
