/** Curves over training steps as one SVG picture: panels side by side, no script, no font of its own. */

/** One line of a panel: values over optimiser steps, in the order of the steps. */
export interface Series {
  readonly label: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

/** One set of axes. The series of a label share a colour over all panels. */
export interface Panel {
  readonly title: string;
  readonly series: readonly Series[];
  /** Ends of the y axis; left out, they follow the values. */
  readonly range?: readonly [low: number, high: number];
}

/** Blue and vermilion: apart for colour-blind eyes too; the dash and the markers tell them apart in print. */
const STYLES = [
  { colour: "#0072b2", dash: "", marker: false },
  { colour: "#d55e00", dash: "6 4", marker: true },
] as const;
const PANEL = { width: 300, height: 200, left: 52, top: 64, gap: 74, bottom: 48 } as const;

/**
 * Draws the panels side by side under a legend of the series' labels. Values that are not finite are left out.
 *
 * @param panels at least one
 * @returns a whole SVG document
 */
export function drawCurves(panels: readonly Panel[]): string {
  const labels = [...new Set(panels.flatMap((panel) => panel.series.map((series) => series.label)))];
  const width = PANEL.left + panels.length * (PANEL.width + PANEL.gap) - PANEL.gap + 24;
  const height = PANEL.top + PANEL.height + PANEL.bottom;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="system-ui, sans-serif" font-size="12" fill="#333">`,
    `<title>${escapeXml(panels.map((panel) => panel.title).join(", "))} over optimiser steps</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...drawLegend(labels),
    ...panels.flatMap((panel, index) => [
      `<g transform="translate(${PANEL.left + index * (PANEL.width + PANEL.gap)} ${PANEL.top})">`,
      ...drawPanel(panel, labels),
      `</g>`,
    ]),
    `</svg>`,
    ``,
  ].join("\n");
}

/**
 * About `count` round numbers (1, 2 or 5 times a power of ten apart) whose first and last enclose low and high.
 *
 * @param low a finite number
 * @param high a finite number, at least low
 */
export function niceTicks(low: number, high: number, count = 5): number[] {
  if (low === high) return niceTicks(low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2, count);
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((leading) => leading * power).find((step) => step >= rough * 0.999)!;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  // Through the decimal text, so that 3 * 0.1 is 0.3.
  return Array.from(
    { length: last - first + 1 },
    (_, index) => Number(((first + index) * step).toPrecision(12)),
  );
}

function drawLegend(labels: readonly string[]): string[] {
  return labels.flatMap((label, index) => {
    const x = PANEL.left + index * 120;
    const { colour } = styleOf(index);
    return [
      drawLine([[x, 22], [x + 28, 22]], index),
      ...(styleOf(index).marker ? [`<circle cx="${x + 14}" cy="22" r="3" fill="${colour}"/>`] : []),
      `<text x="${x + 36}" y="26">${escapeXml(label)}</text>`,
    ];
  });
}

function drawPanel(panel: Panel, labels: readonly string[]): string[] {
  const { width, height } = PANEL;
  const series = panel.series.map(({ label, points }) => ({
    label,
    points: points.filter(([, value]) => Number.isFinite(value)),
  }));
  const points = series.flatMap((series) => series.points);
  const steps = points.map(([step]) => step);
  const values = points.map(([, value]) => value);
  const xTicks = niceTicks(0, Math.max(1, ...steps), 4);
  const [low, high] = panel.range ??
    (values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)]);
  const yTicks = niceTicks(low, high);
  const xEnd = xTicks.at(-1)!;
  const [yStart, yEnd] = [yTicks[0]!, yTicks.at(-1)!];
  const x = (step: number) => round(step / xEnd * width);
  const y = (value: number) => round(height - (value - yStart) / (yEnd - yStart) * height);
  return [
    `<text x="0" y="-12" font-size="14" font-weight="600">${escapeXml(panel.title)}</text>`,
    ...yTicks.map((tick) => `<path d="M0 ${y(tick)}H${width}" stroke="#e3e3e3"/>`),
    ...yTicks.map((tick) => `<text x="-8" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`),
    ...xTicks.map((tick) => `<path d="M${x(tick)} ${height}v5" stroke="#777"/>`),
    ...xTicks.map((tick) => `<text x="${x(tick)}" y="${height + 19}" text-anchor="middle">${tick}</text>`),
    `<path d="M0 0V${height}H${width}" fill="none" stroke="#777"/>`,
    `<text x="${width / 2}" y="${height + 38}" text-anchor="middle">optimiser step</text>`,
    ...series.flatMap(({ label, points }) => {
      const index = labels.indexOf(label);
      const places = points.map(([step, value]) => [x(step), y(value)] as const);
      const { colour, marker } = styleOf(index);
      // A single point has no line to be seen by.
      const markers = marker || places.length === 1 ? places : [];
      return [
        ...(places.length > 1 ? [drawLine(places, index)] : []),
        ...markers.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`),
      ];
    }),
  ];
}

function drawLine(places: readonly (readonly [number, number])[], index: number): string {
  const { colour, dash } = styleOf(index);
  const dashes = dash === "" ? "" : ` stroke-dasharray="${dash}"`;
  const coordinates = places.map((place) => place.join(",")).join(" ");
  return `<polyline points="${coordinates}" fill="none" stroke="${colour}" stroke-width="1.8" ` +
    `stroke-linejoin="round"${dashes}/>`;
}

function styleOf(index: number): typeof STYLES[number] {
  return STYLES[index % STYLES.length]!;
}

/** A tenth of a pixel is enough. */
function round(coordinate: number): number {
  return Math.round(coordinate * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(
    '"',
    "&quot;",
  );
}
