import { chargeText } from "./budget.ts";

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];
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
    const piece = pieceOf(date, directive);
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

function pieceOf(date: Date, directive: string): Piece | undefined {
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth();
  const day = date.getUTCDate();
  const weekday = date.getUTCDay();
  const hour = date.getUTCHours();
  const dayOfYear = Math.floor((date.getTime() - Date.UTC(year, 0, 1)) / DAY_MS);
  const two = (number: number): Piece => ({ number, width: 2 });
  switch (directive) {
    case "%":
      return "%";
    case "n":
      return "\n";
    case "t":
      return "\t";
    case "a":
      return DAYS[weekday]!.slice(0, 3);
    case "A":
      return DAYS[weekday]!;
    case "b":
    case "h":
      return MONTHS[month]!.slice(0, 3);
    case "B":
      return MONTHS[month]!;
    case "c":
      return strftime(date, "%a %b %e %H:%M:%S %Y");
    case "C":
      return two(Math.floor(year / 100));
    case "d":
      return two(day);
    case "D":
    case "x":
      return strftime(date, "%m/%d/%y");
    case "e":
      return { number: day, width: 2, fill: " " };
    case "f":
      return { number: date.getUTCMilliseconds() * 1000, width: 6 };
    case "F":
      return strftime(date, "%Y-%m-%d");
    case "g":
      return two(isoWeek(date).year % 100);
    case "G":
      return { number: isoWeek(date).year, width: 4 };
    case "H":
      return two(hour);
    case "I":
      return two(hour % 12 || 12);
    case "j":
      return { number: dayOfYear + 1, width: 3 };
    case "k":
      return { number: hour, width: 2, fill: " " };
    case "l":
      return { number: hour % 12 || 12, width: 2, fill: " " };
    case "m":
      return two(month + 1);
    case "M":
      return two(date.getUTCMinutes());
    case "p":
      return hour < 12 ? "AM" : "PM";
    case "P":
      return hour < 12 ? "am" : "pm";
    case "r":
      return strftime(date, "%I:%M:%S %p");
    case "R":
      return strftime(date, "%H:%M");
    case "s":
      return { number: Math.floor(date.getTime() / 1000), width: 1 };
    case "S":
      return two(date.getUTCSeconds());
    case "T":
    case "X":
      return strftime(date, "%H:%M:%S");
    case "u":
      return { number: weekday || 7, width: 1 };
    case "U":
      return two(Math.floor((dayOfYear + 7 - weekday) / 7));
    case "V":
      return two(isoWeek(date).week);
    case "w":
      return { number: weekday, width: 1 };
    case "W":
      return two(Math.floor((dayOfYear + 7 - (weekday + 6) % 7) / 7));
    case "y":
      return two(year % 100);
    case "Y":
      return { number: year, width: 1 };
    case "z":
    case "Z":
      return "";
  }
  return undefined;
}

/** The week by ISO 8601: it belongs to the year of its Thursday. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getTime() + (4 - (date.getUTCDay() || 7)) * DAY_MS);
  const year = thursday.getUTCFullYear();
  return { year, week: 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) };
}
