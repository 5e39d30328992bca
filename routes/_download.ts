/** Downloads that go on where they broke off: ranges and their conditions, as RFC 9110 has them. */
import type { Context } from "hono";
import { InputError } from "../src/errors.ts";
import type { TarArchive } from "../src/model/tar.ts";
import { dropOf, patientStream } from "./_patient_stream.ts";
import { answerProblem } from "./problem.ts";

/**
 * Answers GET or HEAD with an archive, or with the part of it that the request asks for. Several ranges at once, and
 * those that are malformed, are passed over: the answer is the whole archive then. Status 412 where If-Match names another
 * version, 416 where the range is past the end.
 */
export function answerArchive(c: Context, archive: TarArchive, filename: string): Response {
  const { byteLength } = archive;
  const { headers: asked, method } = c.req.raw;
  const etag = `"${archive.version}"`;
  const tags = (header: string) => asked.get(header)?.split(",").map((tag) => tag.trim());
  const refuse = (header: string, message: string, accepted: string, status: 412 | 416) =>
    new InputError(message, { path: [header], value: asked.get(header), accepted, status });

  if (tags("if-match")?.every((tag) => tag !== "*" && tag !== etag)) {
    const message = `The archive is not the version ${asked.get("if-match")}: it has changed.`;
    return answerProblem(c, refuse("if-match", message, etag, 412), { etag });
  }
  const headers = {
    etag,
    "accept-ranges": "bytes",
    // A proxy that compresses it would take away its length and ranges.
    "cache-control": "private, no-cache, no-transform",
  };
  // compares weakly, unlike the others
  if (tags("if-none-match")?.some((tag) => tag === "*" || tag.replace(/^W\//, "") === etag)) {
    return new Response(null, { status: 304, headers });
  }
  const whole = method === "HEAD" || (asked.get("if-range") ?? etag) !== etag;
  const range = whole ? null : parseRange(asked.get("range") ?? "", byteLength);
  const [begin, end] = range ?? [0, byteLength];
  if (begin >= byteLength) {
    const message = `The archive has ${byteLength} bytes: ${asked.get("range")} is past its end.`;
    const error = refuse("range", message, `a range that begins at most at ${byteLength - 1}`, 416);
    return answerProblem(c, error, { ...headers, "content-range": `bytes */${byteLength}` });
  }
  return new Response(method === "HEAD" ? null : patientStream(archive.stream(begin, end), dropOf(c)), {
    status: range === null ? 200 : 206,
    headers: {
      ...headers,
      ...(range === null ? {} : { "content-range": `bytes ${begin}-${end - 1}/${byteLength}` }),
      "content-type": "application/x-tar",
      "content-length": `${end - begin}`,
      "content-disposition": `attachment; filename="${filename}"`,
    },
  });
}

/** The one range that a header asks for, its end exclusive; null where it asks for none, or several, or is malformed. */
function parseRange(header: string, size: number): [begin: number, end: number] | null {
  const [, first = "", last = ""] = /^bytes=(\d*)-(\d*)$/i.exec(header.trim()) ?? [];
  // the last bytes, as many as it says: of none the range begins at the end
  if (first === "") return last === "" ? null : [Math.max(size - Number(last), 0), size];
  if (last !== "" && Number(last) < Number(first)) return null;
  return [Number(first), last === "" ? size : Math.min(Number(last) + 1, size)];
}
