/** The part of the Hugging Face hub's API that downloads need, on this machine. */
import { createHash } from "node:crypto";

/** What the hub holds and how it behaves; tests change it as they go. */
export interface FakeHub extends AsyncDisposable {
  readonly url: string;
  /** The second server that large files come from. */
  readonly fileHost: string;
  /** Requests in order: `GET /path`, with the range where one was asked for, and `auth` where a token came with it. */
  readonly requests: string[];
  /** Repository (`org/name` or `datasets/org/name`) to files by path. */
  readonly repositories: Map<string, Map<string, Uint8Array>>;
  /** Status of every answer about a repository. */
  readonly refusals: Map<string, number>;
  /** Token that must come with requests; null: none. */
  token: string | null;
  /** Breaks the connection after so many bytes of each file's answer. */
  breakAfter: number;
  /** Whether ranges are passed over, as some mirrors do. */
  ignoresRanges: boolean;
  /** Awaited before a file is sent. */
  beforeFile: (path: string) => Promise<void> | void;
}

export const commit = "0123456789abcdef0123456789abcdef01234567";

/** Files of more bytes than this are "large": they have a SHA-256 and come through a redirect to another host. */
const largeBytes = 1000;

/** Starts a hub. Large files are sent by a second server, as the hub sends them through another host. */
export function startFakeHub(): FakeHub {
  const requests: string[] = [];
  const note = (request: Request, prefix = "") => {
    const { pathname } = new URL(request.url);
    const range = request.headers.get("range");
    const auth = request.headers.has("authorization") ? " auth" : "";
    requests.push(`${prefix}${pathname}${range === null ? "" : ` ${range}`}${auth}`);
  };
  const listen = (handler: (request: Request) => Promise<Response> | Response) =>
    Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);

  const send = async (
    request: Request,
    path: string,
    content: Uint8Array<ArrayBuffer>,
  ): Promise<Response> => {
    await hub.beforeFile(path);
    const from = hub.ignoresRanges
      ? 0
      : Number(/^bytes=(\d+)-/.exec(request.headers.get("range") ?? "")?.[1] ?? 0);
    const wanted = content.subarray(from);
    const headers = new Headers({ etag: '"x"' });
    if (from > 0) headers.set("content-range", `bytes ${from}-${content.length - 1}/${content.length}`);
    const status = from > 0 ? 206 : 200;
    if (wanted.length <= hub.breakAfter) return new Response(wanted, { status, headers });
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(wanted.subarray(0, hub.breakAfter));
        // The bytes must have left before the connection breaks.
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.error(new Error("broken"));
      },
    });
    return new Response(body, { status, headers });
  };

  const large = listen((request) => {
    note(request, "cdn ");
    const path = decodeURIComponent(new URL(request.url).pathname).slice(1);
    const [repository, file] = path.split("//") as [string, string];
    return send(request, file, hub.repositories.get(repository)!.get(file)! as Uint8Array<ArrayBuffer>);
  });

  const server = listen((request) => {
    note(request);
    const { pathname } = new URL(request.url);
    const api = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(pathname);
    const file = /^\/((?:datasets\/)?[^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
    const repository = api !== null
      ? `${api[1] === "datasets" ? "datasets/" : ""}${api[2]}`
      : file?.[1] ?? "";
    const files = hub.repositories.get(repository);
    const refusal = hub.refusals.get(repository);
    if (hub.token !== null && request.headers.get("authorization") !== `Bearer ${hub.token}`) {
      return Response.json({ error: "Invalid username or password." }, { status: 401 });
    }
    if (refusal !== undefined) return Response.json({ error: "refused" }, { status: refusal });
    if (files === undefined) return Response.json({ error: "Repository not found" }, { status: 404 });
    if (api?.[3] === "revision") {
      if (!["main", "HEAD", "v1"].includes(decodeURIComponent(api[4]!))) {
        return Response.json({ error: "Invalid rev id" }, { status: 404 });
      }
      return Response.json({ _id: "1", id: repository, sha: commit });
    }
    if (api !== null) return list(request, files);
    const path = decodeURIComponent(file![3]!);
    const content = files.get(path) as Uint8Array<ArrayBuffer> | undefined;
    if (content === undefined) return new Response("Entry not found", { status: 404 });
    if (content.length <= largeBytes) return send(request, path, content);
    const location = `http://localhost:${large.addr.port}/${encodeURIComponent(`${repository}//${path}`)}`;
    return new Response(null, { status: 302, headers: { location } });
  });

  const hub: FakeHub = {
    url: `http://127.0.0.1:${server.addr.port}`,
    fileHost: `localhost:${large.addr.port}`,
    requests,
    repositories: new Map(),
    refusals: new Map(),
    token: null,
    breakAfter: Infinity,
    ignoresRanges: false,
    beforeFile: () => {},
    async [Symbol.asyncDispose]() {
      await Promise.all([server.shutdown(), large.shutdown()]);
    },
  };
  return hub;
}

/** A page of two files, so that every list has a second page. */
function list(request: Request, files: Map<string, Uint8Array>): Response {
  const url = new URL(request.url);
  const from = Number(url.searchParams.get("cursor") ?? 0);
  const entries = [...files].map(([path, content]) => ({
    type: "file",
    path,
    size: content.length,
    oid: gitHash(content),
    ...(content.length <= largeBytes
      ? {}
      : { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } }),
  }));
  const headers = new Headers();
  if (from + 2 < entries.length) {
    url.searchParams.set("cursor", String(from + 2));
    headers.set("link", `<${url}>; rel="next"`);
  }
  return Response.json(entries.slice(from, from + 2), { headers });
}

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function gitHash(content: Uint8Array): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

/** Content that no two places of share. */
export function bytes(count: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => (index * 31 + (index >> 8) * 7 + seed) & 0xff);
}
