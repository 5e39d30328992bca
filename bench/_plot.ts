/** A line chart with logarithmic axes as SVG, without dependencies. */
import type { Series } from "./_rows.ts";

const [WIDTH, HEIGHT] = [640, 400];
const MARGIN = { left: 70, right: 20, top: 34, bottom: 52 };
const COLOURS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad"];

/**
 * Draws a series: both axes logarithmic, ticks at powers of two along x and at 1, 2 and 5 times powers of ten along y.
 *
 * @throws {RangeError} where it has no point, or one that is not positive
 */
export function plot({ name, x, y, lines }: Series): string {
  const points = Object.values(lines).flat();
  if (points.length === 0 || points.some((point) => !point.every((value) => value > 0))) {
    throw new RangeError(`The plot ${name} needs positive points.`);
  }
  const across = axis(points.map(([x]) => x), MARGIN.left, WIDTH - MARGIN.right, 1.02);
  const up = axis(points.map(([, y]) => y), HEIGHT - MARGIN.bottom, MARGIN.top, 1.3);
  const [right, bottom] = [WIDTH - MARGIN.right, HEIGHT - MARGIN.bottom];
  const parts = [
    ...xTicks(points.map(([x]) => x)).map((value) =>
      `<path d="M${across(value)} ${MARGIN.top}V${bottom}" class="grid"/>` +
      text(across(value), bottom + 18, short(value), "middle")
    ),
    ...yTicks(points.map(([, y]) => y)).map((value) =>
      `<path d="M${MARGIN.left} ${up(value)}H${right}" class="grid"/>` +
      text(MARGIN.left - 8, up(value) + 4, short(value), "end")
    ),
    text((MARGIN.left + right) / 2, HEIGHT - 12, x, "middle"),
    text(MARGIN.left, 20, y, "start"),
    ...Object.entries(lines).flatMap(([label, line], i) => {
      const colour = COLOURS[i % COLOURS.length]!;
      const path = line.map(([x, y]) => `${across(x)} ${up(y)}`);
      return [
        `<path d="M${path.join("L")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...line.map(([x, y]) => `<circle cx="${across(x)}" cy="${up(y)}" r="3" fill="${colour}"/>`),
        `<text x="${right}" y="${20 + 14 * i}" text-anchor="end" fill="${colour}">${escape(label)}</text>`,
      ];
    }),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<title>${escape(`${y} by ${x}`)}</title>
<style>.grid { stroke: #ddd; fill: none }</style>
<rect width="100%" height="100%" fill="#fff"/>
${parts.join("\n")}
</svg>
`;
}

/** Places of values between two ends, logarithmically, with some room around the values. */
function axis(values: readonly number[], from: number, to: number, room: number): (value: number) => number {
  const [least, most] = [Math.log(Math.min(...values) / room), Math.log(Math.max(...values) * room)];
  return (value) => {
    const place = from + (to - from) * (Math.log(value) - least) / (most - least);
    return Math.round(10 * place) / 10;
  };
}

function xTicks(values: readonly number[]): number[] {
  return [...new Set(values)].toSorted((a, b) => a - b);
}

function yTicks(values: readonly number[]): number[] {
  const [least, most] = [Math.min(...values) / 1.3, Math.max(...values) * 1.3];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) {
    for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
  }
  return ticks.filter((tick) => tick >= least && tick <= most);
}

function text(x: number, y: number, content: string, anchor: string): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${escape(content)}</text>`;
}

/** 16384 as 16k, 5500000 as 5.5M */
function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(2))}M`;
  if (value >= 1024 && value % 1024 === 0) return `${value / 1024}k`;
  return String(Number(value.toPrecision(2)));
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
