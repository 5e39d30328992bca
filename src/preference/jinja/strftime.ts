import { chargeText } from "./budget.ts";

const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
const MONTHS = "January February March April May June July August September October November December".split(
  " ",
);
const DAY_MS = 86_400_000;

/** A directive's text, or a number with its width and what it is filled with. */
type Piece = string | { readonly number: number; readonly width: number; readonly fill?: " " };

/**
 * A date as text, as Python's `strftime` writes it on Linux in the C locale.
 *
 * @param date its UTC fields are written
 * @param format `%d %B %Y` and the like; `%-d` leaves zeros out, `%_d` writes spaces for them, `%^a` capitals
 */
export function strftime(date: Date, format: string): string {
  chargeText(format.length * 4);
  return format.replace(/%([-_0^#]?)(\d*)[EO]?([^])/gu, (whole, flag, widthText, directive) => {
    const piece = DIRECTIVES.get(directive)?.(date);
    if (piece === undefined) return whole;
    if (typeof piece === "string") {
      const text = flag === "^" ? piece.toUpperCase() : flag === "#" ? swapped(piece, directive) : piece;
      return padded(text, Number(widthText), flag === "0" ? "0" : " ");
    }
    const fill = flag === "_" ? " " : flag === "0" ? "0" : piece.fill ?? "0";
    const width = widthText === "" ? piece.width : Number(widthText);
    return flag === "-" ? String(piece.number) : padded(String(piece.number), width, fill);
  });
}

function padded(text: string, width: number, fill: string): string {
  chargeText(width);
  return text.padStart(width, fill);
}

function swapped(text: string, directive: string): string {
  return directive === "p" ? text.toLowerCase() : text.toUpperCase();
}

const two = (number: number): Piece => ({ number, width: 2 });
const spaced = (number: number): Piece => ({ number, width: 2, fill: " " });
const again = (format: string) => (date: Date): Piece => strftime(date, format);
const shortDay = (date: Date): Piece => DAYS[date.getUTCDay()]!.slice(0, 3);
const shortMonth = (date: Date): Piece => MONTHS[date.getUTCMonth()]!.slice(0, 3);

/** Hours from 1 to 12. */
const hour12 = (date: Date): number => date.getUTCHours() % 12 || 12;

/** From 0. */
function dayOfYear(date: Date): number {
  return Math.floor((date.getTime() - Date.UTC(date.getUTCFullYear(), 0, 1)) / DAY_MS);
}

/** The week of the year, the first of which begins with its first Sunday (0) or Monday (1). */
function weekOf(date: Date, firstDay: 0 | 1): Piece {
  return two(Math.floor((dayOfYear(date) + 7 - (date.getUTCDay() + 7 - firstDay) % 7) / 7));
}

const DIRECTIVES: ReadonlyMap<string, (date: Date) => Piece> = new Map<string, (date: Date) => Piece>([
  ["%", () => "%"],
  ["n", () => "\n"],
  ["t", () => "\t"],
  ["a", shortDay],
  ["A", (date) => DAYS[date.getUTCDay()]!],
  ["b", shortMonth],
  ["h", shortMonth],
  ["B", (date) => MONTHS[date.getUTCMonth()]!],
  ["c", again("%a %b %e %H:%M:%S %Y")],
  ["C", (date) => two(Math.floor(date.getUTCFullYear() / 100))],
  ["d", (date) => two(date.getUTCDate())],
  ["D", again("%m/%d/%y")],
  ["x", again("%m/%d/%y")],
  ["e", (date) => spaced(date.getUTCDate())],
  ["f", (date) => ({ number: date.getUTCMilliseconds() * 1000, width: 6 })],
  ["F", again("%Y-%m-%d")],
  ["g", (date) => two(isoWeek(date).year % 100)],
  ["G", (date) => ({ number: isoWeek(date).year, width: 4 })],
  ["H", (date) => two(date.getUTCHours())],
  ["I", (date) => two(hour12(date))],
  ["j", (date) => ({ number: dayOfYear(date) + 1, width: 3 })],
  ["k", (date) => spaced(date.getUTCHours())],
  ["l", (date) => spaced(hour12(date))],
  ["m", (date) => two(date.getUTCMonth() + 1)],
  ["M", (date) => two(date.getUTCMinutes())],
  ["p", (date) => date.getUTCHours() < 12 ? "AM" : "PM"],
  ["P", (date) => date.getUTCHours() < 12 ? "am" : "pm"],
  ["r", again("%I:%M:%S %p")],
  ["R", again("%H:%M")],
  ["s", (date) => ({ number: Math.floor(date.getTime() / 1000), width: 1 })],
  ["S", (date) => two(date.getUTCSeconds())],
  ["T", again("%H:%M:%S")],
  ["X", again("%H:%M:%S")],
  ["u", (date) => ({ number: date.getUTCDay() || 7, width: 1 })],
  ["U", (date) => weekOf(date, 0)],
  ["V", (date) => two(isoWeek(date).week)],
  ["w", (date) => ({ number: date.getUTCDay(), width: 1 })],
  ["W", (date) => weekOf(date, 1)],
  ["y", (date) => two(date.getUTCFullYear() % 100)],
  ["Y", (date) => ({ number: date.getUTCFullYear(), width: 1 })],
  ["z", () => ""],
  ["Z", () => ""],
]);

/** The week by ISO 8601: it belongs to the year of its Thursday. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getTime() + (4 - (date.getUTCDay() || 7)) * DAY_MS);
  const year = thursday.getUTCFullYear();
  return { year, week: 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) };
}
