/** The HTTP server: Deno's, with deadlines for its connections. */
import { logger } from "../log.ts";

const log = logger("http");

/** How long connections may be open without a request, and how many. */
export interface ConnectionBounds {
  /** Milliseconds for the first request's head. */
  readonly headMs: number;
  /** Milliseconds between an answer's end and the head of the connection's next request. */
  readonly idleMs: number;
  /** Connections at a time: of those without a request the longest quiet gives way to a new one. */
  readonly most: number;
}

/** Longer than the 60 s after which load balancers drop a connection: who drops it first must not be the worker. */
export const CONNECTION_BOUNDS: ConnectionBounds = { headMs: 10_000, idleMs: 75_000, most: 1024 };

const ACCEPT_PAUSE_MS = 50;

/** What a handler may do with the connection that its request came by. */
export interface Reach {
  /** Breaks it off, whatever is on its way: a reader that has stopped keeps an answer from its end for ever. */
  readonly drop: () => void;
}

/** Answers a request. */
export type Handler = (request: Request, reach: Reach) => Response | Promise<Response>;

/** A server that listens. */
export interface HttpServer {
  readonly addr: Deno.NetAddr;
  /** Takes no more connections, and waits for the answers under way. */
  shutdown(): Promise<void>;
}

/** What Deno makes of a connection. */
interface ConnectionServer {
  readonly finished: Promise<void>;
  shutdown(): Promise<void>;
}

/**
 * Deno's own HTTP/1 and HTTP/2 on a connection that is handed to it, as `Deno.serve` does for those that it accepts. Deno
 * does not promise it, and has no other way to end a connection that sends its request's head for ever (nothing is
 * documented; `node:http` has deadlines, but adds 40 ms to the start and 0.15 ms to each request).
 */
type ServeConnection = (
  connection: Deno.Conn,
  signal: Pick<AbortSignal, "addEventListener">,
  handler: (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>,
  onError: (error: unknown) => Response | Promise<Response>,
  onListen: () => void,
) => ConnectionServer;

/** Null where this Deno has it no more. */
function serveConnection(): ServeConnection | null {
  const deno = Deno as unknown as { internal?: symbol } & Record<symbol, Record<string, unknown>>;
  const found = deno.internal && deno[deno.internal]?.["serveHttpOnConnection"];
  return typeof found === "function" ? found as ServeConnection : null;
}

/**
 * Listens, and answers requests until `shutdown`.
 *
 * @throws what `Deno.listen` does for an address that cannot be listened on
 */
export function serveHttp(
  address: { readonly port: number; readonly hostname: string },
  handler: Handler,
  bounds = CONNECTION_BOUNDS,
): HttpServer {
  const serve = serveConnection();
  if (serve === null) {
    log.warning("This version of Deno gives connections no deadlines: put a proxy with deadlines in front.");
    return Deno.serve({ ...address, onListen() {} }, (request) => handler(request, { drop() {} }));
  }
  const listener = Deno.listen(address);
  const connections = new Set<Connection>();
  const ended = accept(listener, (accepted) => {
    if (connections.size >= bounds.most) {
      const quiet = [...connections].find(({ busy }) => !busy);
      if (quiet === undefined) return accepted.close();
      connections.delete(quiet);
      void quiet.end();
    }
    const connection = new Connection(accepted, serve, handler, bounds, () => {
      // To the end of the order: the first without a request is the longest quiet one.
      if (connections.delete(connection)) connections.add(connection);
    });
    connections.add(connection);
    connection.finished.finally(() => connections.delete(connection));
  });
  return {
    addr: listener.addr as Deno.NetAddr,
    async shutdown() {
      listener.close();
      await ended;
      await Promise.all([...connections].map((connection) => connection.end()));
    },
  };
}

/** Hands connections on until the listener is closed. */
async function accept(listener: Deno.Listener, take: (connection: Deno.TcpConn) => void): Promise<void> {
  for (;;) {
    let connection;
    try {
      connection = await listener.accept() as Deno.TcpConn;
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return;
      // Out of file descriptors: others come when some are free again.
      log.warning("A connection could not be accepted: {error}", { error });
      await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE_MS));
      continue;
    }
    try {
      take(connection);
    } catch {
      connection.close(); // its client has gone already
    }
  }
}

/** A connection, which ends by itself where no request comes. */
class Connection {
  /** Whether a request is being answered. */
  busy = false;
  readonly finished: Promise<void>;
  readonly #server: ConnectionServer;
  #cancel: () => void = () => {};
  #requests = 0;
  #timer: ReturnType<typeof setTimeout>;

  constructor(
    connection: Deno.TcpConn,
    serve: ServeConnection,
    handler: Handler,
    { headMs, idleMs }: ConnectionBounds,
    onQuiet: () => void,
  ) {
    connection.setNoDelay(true);
    const end = () => void this.end();
    this.#timer = setTimeout(end, headMs);
    const answered = () => {
      if (--this.#requests > 0) return;
      this.busy = false;
      onQuiet();
      this.#timer = setTimeout(end, idleMs);
    };
    const reach: Reach = { drop: () => this.#drop() };
    this.#server = serve(
      connection,
      // No real signal: its listener throws where the connection has just ended by itself, which nobody could catch.
      { addEventListener: (_: string, cancel: unknown) => this.#cancel = cancel as () => void },
      (request, { completed }) => {
        clearTimeout(this.#timer);
        this.#requests++;
        this.busy = true;
        completed.then(answered, answered);
        return handler(request, reach);
      },
      (error) => {
        log.error("A request failed: {error}", { error });
        return new Response(null, { status: 500 });
      },
      () => {},
    );
    this.finished = this.#server.finished.catch(() => {}).finally(() => clearTimeout(this.#timer));
  }

  #drop(): void {
    try {
      this.#cancel();
    } catch {
      // It has ended by itself.
    }
  }

  /** Waits for the answers under way, takes no more requests, and ends it. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#server.shutdown().catch(() => {}); // it has ended by itself
  }
}
