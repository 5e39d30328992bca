/** Who may ask: which names a request may be sent to, which pages it may come from, and the bearer token. */
import type { Context, MiddlewareHandler } from "hono";
import { timingSafeEqual } from "hono/utils/buffer";
import type { Config } from "../src/config.ts";
import { InputError } from "../src/errors.ts";
import { isLoopback } from "../src/loopback.ts";

/** Hosts' probes send neither a token nor a name that is known here, and learn nothing but the state. */
export const PROBES: ReadonlySet<string> = new Set(["/livez", "/readyz", "/ping"]);

const READING: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

type AccessConfig = Pick<Config, "host" | "allowedHosts" | "tokens">;

/**
 * Refuses what a web page of someone else's can make a browser send. A page whose own name leads to this machine (DNS
 * rebinding) sends its name as Host; a page of another origin sends that as Origin, and without asking first only bodies
 * that are no JSON. Who knows the token is none of them, so it stands for the checks, but that SIMPO_ALLOWED_HOSTS, where
 * it is set, holds for all.
 */
export function onlyOurPages(config: AccessConfig): MiddlewareHandler {
  const { host, allowedHosts } = config;
  // Addresses cannot be rebound. Where the worker listens for other machines it does not know which of them is its own.
  const open = !isLoopback(host);
  const isOurs = (url: URL) =>
    isLoopback(url.hostname) || isNamed(url, allowedHosts) ||
    open && (isAddress(url.hostname) || bare(url.hostname) === bare(host));
  return async (c, next) => {
    if (PROBES.has(c.req.path)) return await next();
    const trusted = await carriesToken(c, config.tokens);
    if (!trusted || allowedHosts.length > 0) {
      const given = c.req.header("host") ?? new URL(c.req.url).host;
      const url = originUrl(`http://${given}`);
      if (url === null || !isOurs(url)) refuseHost(given);
      const origin = c.req.header("origin");
      if (origin !== undefined) {
        const from = originUrl(origin);
        const same = from !== null && url !== null && isSameHost(from, url);
        if (!same && !(from !== null && isNamed(from, allowedHosts))) refuseOrigin(origin);
      }
    }
    if (!trusted && !READING.has(c.req.method)) checkType(c);
    await next();
  };
}

/** Lets requests through that carry one of the tokens. */
export function bearerToken(tokens: readonly string[]): MiddlewareHandler {
  return async (c, next) => {
    if (!await carriesToken(c, tokens)) {
      throw new InputError("Authorization must carry the worker's bearer token.", {
        path: ["Authorization"],
        accepted: "Bearer TOKEN, with a token of the worker's SIMPO_TOKEN or SIMPO_TOKEN_FILE",
        status: 401,
      });
    }
    await next();
  };
}

async function carriesToken(c: Context, tokens: readonly string[]): Promise<boolean> {
  const given = tokens.length === 0 ? undefined : c.req.header("authorization");
  const token = /^Bearer +(\S+)$/i.exec(given ?? "")?.[1];
  if (token === undefined) return false;
  // All are looked at, so that the time does not tell which one was nearly right.
  const equal = await Promise.all(tokens.map((each) => timingSafeEqual(token, each)));
  return equal.includes(true);
}

/** The URL of a scheme, host and port; null where a text is more or less than that (`null` as browsers send it too). */
function originUrl(text: string): URL | null {
  const url = URL.parse(text);
  const plain = url !== null && /^https?:$/.test(url.protocol) && /^https?:\/\/[^/?#@\s\\%]+$/i.test(text);
  return plain ? url : null;
}

/** Whether a list names a URL's host: exactly, or from `*.` on; with a port, that port alone. */
function isNamed({ hostname, host, port, protocol }: URL, names: readonly string[]): boolean {
  const withPort = port === "" ? `${host}:${protocol === "https:" ? 443 : 80}` : host;
  return names.some((name) => {
    const own = /:\d+$/.test(name) ? withPort : hostname;
    return name.startsWith("*.") ? own.endsWith(name.slice(1)) : bare(own) === bare(name);
  });
}

/** Whether a page comes from where the request goes to. Behind a proxy that ends TLS only the origin knows of https. */
function isSameHost(origin: URL, host: URL): boolean {
  const samePort = origin.port === host.port || origin.protocol === "https:" && host.port === "443";
  if (!samePort) return false;
  return origin.hostname === host.hostname || isLoopback(origin.hostname) && isLoopback(host.hostname);
}

function isAddress(hostname: string): boolean {
  return hostname.startsWith("[") || /^\d+(\.\d+){3}$/.test(hostname);
}

function bare(host: string): string {
  return host.toLowerCase().replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
}

function refuseHost(value: string): never {
  throw new InputError(
    (field) => `${field} ${JSON.stringify(value)} is no name of this worker: name it in SIMPO_ALLOWED_HOSTS.`,
    {
      path: ["Host"],
      value,
      accepted: "localhost, 127.0.0.1, or a name in SIMPO_ALLOWED_HOSTS",
      status: 421,
    },
  );
}

function refuseOrigin(value: string): never {
  throw new InputError(
    (field) =>
      `${field} ${JSON.stringify(value)} may not ask this worker: name its host in SIMPO_ALLOWED_HOSTS.`,
    {
      path: ["Origin"],
      value,
      accepted: "no Origin, the worker's own, or one whose host SIMPO_ALLOWED_HOSTS names",
      status: 403,
    },
  );
}

/** A page can send a form or plain text anywhere without being asked; nothing but JSON, or no body, changes anything. */
function checkType(c: Context): void {
  const type = c.req.header("content-type");
  if (type === undefined ? !hasBody(c) : /^application\/([\w.-]+\+)?json *(;|$)/i.test(type)) return;
  throw new InputError("Content-Type must be application/json.", {
    path: ["Content-Type"],
    value: type,
    accepted: "application/json",
    status: 415,
  });
}

/** By its headers: a server's request has a stream whether something comes or not. */
function hasBody(c: Context): boolean {
  return c.req.header("transfer-encoding") !== undefined || Number(c.req.header("content-length") ?? 0) > 0;
}
